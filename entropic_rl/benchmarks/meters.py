"""What the exploration meters, and tracking, cost a training."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from entropic_rl.config import RunConfig

__all__ = ["meter_cost"]


def meter_cost(agent: str, run: RunConfig, config: Any, n_runs: int, rounds: int) -> str:
    """What is added to the time of training ``n_runs`` seeds as one batch, in turn with and without, as one line.

    Without means without meters, mirrors, and all but two rows of the record. The time is that of the second half of
    training with all writing; W&B's rows count, if ``run.track`` is on, though not its start and end.
    """
    from entropic_rl.agents import agent_class
    from entropic_rl.cell import Cell
    from entropic_rl.recording import log_interval
    from entropic_rl.runs import train_cells

    def seconds(measured: RunConfig) -> float:
        clock = _Clock(half * rollout)
        with tempfile.TemporaryDirectory() as folder:
            seeds = [replace(measured, seed=run.seed + i) for i in range(n_runs)]
            cells = [Cell(agent, own, config, Path(folder) / f"run-{i}") for i, own in enumerate(seeds)]
            train_cells(agent_class(agent), cells, clock)
        return clock.between

    rollout = config.n_steps * run.n_envs
    interval = log_interval(run, rollout)
    half = interval * max(1, -(-run.total_timesteps // rollout) // 2 // interval)  # at which both write a row
    bare = replace(run, coverage="off", track=False, tensorboard=False, log_interval=half)
    seconds(run)  # warm
    pairs = [(seconds(bare), seconds(run)) for _ in range(rounds)]
    costs = [100.0 * (measured / without - 1.0) for without, measured in pairs]
    what = "meters, record" + (" and Weights & Biases" if run.track else "")
    return (
        f"{agent} on {run.env}, {n_runs} runs: {what} add {statistics.median(costs):.1f} % to the training time "
        f"(lowest {min(costs):.1f}, highest {max(costs):.1f}, {rounds} pairs)"
    )


class _Clock:
    """Seconds from a row of the record to the end of training."""

    def __init__(self, first_step: int) -> None:
        self._first_step, self._started, self.between = first_step, 0.0, 0.0

    def update(self, global_step: int, rows: Any) -> None:
        if self._started == 0.0 and global_step >= self._first_step:
            self._started = time.perf_counter()

    def note(self, text: str) -> None:  # the last evaluation begins
        self.between = time.perf_counter() - self._started
