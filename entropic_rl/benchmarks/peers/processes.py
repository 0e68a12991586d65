"""Processes of a measurement: trainings by peers, on cores of their own, and whole programs."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from entropic_rl.benchmarks.fresh_process import COMPARE, train_apart
from entropic_rl.benchmarks.peers.job import Job
from entropic_rl.errors import UserError

__all__ = ["Measured", "cores", "first_update", "train", "train_at_once"]


@dataclass(frozen=True, slots=True)
class Measured:
    """A training by a process of its own.

    Attributes:
        rate: env steps of all runs per second, from the first update to the last.
        start: seconds from the start of the process to the first update.
        whole: seconds from the start of the process to the last update.
        peak: MiB that the process held at most.
        returns: mean return of each run's last 100 training episodes.
    """

    rate: float
    start: float
    whole: float
    peak: float
    returns: Sequence[float]


def cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def train(peer: str, job: Job, *, threads: int, place: int = 0) -> Measured:
    """Train by a fresh process that has as many cores as threads, the ``place``-th of such shares.

    Raises:
        UserError: it failed.
    """
    own = [cores()[(place * threads + i) % len(cores())] for i in range(threads)]
    task = {"job": job.to_json(), "started": time.time(), "cores": own, "threads": threads}
    return Measured(**train_apart("entropic_rl.benchmarks.peers.worker", peer, task, threads=threads))


def train_at_once(peer: str, jobs: Sequence[Job]) -> tuple[float, list[Measured]]:
    """Train each job by a process of one thread, all begun together; seconds until all have ended, and each."""
    started = time.perf_counter()
    with ThreadPoolExecutor(len(jobs)) as pool:
        found = list(pool.map(lambda item: train(peer, item[1], threads=1, place=item[0]), enumerate(jobs)))
    return time.perf_counter() - started, found


def first_update(words: Sequence[str]) -> float:
    """Seconds from the start of ``compare.py WORDS`` to the first row that a run of it records, after its first update.

    Raises:
        UserError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [*COMPARE, *words, "--out", str(out), "--no-progress"]
        seconds, said = 0.0, Path(folder) / "said"
        with said.open("w") as errors:
            started = time.perf_counter()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
            while process.poll() is None:
                if not seconds and any(path.stat().st_size for path in out.rglob("metrics.jsonl")):
                    seconds = time.perf_counter() - started
                time.sleep(0.01)
        if process.returncode != 0 or not seconds:
            raise UserError(f"the comparison failed: {' '.join(said.read_text().strip().splitlines()[-1:])}")
        return seconds
