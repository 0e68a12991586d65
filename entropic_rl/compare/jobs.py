"""Which cells train together, and in which process; free of torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from entropic_rl.cell import Cell
from entropic_rl.config import jsonable
from entropic_rl.errors import ConfigError

__all__ = ["Job", "Parallel", "make_jobs"]

Parallel = Literal["auto", "batch", "process"]


@dataclass(frozen=True, slots=True)
class Job:
    """Cells that one process trains as one batch.

    Attributes:
        cells: they agree in everything structural.
        memory: bytes that the process is estimated to need at most.
        checkpoints: folder of the states that it can go on from; None if it has none.
        resume: whether to go on from the newest of them.
    """

    cells: tuple[Cell, ...]
    memory: int
    checkpoints: Path | None = None
    resume: bool = False

    def to_json(self) -> dict[str, Any]:
        """What its process has to know, as plain JSON values."""
        checkpoints = None if self.checkpoints is None else str(self.checkpoints)
        return {"cells": [cell.to_json() for cell in self.cells], "checkpoints": checkpoints, "resume": self.resume}


def make_jobs(
    cells: Sequence[Cell],
    estimate: Callable[[Sequence[Cell]], int],
    *,
    parallel: Parallel,
    n_workers: int,
    memory: int,
) -> list[Job]:
    """Cells as jobs for ``n_workers`` processes at a time.

    Cells that agree in everything structural form a batch. ``batch`` keeps it whole, ``process`` makes every cell a
    job of its own, ``auto`` deals a batch out to as many jobs as keep all workers busy, so that every worker has some
    seeds of every group. Jobs that would not fit into the memory beside each other are halved until they do.

    Raises:
        ConfigError: a single cell does not fit.
    """
    batches: dict[Any, list[Cell]] = {}
    for cell in cells:
        batches.setdefault(_structure(cell), []).append(cell)
    jobs: list[Job] = []
    for batch in batches.values():
        n_jobs = {"batch": 1, "process": len(batch), "auto": math.ceil(n_workers / len(batches))}[parallel]
        if batch[0].agent.startswith("sb3:"):
            n_jobs = len(batch)
        shards = [batch[i::n_jobs] for i in range(min(n_jobs, len(batch)))]
        for shard in shards:
            jobs += _fitting(shard, estimate, memory // n_workers)
    return jobs


def _fitting(cells: list[Cell], estimate: Callable[[Sequence[Cell]], int], memory: int) -> list[Job]:
    needed = estimate(cells)
    if needed <= memory:
        return [Job(tuple(cells), needed)]
    if len(cells) == 1:
        raise ConfigError(
            f"memory: expected room for at least {needed / 2**20:,.0f} MiB per process, got {memory / 2**20:,.0f}; "
            "lower --workers, --n-steps, --n-envs or --batch-size"
        )
    return _fitting(cells[::2], estimate, memory) + _fitting(cells[1::2], estimate, memory)


def _structure(cell: Cell) -> tuple[Any, ...]:
    """What cells of one batch have to agree in."""
    run = {**jsonable(cell.run), "seed": None}
    free = getattr(cell.config, "BATCHABLE", ())
    config = {name: value for name, value in jsonable(cell.config).items() if name not in free}
    return cell.agent, repr(run), repr(config)
