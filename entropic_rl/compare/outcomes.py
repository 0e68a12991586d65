"""What the cells of a comparison left, read back from their directories: the record is all a report needs."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from entropic_rl.cell import Cell
from entropic_rl.compare.execute import FAILED, SESSIONS
from entropic_rl.compare.grid import Plan
from entropic_rl.errors import RunDirectoryError, first_line
from entropic_rl.run_directory import read_json, read_json_lines, read_metrics

__all__ = ["Outcome", "read_outcomes", "read_sessions"]


_SAID = {"seconds", "n_cells", "env_steps", "n_workers", "batches", "memory_estimate", "memory_peak", "command"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One cell and how it went.

    Attributes:
        cell: what was asked for.
        group: its group's name.
        summary: how it ended; empty if it did not finish.
        rows: of its metrics.
        tables: arrays of ``exploration.npz``: visits, first_visit, and what else its environment allows.
        error: why it does not count; None if it does.
    """

    cell: Cell
    group: str
    summary: Mapping[str, Any]
    rows: list[dict[str, float]]
    tables: Mapping[str, np.ndarray]
    error: str | None

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Env steps and values of a metric, where it was recorded."""
        points = [(row["global_step"], row[name]) for row in self.rows if name in row]
        array = np.array(points, dtype=float).reshape(-1, 2)
        return array[:, 0], array[:, 1]


def read_outcomes(plan: Plan, out: Path) -> list[Outcome]:
    """Every cell of the plan, finished or not."""
    return [_read(plan, cell) for cell in plan.cells(out)]


def read_sessions(out: Path) -> list[dict[str, Any]]:
    """What was trained when, and what it took; a torn last line is left out."""
    try:
        sessions = read_json_lines(out / SESSIONS)
    except FileNotFoundError:
        return []
    return [session for session in sessions if session.keys() >= _SAID]


def _read(plan: Plan, cell: Cell) -> Outcome:
    directory, group = cell.directory, plan.group(cell)
    if not (directory / "summary.json").exists():
        failed = directory / FAILED
        error = read_json(failed)["error"] if failed.exists() else "not trained yet"
        return Outcome(cell, group, {}, [], {}, error)
    summary = read_json(directory / "summary.json")
    if "eval/mean_reward" not in summary:
        return Outcome(cell, group, {}, [], {}, "its summary.json is damaged")
    broken = [name for name in ("eval/mean_reward", "train/loss") if summary.get(name, 0.0) is None]
    error = f"diverged: {broken[0]} is not a finite number" if broken else None
    return Outcome(cell, group, summary, read_metrics(directory), _tables(directory), error)


def _tables(directory: Path) -> dict[str, np.ndarray]:
    path = directory / "exploration.npz"
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, MemoryError) as error:
        raise RunDirectoryError(f"cannot read {path}: {first_line(error)}; delete it, or train the run again") from None
