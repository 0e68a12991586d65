"""Jobs past one machine: orders, parcels and lost machines, with clusters that a few lines stand for."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from entropic_rl.agents.config import PPOConfig
from entropic_rl.cell import Cell
from entropic_rl.compare import remote, station
from entropic_rl.compare.engines import ENGINES, opened, read_options
from entropic_rl.compare.jobs import Job
from entropic_rl.compare.on_ray import RayEngine, _slots
from entropic_rl.compare.on_slurm import SubmititEngine, _await_former, _File, _parameters
from entropic_rl.compare.parcels import Sender, folders_of, put_down
from entropic_rl.compare.pool import Ended
from entropic_rl.compare.remote import run_remotely
from entropic_rl.compare.station import sees, work
from entropic_rl.config import RunConfig
from entropic_rl.errors import ConfigError, RunDirectoryError

OUT = Path("out")


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    OUT.mkdir()


def job(name, **run):
    cell = Cell("ppo", RunConfig(env="x", **run), PPOConfig(), OUT / "cells" / name)
    return Job((cell,), memory=1, checkpoints=OUT / "checkpoints" / name)


# Options


def test_options_have_the_types_of_their_defaults():
    options = read_options("ray", ["cpus=4", "gpus=0.5", "files=sent"])
    assert options == {"address": "", "cpus": 4, "gpus": 0.5, "files": "sent", "retries": 3}
    assert read_options("local", []) == {}


@pytest.mark.parametrize(
    ("engine", "words", "complaint"),
    [
        ("rai", [], r"--engine: expected one of local, ray, submitit, got 'rai'; did you mean 'ray'\?"),
        ("ray", ["cpus"], r"expected KEY=VALUE, got 'cpus'"),
        ("ray", ["partition=x"], r"of ray: expected one of address, cpus, gpus, files, retries, got 'partition'"),
        ("local", ["cpus=2"], r"of local: expected one of none; they are for --engine ray"),
        ("ray", ["cpus=2", "cpus=3"], r"cpus: expected one value, got several"),
        ("ray", ["cpus=0"], r"cpus: expected a whole number of at least 1, got 0"),
        ("ray", ["cpus=1.5"], r"cpus: expected a whole number, got '1.5'"),
        ("ray", ["gpus=nan"], r"gpus: expected a number of at least 0, got nan"),
        ("ray", ["files=sometimes"], r"files: expected one of auto, shared, sent, got 'sometimes'"),
        ("submitit", ["minutes="], r"minutes: expected a whole number, got ''"),
    ],
)
def test_wrong_options_are_told_in_one_line(engine, words, complaint):
    with pytest.raises(ConfigError, match=complaint) as told:
        read_options(engine, words)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("engine", "package"), [("ray", "Ray"), ("submitit", "submitit")])
def test_missing_package_is_told_with_what_brings_it(monkeypatch, engine, package):
    monkeypatch.setitem(sys.modules, engine, None)
    complaint = (
        f'--engine {engine} needs {package}, which is not installed; run: pip install "entropic-rl\\[cluster\\]"'
    )
    error = ModuleNotFoundError(f"No module named {engine!r}", name=engine)
    monkeypatch.setattr("builtins.__import__", _failing(engine, error))
    with pytest.raises(ConfigError, match=complaint), opened(engine, read_options(engine, []), OUT):
        pass


def _failing(name, error, original=__import__):
    def failing(wanted, *rest):
        if wanted == name:
            raise error
        return original(wanted, *rest)

    return failing


def test_cluster_that_does_not_answer_is_told_at_once():
    pytest.importorskip("ray")
    options = read_options("ray", ["address=127.0.0.1:9"])
    with (
        pytest.raises(ConfigError, match=r"expected a Ray cluster at 127.0.0.1:9, got: .*refused"),
        RayEngine.opened(options, OUT),
    ):
        pass


def test_every_option_is_documented_in_scaling():
    page = (Path(__file__).parents[1] / "docs" / "scaling.md").read_text()
    missing = [f"{engine} {key}" for engine, keys in ENGINES.items() for key in keys if f"`{key}`" not in page]
    assert missing == []


# What fits where


def test_jobs_of_a_node_are_limited_by_cores_and_gpus():
    node = {"CPU": 8.0, "GPU": 2.0, "memory": 100.0}
    assert _slots(node, {"cpus": 3, "gpus": 0}) == (2, 80.0)
    assert _slots(node, {"cpus": 1, "gpus": 0.5}) == (4, 80.0)
    assert _slots({"memory": 1.0}, {"cpus": 1, "gpus": 0}) == (0, 0.8)


def test_slurm_has_to_be_told_how_many_jobs():
    engine = SubmititEngine(None, read_options("submitit", []), OUT)
    with pytest.raises(ConfigError, match="--workers is missing"):
        engine.capacity(None)
    assert engine.capacity(7) == (7, 2**62)
    limited = SubmititEngine(None, read_options("submitit", ["mem_gb=10"]), OUT)
    assert limited.capacity(2) == (2, 2 * int(0.8 * 10 * 2**30))


def test_options_of_slurm_reach_submitit_by_its_names():
    options = read_options("submitit", ["partition=fast", "minutes=30", "cpus=2", "gpus=1", "mem_gb=4"])
    assert _parameters(options, 5) == {
        "name": "entropic-rl", "timeout_min": 30, "cpus_per_task": 2, "gpus_per_node": 1, "nodes": 1,
        "tasks_per_node": 1, "mem_gb": 4, "slurm_partition": "fast", "slurm_array_parallelism": 5,
    }  # fmt: skip


# Parcels


@pytest.fixture
def packed():
    own = job("a")
    for name, text in {
        "cells/a/metrics.jsonl": "row\n",
        "checkpoints/a/000001/manifest.json": "{}",
        "checkpoints/a/000001/tree.json": "tree",
        "checkpoints/a/000002.tmp/tree.json": "half",
        "cells/b/metrics.jsonl": "of another",
    }.items():
        (OUT / name).parent.mkdir(parents=True, exist_ok=True)
        (OUT / name).write_text(text)
    folders = folders_of(own, OUT)
    return Sender(OUT, folders), folders


def test_parcel_holds_what_belongs_to_the_job_and_is_whole(packed):
    sender, _ = packed
    assert sender.parcel() == {
        "checkpoints/a/000001/manifest.json": b"{}",
        "checkpoints/a/000001/tree.json": b"tree",
        "cells/a/metrics.jsonl": b"row\n",
    }
    assert sender.newest_checkpoint() == "000001"


def test_parcel_holds_only_what_is_new(packed):
    sender, _ = packed
    sender.parcel()
    with (OUT / "cells/a/metrics.jsonl").open("a") as file:
        file.write("another\n")
    assert sender.parcel() == {"cells/a/metrics.jsonl": b"row\nanother\n"}
    assert sender.parcel() == {}


def test_checkpoints_that_are_no_longer_kept_go(packed, tmp_path):
    _, folders = packed
    for step in (1, 2, 3, 12):
        put_down(
            {f"checkpoints/a/{step:06}/{name}": b"{}" for name in ("manifest.json", "tree.json")}, tmp_path, folders
        )
    assert sorted(path.name for path in (tmp_path / "checkpoints/a").iterdir()) == ["000003", "000012"]


def test_parcel_is_put_down_with_the_manifest_last(packed, monkeypatch, tmp_path):
    sender, folders = packed
    order = []
    replaced = remote.put_down.__globals__["os"].replace
    monkeypatch.setattr("entropic_rl.compare.parcels.os.replace", lambda a, b: (order.append(b.name), replaced(a, b)))
    put_down(sender.parcel(), tmp_path / "there", folders)
    assert order == ["metrics.jsonl", "tree.json", "manifest.json"]
    assert (tmp_path / "there/cells/a/metrics.jsonl").read_text() == "row\n"


@pytest.mark.parametrize(
    "name", ["/etc/x", "../x", "cells/a/../../x", "cells/b/x", "cells/ab", "plan.json", "cells/a//x"]
)
def test_parcel_that_leads_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(RunDirectoryError, match="a worker sent a file"):
        put_down({"cells/a/good": b"", name: b"x"}, tmp_path / "there", ["checkpoints/a", "cells/a"])
    assert not (tmp_path / "there").exists()


# The driver


class Fake:
    """A cluster on which jobs do, attempt by attempt, what a list says."""

    sends_files = False

    def __init__(self, fates):
        self.fates, self.orders, self.said, self.stopped = fates, [], [], False
        self.at_work = self.most = 0

    def submit(self, orders):
        self.orders += orders
        self.at_work += len(orders)
        self.most = max(self.most, self.at_work)
        for order in orders:
            for event in self.fates[order.number][order.attempt]:
                self.said.append((order.number, order.attempt, event))

    def poll(self):
        said, self.said = self.said, []
        self.at_work -= sum("ended" in event or "lost" in event for *_, event in said)
        return said

    def stop(self):
        self.stopped = True
        self.said = [(order.number, order.attempt, {"ended": None}) for order in self.orders]


FINE = [{"rows": [{"global_step": 1.0}]}, {"note": "finished"}, {"ended": {"error": None, "users": False, "peak": 7}}]
LOST = [{"lost": "its node was lost"}]


def run(cluster, jobs, *, width=2, retries=2, tell=lambda job, event: None):
    return run_remotely(cluster, jobs, out=OUT, width=width, retries=retries, job_type="test", tell=tell)


def test_jobs_are_handed_out_and_their_ends_are_in_order():
    told = []
    refused = [{"ended": {"error": "no such thing", "users": True, "peak": None}}]
    cluster = Fake([[FINE], [refused], [FINE]])
    ends = run(cluster, [job("a"), job("b"), job("c")], tell=lambda job, event: told.append(event))
    assert ends == [Ended(peak=7), Ended("no such thing", users=True), Ended(peak=7)]
    assert cluster.most == 2
    assert told == [*FINE[:2], *FINE[:2]]


def test_order_has_absolute_places_and_goes_on_where_there_is_a_checkpoint(tmp_path):
    cluster = Fake([[FINE], [FINE]])
    run(cluster, [job("a"), replace(job("b"), checkpoints=None)])
    first, second = (order.job for order in cluster.orders)
    assert first["cells"][0]["directory"] == str(tmp_path / "out/cells/a")
    assert (first["checkpoints"], first["resume"]) == (str(tmp_path / "out/checkpoints/a"), True)
    assert (second["checkpoints"], second["resume"]) == (None, False)


def test_lost_job_is_tried_again_and_said(capsys):
    cluster = Fake([[LOST, LOST, FINE], [FINE]])
    assert run(cluster, [job("a"), job("b")]) == [Ended(peak=7)] * 2
    assert [(order.number, order.attempt) for order in cluster.orders] == [(0, 0), (1, 0), (0, 1), (0, 2)]
    assert capsys.readouterr().err == "1 runs were lost (its node was lost); they go on elsewhere\n" * 2


def test_job_that_is_lost_again_and_again_is_given_up():
    [end] = run(Fake([[LOST] * 3]), [job("a")])
    assert end == Ended("its node was lost; it was tried 3 times, resume goes on with it")


def test_what_a_lost_attempt_still_says_is_not_heard():
    late = [(0, 0, {"ended": {"error": "late", "users": False, "peak": None}})]
    cluster = Fake([[LOST, []]])
    submit = cluster.submit

    def then(orders):
        submit(orders)
        if orders[0].attempt == 1:
            cluster.said += [*late, *((0, 1, event) for event in FINE)]

    cluster.submit = then
    assert run(cluster, [job("a")]) == [Ended(peak=7)]


def test_files_and_warnings_arrive(capsys):
    events = [{"warnings": ["careful"]}, {"files": {"cells/a/metrics.jsonl": b"row"}}, *FINE]
    run(Fake([[events]]), [job("a")])
    assert (OUT / "cells/a/metrics.jsonl").read_bytes() == b"row"
    assert capsys.readouterr().err == "careful\n"


def test_interrupt_asks_all_to_stop_and_takes_what_they_leave():
    def interrupt(job, event):
        raise KeyboardInterrupt

    cluster = Fake([[FINE[:1]], [[]]])
    with pytest.raises(KeyboardInterrupt):
        run(cluster, [job("a"), job("b")], tell=interrupt)
    assert cluster.stopped
    assert cluster.said == []


def test_machines_that_do_not_stop_are_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(remote, "_PATIENCE_S", 0.05)
    cluster = Fake([[FINE[:1]]])
    cluster.stop = lambda: None

    def interrupt(job, event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(cluster, [job("a")], tell=interrupt)


# The station

WORKER = """
import json, os, pathlib, signal, sys, time

