"""A study as one batch beside the same runs one by one."""

from __future__ import annotations

import statistics
import time

import torch

from entropic_rl.studies.config import StudyConfig
from entropic_rl.studies.experiment import Job, Problem, problem_of, train
from entropic_rl.supervised.config import FitConfig

__all__ = ["SHAPES", "digits", "speed_row"]

SHAPES = ((64, 32), (128, 64))
"""Hidden units and rows per minibatch."""

_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)


def digits(seeds: int) -> Problem:
    """The data of so many seeds."""
    return problem_of(StudyConfig(data="digits"), range(seeds))


def speed_row(problem: Problem, shape: tuple[int, int], *, n_epochs: int, rounds: int, threads: int) -> str:
    """Seconds of six learning rates in every seed, trained and measured: together and one by one, in turn."""
    width, batch_size = shape
    fit = {"net_arch": (width,), "batch_size": batch_size, "n_epochs": n_epochs}
    jobs = [Job(f"{rate:g}", FitConfig(**fit, learning_rate=rate), seed) for rate in _RATES for seed in problem.sides]  # type: ignore[arg-type]
    torch.set_num_threads(threads)
    together, alone = [], []
    for _ in range(rounds):
        together.append(_seconds([jobs], problem))
        alone.append(_seconds([[job] for job in jobs], problem))
    each = [b / a for a, b in zip(together, alone, strict=True)]
    batch, single = statistics.median(together), statistics.median(alone)
    return (
        f"| {width} | {batch_size} | {threads} | {len(jobs)} | {batch:.2f} | {single:.2f} "
        f"| **{single / batch:.1f}** ({min(each):.1f} to {max(each):.1f}) |"
    )


def _seconds(batches: list[list[Job]], problem: Problem) -> float:
    began = time.perf_counter()
    for jobs in batches:
        train(jobs, problem)
    return time.perf_counter() - began
