"""Verbs of classifiers, killed at any moment, any number of times: gone on with, the same bits.

Killed are forks of a process that has imported everything already; run as a program this file is that process, which
reads one JSON object per line, works in a fork, and answers how that ended. Checkpoints follow each other as fast as
they can.
"""

import importlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

OUT = "out"
CASES = {
    "calibrate, digits, batches of two sizes": "calibrate --data digits --n 301 --folds 3 --ent-coef 0 target:0.5 "
    "--seeds 2 --n-epochs 25 --net-arch 16 --early-stopping --dropout 0.1",
    "robustness, wine, adversarial": "robustness --data wine --ent-coef 0 0.5 --adversarial 0.1 --seeds 2 "
    "--n-epochs 25 --net-arch 16 --eps 0 0.1 0.2 0.3 --n-steps 10 --n-queries 20",
    "study of learning rates, digits": "study learning-rate --data digits --n 300 --values 0.001 0.1 10 --seeds 2 "
    "--n-epochs 25 --net-arch 16 --optimizer sgd",
    "study of pruning, wine": "study pruning --data wine --values 50 90 --seeds 2 --n-epochs 15 --net-arch 16",
    "study of splits, blobs": "study splits --data blobs --n 200 --values 2 90 --seeds 2 --n-epochs 8 --net-arch 8",
    "active-learning, networks": "active-learning --data wine --strategies margin bald badge --n-members 2 --seeds 2 "
    "--initial 12 --batch 8 --budget 60 --n-epochs 20 --net-arch 16 --ent-coef 0 0.1",
    "active-learning, random forests": "active-learning --data wine --strategies margin bald --n-members 2 --seeds 2 "
    "--model random-forest --initial 12 --batch 8 --budget 44",
}
N_KILLS, MOST_IN_A_ROW = 10, 4
_WALL_CLOCK = r'"seconds(_training)?": [0-9.e-]+|(?<= in )[0-9.]+ s\b'


class Worker:
    """The process that forks; use it as a context."""

    def __enter__(self):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(self, cwd, verb, *words, after=None, number=signal.SIGKILL):
        """One verb from ``cwd``, sent a signal ``after`` seconds: ``code`` (minus a signal), ``said``, ``seconds``."""
        order = {"cwd": str(cwd), "verb": verb, "words": words, "after": after, "signal": int(number)}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def go_on(self, cwd, case, **fault):
        """What a person does after a fault: resume, or begin anew where nothing was begun."""
        verb, *words = CASES[case].split()
        if (cwd / OUT / "unfinished.json").exists() or (cwd / OUT / "report.html").exists():
            return self.run(cwd, verb, "--resume", OUT, "--checkpoint-seconds", "1e-9", "--no-progress", **fault)
        return self.run(cwd, verb, *words, "--out", OUT, "--checkpoint-seconds", "1e-9", "--no-progress", **fault)


@pytest.fixture(scope="module")
def worker():
    with Worker() as worker:
        yield worker


def has_ended(ended):
    """Whether the work came to its end, now or before."""
    return ended["code"] == 0 or (ended["code"] == 2 and "out is finished" in ended["said"])


def outcome(out):
    """All files, but for what says how long it took."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(out)): re.sub(_WALL_CLOCK, "", path.read_text()) for path in files}


def reference(worker, place, case):
    """What undisturbed work leaves, and the seconds that it takes."""
    place.mkdir()
    ended = worker.go_on(place, case)
    assert ended["code"] == 0, ended["said"]
    return outcome(place / OUT), ended["seconds"]


def check(worker, tally, place, case, n_kills):
    """Kill it so many times, at most a few in a row."""
    moments = random.Random(case)
    expected, seconds = reference(worker, place / "reference", case)
    killed = 0
    while killed < n_kills:
        shutil.rmtree(place / "killed", ignore_errors=True)
        (place / "killed").mkdir()
        n, ended = 0, {"code": -signal.SIGKILL}
        while ended["code"] == -signal.SIGKILL:
            is_last = n == min(MOST_IN_A_ROW, n_kills - killed)
            after = None if is_last else moments.uniform(0.0, seconds)
            ended = worker.go_on(place / "killed", case, after=after)
            n += ended["code"] == -signal.SIGKILL
        assert has_ended(ended), ended["said"]
        assert outcome(place / "killed" / OUT) == expected
        tally(f"SIGKILL: {case}", "gone on with, the same bits", n)
        killed += n


@pytest.mark.faults
@pytest.mark.parametrize("case", CASES)
def test_killed_at_random_moments_it_ends_with_the_same_bits(worker, tally, tmp_path, case):
    check(worker, tally, tmp_path, case, N_KILLS)


def test_killed_once_it_ends_with_the_same_bits(worker, tally, tmp_path):
    check(worker, tally, tmp_path, "study of splits, blobs", 1)


@pytest.mark.faults
@pytest.mark.parametrize("case", CASES)
def test_asked_to_stop_it_ends_with_75_and_goes_on_with_the_same_bits(worker, tally, tmp_path, case):
    expected, seconds = reference(worker, tmp_path / "reference", case)
    place, moments, n_asked = tmp_path / "stopped", random.Random(f"SIGTERM {case}"), 0
    while not n_asked:  # it may have ended, or not have got its bearings, when the signal comes
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        begun = time.perf_counter()
        ended = worker.go_on(place, case, after=moments.uniform(0.1, 0.7) * seconds, number=signal.SIGTERM)
        assert time.perf_counter() - begun < seconds + 30
        n_asked = ended["code"] == 75
    verb = CASES[case].split()[0].replace("-", "_")
    assert f"{verb}.py: stopped by SIGTERM; go on with: {verb}.py --resume out" in ended["said"]
    ended = worker.go_on(place, case)
    assert ended["code"] == 0, ended["said"]
    assert outcome(place / OUT) == expected
    tally(f"SIGTERM: {case}", "exit code 75, gone on with, the same bits")


def _work(order, said):
    """In the fork: never returns."""
    code = 70
    try:
        os.chdir(order["cwd"])
        os.dup2(said, 1)
        os.dup2(said, 2)
        from entropic_rl.cli import main

        code = main(order["words"], verb=order["verb"])
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _prepare():
    """Import what the verbs import, and have pictures, which take most of the time, stood in for by nothing."""
    for name in ("active.batched", "calibrate.measures", "robustness.experiment", "active.skactiveml", "kept_parts"):
        importlib.import_module(f"entropic_rl.{name}")
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)  # before a fork, which has no threads of its parent's
    for name in ("active", "calibrate", "robustness"):
        importlib.import_module(f"entropic_rl.{name}.report").pictures = lambda *_: []
    for name in ("choosing", "sparse", "standard"):
        module = importlib.import_module(f"entropic_rl.studies.{name}")
        module.drawn = lambda _: '<svg width="1pt" viewBox="0 0 1 1"></svg>'
    importlib.import_module("entropic_rl.studies.report")
    importlib.import_module("entropic_rl.checkpoint")._PATIENCE = 0


def _serve():
    _prepare()
    for line in sys.stdin:
        order = json.loads(line)
        with open(os.path.join(order["cwd"], ".said"), "w+b", buffering=0) as said:
            started = time.perf_counter()
            child = os.fork()
            if child == 0:
                _work(order, said.fileno())
            if order["after"] is not None:
                time.sleep(order["after"])
                os.kill(child, order["signal"])
            _, status = os.waitpid(child, 0)
            seconds = time.perf_counter() - started
            text = Path(said.name).read_text()
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        print(json.dumps({"code": code, "said": text, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    _serve()
