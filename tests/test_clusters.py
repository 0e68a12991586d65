"""Comparisons on Ray and by submitit, on one machine: the bits of the local run, whatever is lost on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMPARE = [sys.executable, str(ROOT / "scripts" / "compare.py")]
SMALL = [
    "ppo", "--env", "CartPole-v1", "--ent-coef", "0", "0.1", "--seeds", "2", "--preset", "none", "--workers", "2",
    "--no-progress", "--n-envs", "8", "--n-steps", "64", "--batch-size", "256", "--n-epochs", "2",
    "--checkpoint-every", "1", "--total-timesteps",
]  # fmt: skip
KEPT = ("policy.safetensors", "exploration.npz")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]


def start(*arguments):
    return subprocess.Popen([*COMPARE, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process, *, code=0):
    out, err = process.communicate(timeout=400)
    assert process.returncode == code, err
    return out, err


def contents(out):
    """What must have the same bits, however it was trained: parameters, counts, and the record without its clock."""
    found = {path.relative_to(out): path.read_bytes() for path in out.glob("cells/*/*") if path.name in KEPT}
    for path in out.glob("cells/*/metrics.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        found[path.relative_to(out)] = [
            {name: value for name, value in row.items() if not name.startswith("time/")} for row in rows
        ]
    return found


def until(true, *, seconds=120):
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.05)


def checkpoints(out):
    return [*out.glob("checkpoints/*/[0-9]*/manifest.json")]


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The same comparison, trained by processes of this machine: short, and of some seconds."""

    def train(steps):
        out = tmp_path_factory.mktemp("local") / str(steps)
        ended(start(*SMALL, steps, "--out", out))
        return contents(out)

    made = {}
    return lambda steps: made.setdefault(steps, None) or made.update({steps: train(steps)}) or made[steps]


SHORT, LONG = 2048, 40_960


@pytest.mark.parametrize("files", ["shared", "sent"])
def test_ray_gives_the_bits_of_the_local_run(local, tmp_path, files):
    pytest.importorskip("ray")
    ended(start(*SMALL, SHORT, "--engine", "ray", "--engine-option", f"files={files}", "--out", tmp_path / "out"))
    assert contents(tmp_path / "out") == local(SHORT)
    assert not [path for path in (tmp_path / "out").iterdir() if path.name in ("checkpoints", ".seen-by-engine")]


@pytest.mark.parametrize("cluster", ["local", "debug"])
def test_submitit_gives_the_bits_of_the_local_run(local, tmp_path, cluster):
    pytest.importorskip("submitit")
    out = tmp_path / "out"
    ended(start(*SMALL, SHORT, "--engine", "submitit", "--engine-option", f"cluster={cluster}", "--out", out))
    assert contents(out) == local(SHORT)
    assert not (out / "engine").exists()


@pytest.fixture
def two_nodes():
    """A Ray cluster of two nodes with a core each, beside a head that trains nothing: its address, and the nodes."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1, include_dashboard=False) for _ in range(2)]
    yield cluster, nodes
    cluster.shutdown()


@pytest.mark.filterwarnings("ignore")  # of Ray's own processes, which it does not wait for
@pytest.mark.parametrize("files", ["shared", "sent"])
def test_node_that_is_killed_loses_nothing(local, two_nodes, tmp_path, files):
    cluster, nodes = two_nodes
    out = tmp_path / "out"
    option = ["--engine-option", f"address={cluster.address}", f"files={files}"]
    training = start(*SMALL, LONG, "--engine", "ray", *option, "--out", out)
    until(lambda: len({path.parents[1] for path in checkpoints(out)}) == 2)
    cluster.remove_node(nodes[0], allow_graceful=False)
    _, err = ended(training)
    assert "runs were lost (its node or its process was lost" in err
    assert contents(out) == local(LONG)


ENGINES = {"ray": [], "submitit": ["--engine-option", "cluster=local"]}


@pytest.mark.parametrize("engine", ENGINES)
def test_interrupted_comparison_stops_its_jobs_and_goes_on(local, tmp_path, engine):
    pytest.importorskip(engine)
    out, means = tmp_path / "out", ["--engine", engine, *ENGINES[engine]]
    training = start(*SMALL, LONG, *means, "--out", out)
    until(lambda: checkpoints(out))
    training.send_signal(signal.SIGINT)
    _, err = ended(training, code=75)
    assert "what finished is kept; go on with: resume" in err
    time.sleep(1.0)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    time.sleep(2.0)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert checkpoints(out)
    ended(start("resume", out, "--workers", 2, "--no-progress", *means))
    assert contents(out) == local(LONG)


@pytest.mark.parametrize("engine", ENGINES)
def test_jobs_of_a_killed_driver_stop_and_another_goes_on(local, tmp_path, engine):
    pytest.importorskip(engine)
    out, means = tmp_path / "out", ["--engine", engine, *ENGINES[engine]]
    training = start(*SMALL, LONG, *means, "--out", out)
    until(lambda: checkpoints(out))
    os.kill(training.pid, signal.SIGKILL)
    training.communicate()
    ended(start("resume", out, "--workers", 2, "--no-progress", *means))
    assert contents(out) == local(LONG)


def test_node_that_does_not_see_the_directory_is_told_in_one_line(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "")
    from entropic_rl.compare import on_ray

    said = []

    class Wire:
        def __init__(self, *_):
            pass

        def say(self, event):
            said.append(event)

    monkeypatch.setattr(on_ray, "_Wire", Wire)
    token = {"path": str(tmp_path / "nothing"), "text": "word"}
    on_ray._run_order({"number": 0, "attempt": 0, "out": "/there"}, None, token, "shared")
    assert said[0]["ended"]["users"]
    assert "does not see /there: expected a folder that all nodes share" in said[0]["ended"]["error"]
