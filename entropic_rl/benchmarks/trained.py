"""Grids of trainings in this process: settings x seeds as one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from entropic_rl.agents import agent_class
from entropic_rl.cell import Cell
from entropic_rl.resolve import layered
from entropic_rl.runs import train_cells

__all__ = ["train_grid"]


def train_grid(
    agent: str,
    chosen: Mapping[str, Any],
    points: Sequence[Mapping[str, Any]],
    *,
    seeds: int,
    folder: Path,
    preset: str = "none",
) -> list[list[dict[str, Any]]]:
    """Summaries of every point's trainings, a list of ``seeds`` for each.

    Args:
        agent: its name.
        chosen: settings of all.
        points: what each group has besides, batchable fields only.
        seeds: trainings of each group, with the seeds 0, 1, ...
        folder: where ``POINT_SEED`` run directories go.
        preset: as ``--preset`` has it.
    """
    cells = []
    for i, point in enumerate(points):
        for seed in range(seeds):
            run, config = layered(agent, {**chosen, **point, "seed": seed}, preset)
            cells.append(Cell(agent, run, config, folder / f"{i}_{seed}"))
    summaries = train_cells(agent_class(agent), cells)
    return [summaries[i * seeds : (i + 1) * seeds] for i in range(len(points))]
