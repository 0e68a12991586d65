"""What tracking costs a whole training, from its start to its exit, whatever the server does."""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from entropic_rl.benchmarks.fake_wandb import Behaviour, fake_wandb
from entropic_rl.run_directory import read_metrics

__all__ = ["CASES", "Training", "table", "train_once"]

CASES = ("disabled", "offline", *get_args(Behaviour))

_TRAIN = """
import sys, time
from entropic_rl.cli import main
code = main(sys.argv[1:], verb="train")
print(time.process_time())
sys.exit(code)
"""


@dataclass(frozen=True, slots=True)
class Training:
    """How one training ended: seconds in all and of the CPU for itself, rows, warnings of tracking, exit code."""

    seconds: float
    cpu: float
    n_rows: int
    n_warnings: int
    exit_code: int


def table(cases: Sequence[str], total_timesteps: int, rounds: int) -> str:
    """Rows of a table; every round trains untracked and in each case, in turn, and compares within the round."""
    untracked: list[Training] = []
    tracked: dict[str, list[Training]] = {case: [] for case in cases}
    for number in range(rounds):
        untracked.append(train_once(None, total_timesteps))
        for case in cases if number % 2 else reversed(cases):
            tracked[case].append(train_once(case, total_timesteps))
    bare = statistics.median(run.seconds for run in untracked)
    rows = [f"| untracked | {bare:.1f} | | | {min(r.n_rows for r in untracked)} | 0 | {_codes(untracked)} |"]
    for case, runs in tracked.items():
        middle = statistics.median(run.seconds for run in runs)
        added = [_added(runs, untracked, what) for what in ("seconds", "cpu")]
        missing = sum(own.n_rows - run.n_rows for run, own in zip(runs, untracked, strict=True))
        rows.append(
            f"| {case} | {middle:.1f} | {added[0]} | {added[1]} "
            f"| {runs[0].n_rows} ({missing} missing in all) | {max(run.n_warnings for run in runs)} | {_codes(runs)} |"
        )
    return "\n".join(rows)


def train_once(case: str | None, total_timesteps: int) -> Training:
    """Train PPO on CartPole-v1 in a process of its own; ``None`` is without tracking."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))) / "run"
        words = ["ppo", "--env", "CartPole-v1", "--total-timesteps", str(total_timesteps), "--eval-episodes", "5"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if case is not None:
            mode = case if case in ("disabled", "offline") else "online"
            words += ["--track", "--wandb-mode", mode]
            if mode == "online":
                fake = stack.enter_context(fake_wandb(case))  # type: ignore[arg-type]
                environment |= {"WANDB_BASE_URL": fake.url, "WANDB_API_KEY": "0" * 40}
        command = [sys.executable, "-c", _TRAIN, *words, "--no-progress", "--run-dir", str(directory)]
        began = time.perf_counter()
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        cpu = float(ended.stdout.split()[-1]) if ended.returncode == 0 else math.nan
        return Training(seconds, cpu, len(read_metrics(directory)), ended.stderr.count("Warning"), ended.returncode)


def _added(runs: Sequence[Training], untracked: Sequence[Training], what: str) -> str:
    """Per cent more than untracked: of the medians, and round by round."""
    here, bare = [getattr(run, what) for run in runs], [getattr(run, what) for run in untracked]
    pairs = [100.0 * (with_it / without - 1.0) for with_it, without in zip(here, bare, strict=True)]
    ratio = 100.0 * (statistics.median(here) / statistics.median(bare) - 1.0)
    return f"{ratio:+.1f} % ({min(pairs):+.1f} to {max(pairs):+.1f})"


def _codes(runs: Sequence[Training]) -> str:
    return " ".join(map(str, sorted({run.exit_code for run in runs})))
