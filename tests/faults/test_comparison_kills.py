"""A comparison of 16 runs in two processes: all of it, one that waits, or one that trains is killed, time and again."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.trainings import outcome

SCRIPT = Path(__file__).parents[2] / "scripts" / "compare.py"
OUT = "out"
GRID = "ppo --env CartPole-v1 --preset none --ent-coef 0 0.001 0.01 0.1 --seeds 4"  # 16 runs
SMALL = "--n-envs 4 --n-steps 64 --batch-size 64 --n-epochs 4 --net-arch 16 --eval-episodes 2 --eval-max-steps 200"
BEGIN = f"{GRID} {SMALL} --total-timesteps 24576 --workers 2 --checkpoint-seconds 0 --checkpoint-every 4 --out {OUT}"
GO_ON = f"resume {OUT} --workers 2"
VICTIMS = ("all of it", "the process that waits", "a process that trains")
N_KILLS = 24
MOST_IN_A_ROW = 4


def start(place):
    words = (GO_ON if (place / OUT / "plan.json").exists() else BEGIN).split()
    with (place / "said").open("w") as said:
        return subprocess.Popen(
            [sys.executable, SCRIPT, *words, "--no-progress"],
            cwd=place,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def ended(process, place):
    """Its exit code, once it and all that it started are gone."""
    code = process.wait(300)
    for _ in range(300):
        if not members(process.pid):
            return code
        time.sleep(0.1)
    raise AssertionError(f"still there: {members(process.pid)}")


def members(session):
    """Processes of a session that are not merely waiting to be taken note of."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def kill(process, victim, moments):
    """Whether somebody was there to be killed."""
    alive = members(process.pid)
    trainers = [pid for pid in alive if pid != process.pid]
    chosen = {"all of it": alive, "the process that waits": [process.pid]}.get(
        victim, trainers and [moments.choice(trainers)]
    )
    if process.poll() is not None or not chosen:
        return False
    for pid in chosen:
        os.kill(pid, signal.SIGKILL)
    return True


def cells(place):
    return {path.name: outcome(path) for path in sorted((place / OUT / "cells").iterdir())}


def table(place):
    """The curves that the report shows, without what a clock measured."""
    lines = (place / OUT / "curves.csv").read_text().splitlines()
    kept = [i for i, name in enumerate(lines[0].split(",")) if not name.startswith("time/")]
    return [[line.split(",")[i] for i in kept] for line in lines]


@pytest.mark.faults
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_comparison_killed_at_random_moments_ends_with_the_same_bits(tally, tmp_path):
    moments, n_killed = random.Random("a comparison"), 0
    whole = tmp_path / "whole"
    whole.mkdir()
    begun = time.perf_counter()
    assert ended(start(whole), whole) == 0, (whole / "said").read_text()
    seconds, expected = time.perf_counter() - begun, cells(whole)
    assert len(expected) == 16
    while n_killed < N_KILLS:
        shutil.rmtree(place := tmp_path / "killed", ignore_errors=True)
        place.mkdir()
        for _ in range(MOST_IN_A_ROW):
            process, victim = start(place), VICTIMS[n_killed % len(VICTIMS)]
            time.sleep(moments.uniform(0.0, seconds))
            if kill(process, victim, moments):
                n_killed += 1
                tally(f"SIGKILL: comparison of 16 runs, {victim}", "resumed, the same bits")
            if ended(process, place) == 0:
                break
        assert ended(start(place), place) == 0, (place / "said").read_text()
        assert cells(place) == expected
        assert table(place) == table(whole)
