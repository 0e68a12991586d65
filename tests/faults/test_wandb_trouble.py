"""Weights & Biases refuses, hangs, answers 500, or dies; trainings die, too: no row is lost or sent twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entropic_rl import mirroring
from entropic_rl.benchmarks.fake_wandb import fake_wandb
from entropic_rl.config import RunConfig
from entropic_rl.run_directory import read_metrics
from entropic_rl.tracking import Recorder

ROOT = Path(__file__).parents[2]
ROWS = [{"global_step": 10.0 * n, "train/entropy": 0.5 / n} for n in range(1, 7)]


@pytest.fixture
def online(monkeypatch):
    """Gives the settings of a run that is tracked by such a server; afterwards nobody is left behind."""

    def use(fake):
        monkeypatch.setenv("WANDB_BASE_URL", fake.url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        return RunConfig(env="CartPole-v1", track=True, wandb_mode="online")

    yield use
    for process in mirroring._LEFT_BEHIND:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdin.close()
    mirroring._LEFT_BEHIND.clear()


def until(condition, seconds=60.0):
    """Wait until it holds; whether it does."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def steps(directory, fake):
    """Those that the server has of a run directory, in the order in which they were logged."""
    identity = json.loads((directory / "wandb.json").read_text())["id"]
    return [row["global_step"] for row in fake.runs[identity].rows]


def write(recorder, rows):
    for row in rows:
        recorder.log(row)


@pytest.mark.parametrize("behaviour", ["refuses", "hangs", "500"])
def test_record_is_whole_and_nobody_waits(behaviour, tmp_path, online, monkeypatch, tally):
    monkeypatch.setattr(mirroring, "LEAST_WAIT_S", 0.3)
    with fake_wandb(behaviour) as fake:
        began = time.monotonic()
        recorder = Recorder(tmp_path / "run", {"seed": 3}, online(fake))
        write(recorder, ROWS)
        with pytest.warns(UserWarning, match="has not taken everything yet") as caught:
            recorder.finish({"global_step": 60})
        assert time.monotonic() - began < 3.0
    [warning] = caught
    assert f"wandb-push {tmp_path / 'run'}" in str(warning.message)
    assert read_metrics(tmp_path / "run") == ROWS
    tally(f"W&B {behaviour}", "record whole, no wait")


@pytest.mark.faults
def test_resumed_run_is_one_run_without_gaps_or_double_points(tmp_path, online, monkeypatch, tally):
    monkeypatch.setattr(mirroring, "LEAST_WAIT_S", 30.0)
    with fake_wandb("works") as fake:
        run = online(fake)
        first = Recorder(tmp_path / "run", {"seed": 3}, run)
        write(first, ROWS[:2])
        offset = first.offset()
        write(first, ROWS[2:4])
        first.close(exit_code=1)
        assert steps(tmp_path / "run", fake) == [10.0, 20.0, 30.0, 40.0]
        second = Recorder(tmp_path / "run", {}, run, resume=True)
        second.cut_back(offset)
        write(second, ROWS[2:])
        second.finish({"global_step": 60})
        [known] = fake.runs.values()
        assert steps(tmp_path / "run", fake) == [row["global_step"] for row in ROWS]
        assert known.exit_code == 0
        assert known.summary["global_step"] == 60
        assert known.variables["displayName"] == "run"
    tally("resumed while tracked", "one W&B run, every row once")


KILLED = """
import os, signal, sys, time
from pathlib import Path
from entropic_rl.config import RunConfig
from entropic_rl.tracking import Recorder
directory = Path(sys.argv[1])
recorder = Recorder(directory, {"seed": 3}, RunConfig(env="CartPole-v1", track=True, wandb_mode="online"))
for n in range(1, 5):
    recorder.log({"global_step": 10.0 * n})
print(recorder.offset(), recorder._mirrored._process._process.pid, flush=True)
time.sleep(float(sys.argv[2]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(directory, seconds):
    """A training that was killed after some time; the bytes of its record, and who followed it."""
    command = [sys.executable, "-c", KILLED, str(directory), str(seconds)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == -signal.SIGKILL, result.stderr
    return map(int, result.stdout.split())


@pytest.mark.faults
@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_killed_training_is_sent_to_its_last_row(seconds, tmp_path, online, tally):
    with fake_wandb("works") as fake:
        online(fake)
        killed(tmp_path / "run", seconds)
        assert until(lambda: any(run.exit_code is not None for run in fake.runs.values()))
        [known] = fake.runs.values()
        assert steps(tmp_path / "run", fake) == [10.0, 20.0, 30.0, 40.0]
        assert known.exit_code == 1
    tally("SIGKILL of a tracked training", "every row at the server")


@pytest.mark.faults
@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 20.0])
def test_run_of_a_machine_that_died_is_one_run_when_resumed(seconds, tmp_path, online, monkeypatch, tally):
    monkeypatch.setattr(mirroring, "LEAST_WAIT_S", 60.0)
    with fake_wandb("works") as fake:
        run = online(fake)
        offset, follower = killed(tmp_path / "run", seconds)
        os.killpg(follower, signal.SIGKILL)  # and wandb's own process
        had = [len(stored.rows) for stored in fake.runs.values()]
        second = Recorder(tmp_path / "run", {}, run, resume=True)
        second.cut_back(offset // 2)
        write(second, ROWS[2:])
        second.finish({"global_step": 60})
        assert len(fake.runs) == 1
        assert steps(tmp_path / "run", fake) == [row["global_step"] for row in ROWS]
    tally(f"SIGKILL of everything, {sum(had)} rows at the server", "one W&B run, every row once")


TRAINING = ["ppo", "--env", "CartPole-v1", "--total-timesteps", "20480", "--log-interval", "1", "--eval-episodes", "2"]


@pytest.mark.faults
@pytest.mark.parametrize("behaviour", ["refuses", "hangs", "500", "dies"])
def test_training_of_the_command_line_ends_well(behaviour, tmp_path, tally):
    directory = tmp_path / "run"
    with fake_wandb(behaviour) as fake:
        track = ["--track", "--wandb-mode", "online", "--no-progress", "--run-dir", str(directory)]
        account = {"WANDB_BASE_URL": fake.url, "WANDB_API_KEY": "0" * 40}
        command = [sys.executable, ROOT / "scripts" / "train.py", *TRAINING, *track]
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, **account}, timeout=200
        )
        assert result.returncode == 0, result.stderr
        assert "Traceback" not in result.stderr
        assert result.stderr.count("Warning") <= 2  # of one kind each
        assert [row["global_step"] for row in read_metrics(directory)] == list(range(256, 20481, 256))
        assert json.loads((directory / "summary.json").read_text())["global_step"] == 20480
        assert until(lambda: [*directory.glob("wandb/*run-*/*.wandb")], 60.0)  # what `wandb sync` takes
        assert "0" * 40 not in "".join(
            path.read_text(errors="ignore") for path in directory.rglob("*") if path.is_file()
        )
    tally(f"W&B {behaviour}, a training of the command line", "exit 0, no row missing")