signal.signal(signal.SIGTERM, signal.SIG_DFL)
told = json.load(sys.stdin)
place = pathlib.Path(told["cells"][0]["directory"])
checkpoints = pathlib.Path(told["checkpoints"])
found = sorted(path.name for path in checkpoints.glob("*/manifest.json"))
place.mkdir(parents=True, exist_ok=True)
(place / "metrics.jsonl").write_text(json.dumps([str(place), told["resume"], len(found)]))
print("careful", file=sys.stderr)
print(json.dumps({"rows": [{"global_step": 8.0}]}), flush=True)
if place.name == "slow":
    (checkpoints / "000002.tmp").mkdir(parents=True)
    (checkpoints / "000002.tmp/manifest.json").write_text("{}")
    (checkpoints / "000002.tmp").rename(checkpoints / "000002")
    time.sleep(60)
print(json.dumps({"peak": 7}), flush=True)
"""


class Wire:
    def __init__(self, stop_at=None):
        self.events, self._stop_at = [], stop_at

    def say(self, event):
        self.events.append(event)

    def asked_to_stop(self):
        return self._stop_at is not None and any(self._stop_at in event for event in self.events)


def order_of(own, **changed):
    cluster = Fake([[FINE]])
    cluster.sends_files = True
    run(cluster, [own])
    return cluster.orders[0].to_json() | changed


def test_station_trains_in_place_where_the_directory_is_seen(stand_in):
    stand_in(WORKER, "-I", "-S")
    wire = Wire()
    work(order_of(job("a")), wire, is_shared=True)
    assert wire.events == [
        {"rows": [{"global_step": 8.0}]},
        {"note": "finished"},
        {"warnings": ["careful"]},
        {"ended": {"error": None, "users": False, "peak": 7}},
    ]
    assert json.loads((OUT / "cells/a/metrics.jsonl").read_text()) == [str((OUT / "cells/a").absolute()), True, 0]


def test_station_that_does_not_see_it_gets_and_sends_files(stand_in):
    stand_in(WORKER, "-I", "-S")
    (OUT / "checkpoints/a/000001").mkdir(parents=True)
    (OUT / "checkpoints/a/000001/manifest.json").write_text("{}")
    wire = Wire()
    work(order_of(job("a")), wire, is_shared=False)
    *_, files, end = wire.events
    assert end == {"ended": {"error": None, "users": False, "peak": 7}}
    [(name, content)] = files["files"].items()  # and no checkpoint that was sent to it
    place, resume, n_checkpoints = json.loads(content)
    assert (name, resume, n_checkpoints) == ("cells/a/metrics.jsonl", True, 1)
    assert not Path(place).exists()
    assert not (OUT / "cells").exists()


def test_station_sends_a_checkpoint_as_soon_as_there_is_one_and_stops_when_asked(stand_in, monkeypatch):
    monkeypatch.setattr(station, "_LOOK_S", 0.0)
    monkeypatch.setattr("entropic_rl.compare.pool._BEAT_S", 0.01)
    processes = stand_in(WORKER, "-I", "-S")
    wire = Wire(stop_at="files")
    work(order_of(job("slow")), wire, is_shared=False)
    kinds = [next(iter(event)) for event in wire.events]
    assert kinds == ["rows", "files", "ended"]
    assert "checkpoints/slow/000002/manifest.json" in wire.events[1]["files"]
    assert wire.events[-1] == {"ended": None}
    assert processes[0].returncode == -15


def test_token_is_seen_where_it_is_the_same(tmp_path):
    (tmp_path / "token").write_text("word")
    assert sees(str(tmp_path / "token"), "word")
    assert not sees(str(tmp_path / "token"), "another")
    assert not sees(str(tmp_path / "nothing"), "word")


# Files between driver and jobs of Slurm


@pytest.fixture
def line(tmp_path):
    (tmp_path / "driver").write_text("me 1")
    return _File(tmp_path, "me", 0, 0, alone_s=60.0)


def test_job_goes_on_while_its_driver_is_there(line, tmp_path):
    assert not line.asked_to_stop()
    (tmp_path / "driver").write_text("me 2")
    assert not line.asked_to_stop()


@pytest.mark.parametrize("text", ["me -1", "another 1"])
def test_job_stops_when_its_driver_says_so_or_there_is_another(line, tmp_path, text):
    (tmp_path / "driver").write_text(text)
    assert line.asked_to_stop()


def test_job_stops_when_its_driver_is_silent_or_gone(tmp_path, line):
    line._alone_s = -1.0
    line.asked_to_stop()
    assert line.asked_to_stop()
    (tmp_path / "driver").unlink()
    assert _File(tmp_path, "me", 0, 0, alone_s=60.0).asked_to_stop()


def test_driver_waits_for_jobs_of_a_former_one(tmp_path, monkeypatch):
    monkeypatch.setattr("entropic_rl.compare.on_slurm._POLL_S", 0.01)
    monkeypatch.setattr("entropic_rl.compare.on_slurm._ALONE_S", 0.05)
    _await_former(tmp_path)
    (tmp_path / "busy-x-0").touch()
    with pytest.raises(RunDirectoryError, match="jobs of a former driver have not stopped"):
        _await_former(tmp_path)
    assert (tmp_path / "driver").read_text().endswith(" -1")
