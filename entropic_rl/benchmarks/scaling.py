"""What PPO on CartPole costs over the runs of a batch, the width of networks, and the environments of each run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from entropic_rl.benchmarks.peers.job import Job
from entropic_rl.benchmarks.peers.processes import Measured, train
from entropic_rl.benchmarks.peers.rounds import spread
from entropic_rl.benchmarks.peers.tasks import TASKS, kernel_of_long_runs

__all__ = ["AXES", "scaling_table"]

AXES = {"runs": "runs", "widths": "units of both hidden layers", "envs": "environments of each run"}
_N_STEPS, _BATCH = 32, 256  # of a rollout per environment, and of a minibatch
_UPDATES = 4, 64  # at least and at most that many are timed, of about as many env steps in all
_WORK = 2**17
_RUN = 100_000  # env steps that a whole run has


def scaling_table(axis: str, sizes: Sequence[int], n_runs: int, rounds: int, own: Mapping[str, Any]) -> Iterator[str]:
    """Lines of a Markdown table, a size each; every training has a process of one thread.

    Args:
        axis: of ``AXES``.
        sizes: along it.
        n_runs: of a batch, along the other axes.
        rounds: trainings of each size.
        own: settings of runs above those of the preset.
    """
    yield f"| {AXES[axis]} | env steps/s of all runs | seconds for {_RUN:,} env steps of one run | peak memory, MiB |"
    yield "| --- | --- | --- | --- |"
    for size in sizes:
        found = [train("ours", job(axis, size, n_runs, number, own), threads=1) for number in range(rounds)]
        yield f"| {size:,} | {' | '.join(_columns(found))} |"


def job(axis: str, size: int, n_runs: int, number: int, own: Mapping[str, Any]) -> Job:
    """The training of a size: long enough to be timed, and no longer."""
    n_runs, n_envs = (size if axis == "runs" else n_runs), (size if axis == "envs" else 8)
    rollout = n_envs * _N_STEPS
    least, most = _UPDATES
    updates = 1 + max(least, min(most, _WORK // (rollout * n_runs)))
    chosen: dict[str, Any] = {
        "n_envs": n_envs,
        "batch_size": min(_BATCH, rollout),
        "total_timesteps": updates * rollout,
    }
    if axis == "widths":
        chosen["net_arch"] = (size, size)
    task = TASKS["ppo"]
    chosen["kernel"] = kernel_of_long_runs(own)  # the trainings here are cut short
    return task.job(
        {**chosen, **{k: v for k, v in own.items() if k != "kernel"}},
        seed=0,
        cases=[(0.0, number * n_runs + i) for i in range(n_runs)],
    )


def _columns(found: Sequence[Measured]) -> list[str]:
    middle = median(m.rate for m in found)
    return [spread([m.rate for m in found], ",.0f"), f"{_RUN / middle:.2f}", f"{max(m.peak for m in found):,.0f}"]
