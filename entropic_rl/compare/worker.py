"""A process that trains one job of a comparison: ``python -m entropic_rl.compare.worker < JOB.json``.

It reads ``{"cells": [...], "job_type": ...}`` and writes one JSON object per line: ``{"rows": [...]}`` as training goes
on, ``{"note": TEXT}``, and at the end ``{"peak": BYTES}`` or ``{"error": TEXT}``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from entropic_rl.allocation import keep_freed_memory, search_rarely
from entropic_rl.cell import Cell
from entropic_rl.errors import NotResumableError, UserError
from entropic_rl.interruption import EXIT_CODE, Stopped, die_with_parent, stopping_on_signals
from entropic_rl.runs import Report

__all__ = ["train_job"]

_PAUSE_S = 0.2  # between rows that are told


class _Lines:
    """A report as lines of JSON for the process that waits for them; rows no oftener than somebody can read."""

    def __init__(self, file: Any) -> None:
        self._file, self._due = file, 0.0
        self._rows: Sequence[dict[str, float]] | None = None  # not told yet

    def update(self, global_step: int, rows: Sequence[dict[str, float]]) -> None:
        self._rows = rows
        if time.monotonic() >= self._due:
            self._tell_rows()

    def note(self, text: str) -> None:
        self.write({"note": text})

    def write(self, event: dict[str, Any]) -> None:
        self._tell_rows()
        self._file.write(json.dumps(event) + "\n")

    def _tell_rows(self) -> None:
        if self._rows is not None:
            self._file.write(json.dumps({"rows": self._rows}) + "\n")
            self._rows, self._due = None, time.monotonic() + _PAUSE_S


def main() -> int:
    """Read a job, train it, say how it went."""
    die_with_parent()
    search_rarely()
    for number in (signal.SIGINT, signal.SIGTERM):  # how it is asked to stop; in the background SIGINT is ignored
        signal.signal(number, signal.default_int_handler)
    lines = _Lines(os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever libraries print must not get between the lines
    job = json.load(sys.stdin)
    cells = [Cell.from_json(stored) for stored in job["cells"]]
    try:
        checkpoints = None if job["checkpoints"] is None else Path(job["checkpoints"])
        train_job(cells, lines, job_type=job["job_type"], checkpoints=checkpoints, resume=job["resume"])
    except UserError as error:
        lines.write({"error": str(error)})
        return 2
    except Stopped:
        return EXIT_CODE
    except KeyboardInterrupt:
        return 130
    lines.write({"peak": peak_memory()})
    return 0


def train_job(
    cells: Sequence[Cell], report: Report, *, job_type: str, checkpoints: Path | None = None, resume: bool = False
) -> None:
    """Train cells of one structure in this process; their run directories hold the result.

    Raises:
        Stopped: it was asked to by a signal; there is a checkpoint to go on from.
    """
    import torch

    from entropic_rl.agents import agent_class
    from entropic_rl.environments import import_gym_packages
    from entropic_rl.runs import train_cells

    keep_freed_memory()
    import_gym_packages(cells[0].run.gym_packages)
    torch.set_num_threads(cells[0].run.num_threads)
    if cells[0].agent.startswith("sb3:"):
        from entropic_rl.sb3.cell import train_sb3_cell

        for cell in cells:
            train_sb3_cell(cell, report, job_type=job_type)
        return
    train = partial(train_cells, agent_class(cells[0].agent), cells, report, job_type=job_type, checkpoints=checkpoints)
    with stopping_on_signals() as stop:
        try:
            train(resume=resume, should_stop=stop)
        except NotResumableError as error:
            report.note("begins anew")
            print(f"what cannot be gone on with begins anew: {error}", file=sys.stderr)
            if checkpoints is not None:
                shutil.rmtree(checkpoints, ignore_errors=True)
            train(should_stop=stop)


def peak_memory() -> int:
    """Bytes of memory this process has held at most."""
    import resource

    with suppress(OSError):  # where it is said: the peak below begins with that of the process that started this one
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    sys.exit(main())
