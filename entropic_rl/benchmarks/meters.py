"""What the exploration meters cost a training."""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from entropic_rl.config import RunConfig

__all__ = ["meter_cost"]


def meter_cost(agent: str, run: RunConfig, config: Any, n_runs: int, rounds: int) -> str:
    """Env steps/s of a batch of ``n_runs`` seeds with and without meters, in turn, as one line."""
    from entropic_rl import agents
    from entropic_rl.runs import Cell, train_cells

    def speed(coverage: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            cells = [
                Cell(replace(run, coverage=coverage, seed=run.seed + i), config, Path(folder) / str(i))
                for i in range(n_runs)
            ]
            summaries = train_cells(agent, getattr(agents, agent.upper()), cells, progress=False)
        return float(summaries[0]["time/fps"]) * n_runs

    speed("auto")  # warm
    pairs = [(speed("off"), speed("auto")) for _ in range(rounds)]
    costs = [100.0 * (without / with_meters - 1.0) for without, with_meters in pairs]
    return (
        f"{agent} on {run.env}, {n_runs} runs: the meters add {statistics.median(costs):.1f} % to the training time "
        f"(lowest {min(costs):.1f}, highest {max(costs):.1f}, {rounds} pairs; "
        f"{statistics.median(w for w, _ in pairs):,.0f} steps/s without)"
    )
