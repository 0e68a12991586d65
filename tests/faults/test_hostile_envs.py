"""Environments that do what none should: one line that says where, exit code 2, the record kept, nobody left behind."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from entropic_rl.cli import main
from entropic_rl.run_directory import read_metrics

SETTINGS = [
    "--env", "Hostile-v0", "--gym-packages", "hostile_envs", "--n-steps", "4", "--n-envs", "2", "--seed", "3",
    "--total-timesteps", "96", "--log-interval", "1", "--checkpoint-every", "2", "--net-arch", "4", "--eval-episodes",
    "1", "--no-progress", "--coverage", "off", "--device", "cpu",
]  # fmt: skip
AT_STEP = r"environment 0, episode 2 after seed \d+, step 11: "
NUMBERS = r"environment 0, step 27 after its reset with seed \d+: expected finite numbers, got "  # 16 steps before
AT_RESET = r"environment 0, episode 2 after seed \d+, reset: "
ANSWERS = {
    "NaN observation in step": NUMBERS + "nan as observation; mend",
    "inf observation in step": NUMBERS + "inf as observation; mend",
    "NaN reward in step": NUMBERS + "nan as reward; mend",
    "inf reward in step": NUMBERS + "inf as reward; mend",
    "no number as reward in step": AT_STEP + "expected a number as reward, got None; mend",
    "two rewards in step": AT_STEP + r"expected a number as reward, got shape \(2,\); mend",
    "wrong shape in step": AT_STEP + r"expected an observation of shape \(3,\), got shape \(5,\); mend",
    "wrong dtype in step": AT_STEP + "expected an observation of float32, got <U1; mend",
    "no array in step": AT_STEP + r"expected an observation of shape \(3,\), got None; mend",
    "other spaces in step": AT_STEP + r"expected an observation of shape \(3,\), got shape \(4,\); mend",
    "four values in step": AT_STEP + r"expected step to return \(obs, .* info\), got 4 values; mend",
    "None from step": AT_STEP + r"expected step to return \(obs, .* info\), got None; mend",
    "no flag in step": AT_STEP + "expected True or False as terminated, got 'no'; mend",
    "no dict as info in step": AT_STEP + "expected a dict as info, got 7; mend",
    "raise in step": AT_STEP + "it raised ZeroDivisionError: division by zero; mend",
    "sys.exit in step": AT_STEP + "it raised SystemExit: 3; mend",
    "raise in reset": AT_RESET + "it raised IndexError: list index out of range; mend",
    "wrong shape in reset": AT_RESET + r"expected an observation of shape \(3,\), got shape \(5,\); mend",
    "observation alone from reset": AT_RESET + r"expected reset to return \(obs, info\), got shape \(3,\); mend",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the hostile environments lie, and where the command is run."""
    shutil.copy(Path(__file__).with_name("hostile_envs.py"), tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def children():
    return {process.pid for process in psutil.Process().children(recursive=True)}


def train(deed, backend, *flags):
    started, before = time.monotonic(), children()  # other tests may have left a tracker's process
    asked = ["--env-backend", backend, "--env-kwargs", f"deed={deed}", "--run-dir", "run", *flags]
    code = main(["a2c", *SETTINGS, *asked], verb="train")
    assert time.monotonic() - started < 30
    assert children() <= before
    return code


def check_what_is_left(error, pattern):
    """One line, the rows before the deed (one per rollout of 4 steps), and a checkpoint to go on from."""
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1
    assert re.fullmatch("train.py: error: " + pattern + ".*\n", error)
    assert len(read_metrics(Path("run"))) == (3 if ", reset: " in error else 6)  # after 16 or 26 steps
    assert not Path("run/summary.json").exists()
    assert any(Path("run/checkpoints").iterdir())


@pytest.mark.parametrize("deed", ANSWERS)
def test_deed_is_one_line_that_says_where(deed, folder, capfd, tally):
    assert train(deed, "sync") == 2
    check_what_is_left(capfd.readouterr().err, ANSWERS[deed])
    tally("hostile environment, one by one", "exit code 2, one line, record and checkpoint kept")


@pytest.mark.parametrize("deed", ["NaN reward in step", "raise in step", "wrong shape in reset", "sys.exit in step"])
def test_deed_in_a_process_of_its_own_is_the_same_line(deed, folder, capfd, tally):
    assert train(deed, "async") == 2
    check_what_is_left(capfd.readouterr().err, ANSWERS[deed])
    tally("hostile environment, in a process", "exit code 2, one line, record and checkpoint kept")


@pytest.mark.parametrize(
    ("deed", "what"),
    {
        "os._exit in step": r"its process died \(exit code 7\); mend",
        "kill itself in step": r"its process died \(signal 9\); mend",
        "sleep in step": r"its process has not answered for 0.5 s \(--env-timeout\), and was ended; mend",
    }.items(),
)
def test_process_that_dies_or_hangs_is_one_line_that_says_where(deed, what, folder, capfd, tally):
    assert train(deed, "async", "--env-timeout", "0.5") == 2
    check_what_is_left(capfd.readouterr().err, AT_STEP + what)
    tally("hostile environment, in a process", "exit code 2, one line, record and checkpoint kept")


def test_environment_that_cannot_be_made_leaves_nothing(folder, capfd, tally):
    assert train("refuse to be made", "async") == 2
    [line] = capfd.readouterr().err.strip().splitlines()
    assert "env 'Hostile-v0' cannot be made" in line
    assert not Path("run").exists()
    tally("hostile environment, when it is made", "exit code 2, one line, nothing written")


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_environment_that_never_ends_is_trained_on_and_cut_off_in_evaluation(backend, folder, tally):
    assert train("never end", backend, "--eval-max-steps", "20") == 0
    assert json.loads(Path("run/summary.json").read_text())["eval/mean_ep_length"] == 20
    tally("hostile environment, never ending", "trained to the end, evaluation cut off")


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_environment_with_random_numbers_of_its_own_cannot_be_resumed_and_says_so(backend, folder, capfd, tally):
    before = children()
    assert train("random of its own", backend) == 0
    assert main(["--resume", "run", "--total-timesteps", "200", "--no-progress"], verb="train") == 2
    [line] = capfd.readouterr().err.strip().splitlines()
    assert "environment 0 did not come back to where it was when its episode was played again" in line
    assert children() <= before
    tally("hostile environment, not deterministic", "exit code 2, one line, not resumed")


def test_workers_leave_signals_to_the_training_and_die_with_it(folder):
    code = """
import os, signal, sys, time
from entropic_rl.environments import import_gym_packages, make_vector_env
import_gym_packages(["hostile_envs"])
env = make_vector_env("Hostile-v0", 2, backend="async")
env.reset(seed=[1, 2])
for process in env.processes:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        os.kill(process.pid, number)
env.step([0, 1])
print(*[process.pid for process in env.processes], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == -9
    assert not done.stderr
    workers = [int(pid) for pid in done.stdout.split()]
    assert len(workers) == 2
    for _ in range(100):
        if not any(map(psutil.pid_exists, workers)):
            return
        time.sleep(0.05)
    pytest.fail("workers outlived their parent")
