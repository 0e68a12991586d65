"""The grid of a comparison: coefficients x seeds, one run directory each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from entropic_rl.config import RunConfig
from entropic_rl.runs import Cell
from entropic_rl.schedules import Schedule

__all__ = ["label", "make_cells"]


def make_cells(run: RunConfig, configs: Sequence[Any], n_seeds: int, out: Path) -> list[Cell]:
    """Every configuration with every seed ``run.seed, run.seed + 1, ...``, under ``out/cells``.

    The same seeds for every coefficient: differences between coefficients are paired.
    """
    return [
        Cell(
            replace(run, seed=seed),
            config,
            out / "cells" / f"ent_coef_{label(config.ent_coef).replace(':', '-')}__seed_{seed}",
        )
        for config in configs
        for seed in range(run.seed, run.seed + n_seeds)
    ]


def label(ent_coef: float | str) -> str:
    """A coefficient as people write it: ``0``, ``0.01``, ``linear:0.01:0``."""
    return str(Schedule.parse(ent_coef))
