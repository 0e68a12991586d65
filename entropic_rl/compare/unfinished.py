"""Which cells were being trained together when a comparison was stopped: they go on together, with the same bits.

``OUT/checkpoints/KEY`` belongs to one job while it is not finished: ``job.json`` names its cells, and beside it lie its
checkpoints. What a cell comes to may depend in its last bits on how many train beside it, so a job stays what it is.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from entropic_rl.cell import Cell
from entropic_rl.compare.jobs import Job
from entropic_rl.errors import RunDirectoryError
from entropic_rl.run_directory import CHECKPOINTS, read_json, write_json

__all__ = ["forget", "noted", "unfinished"]

_FILE = "job.json"


def noted(job: Job, out: Path) -> Job:
    """The job with a folder for its checkpoints, which says whose they are."""
    if job.cells[0].agent.startswith("sb3:"):  # one cell each, of an agent that does not tell its state
        return job
    names = [cell.directory.name for cell in job.cells]
    folder = out / CHECKPOINTS / hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _FILE, {"cells": names})
    return replace(job, checkpoints=folder)


def unfinished(cells: Sequence[Cell], out: Path) -> list[Job]:
    """Jobs that were begun and are not finished; folders of others are removed.

    Args:
        cells: all of the comparison.
        out: its directory.
    """
    known, found = {cell.directory.name: cell for cell in cells}, []
    for path in sorted((out / CHECKPOINTS).glob(f"*/{_FILE}")):
        try:
            names = read_json(path)["cells"]
            job = Job(tuple(known[name] for name in names), 0, path.parent, resume=True)
        except (RunDirectoryError, KeyError, TypeError):  # damaged, or of another plan: its cells begin anew
            shutil.rmtree(path.parent, ignore_errors=True)
            continue
        if job.cells and not all((cell.directory / "summary.json").exists() for cell in job.cells):
            found.append(job)
        else:
            forget(job)
    return found


def forget(job: Job) -> None:
    """Remove the checkpoints of a job, and their folder if it was the last."""
    if job.checkpoints is not None:
        shutil.rmtree(job.checkpoints, ignore_errors=True)
        with suppress(OSError):  # others are in it
            job.checkpoints.parent.rmdir()
