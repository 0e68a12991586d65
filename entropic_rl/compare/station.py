"""The far end of an order: a job trained on another machine by the same process as at home; free of torch."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import redirect_stderr, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from entropic_rl.cell import Cell
from entropic_rl.compare.jobs import Job
from entropic_rl.compare.parcels import Sender, folders_of, put_down
from entropic_rl.compare.pool import run_jobs
from entropic_rl.interruption import Stopped

__all__ = ["Line", "sees", "work"]

_LOOK_S = 2.0  # between two looks for a checkpoint to send


class Line(Protocol):
    """To whoever gave the order."""

    def say(self, event: Mapping[str, Any]) -> None:
        """Tell something; what is said arrives in this order."""

    def asked_to_stop(self) -> bool:
        """Whether the job is to stop, or nobody is there any more."""


def sees(path: str, text: str) -> bool:
    """Whether this machine sees a file with this text, as whoever wrote it does."""
    with suppress(OSError):
        return Path(path).read_text() == text
    return False


def work(order: Mapping[str, Any], line: Line, *, is_shared: bool) -> None:
    """Train the job of an order; its end is the last that is said.

    Args:
        order: an :class:`entropic_rl.compare.remote.Order` as plain values.
        line: who hears of it.
        is_shared: whether the comparison's directory is seen here; if not, files are sent.
    """
    with suppress(OSError):
        os.chdir(order["cwd"])
    home = Path(order["out"])
    if is_shared:
        line.say({"ended": _train(_job(order, home), order["job"]["job_type"], line, None)})
        return
    here = Path(tempfile.mkdtemp(prefix="entropic-rl-"))
    try:
        job = _job(order, here)
        folders = folders_of(job, here)
        put_down(order["parcel"], here, folders)
        sender = Sender(here, folders)
        sender.skip()
        ended = _train(job, order["job"]["job_type"], line, sender)
        if parcel := sender.parcel():
            line.say({"files": parcel})
        line.say({"ended": ended})
    finally:
        shutil.rmtree(here, ignore_errors=True)


def _job(order: Mapping[str, Any], out: Path) -> Job:
    """The job with its directories under ``out``."""
    home, told = Path(order["out"]), order["job"]

    def moved(path: str) -> str:
        return str(out / Path(path).relative_to(home))

    cells = [Cell.from_json({**cell, "directory": moved(cell["directory"])}) for cell in told["cells"]]
    checkpoints = None if told["checkpoints"] is None else Path(moved(told["checkpoints"]))
    return Job(tuple(cells), 0, checkpoints, told["resume"])


def _train(job: Job, job_type: str, line: Line, sender: Sender | None) -> dict[str, Any] | None:
    """How it ended; None if it was asked to stop."""
    looked, known = time.monotonic(), "" if sender is None else sender.newest_checkpoint()

    def beat() -> None:
        nonlocal looked, known
        if line.asked_to_stop():
            raise Stopped
        if sender is None or time.monotonic() - looked < _LOOK_S:
            return
        looked, newest = time.monotonic(), sender.newest_checkpoint()
        if newest != known:
            known = newest
            line.say({"files": sender.parcel()})

    complaints = io.StringIO()
    try:
        with redirect_stderr(complaints):
            [ended] = run_jobs([job], 1, job_type=job_type, tell=lambda _, event: line.say(event), beat=beat)
    except Stopped:
        return None
    finally:
        if lines := complaints.getvalue().splitlines():
            line.say({"warnings": lines})
    return asdict(ended)
