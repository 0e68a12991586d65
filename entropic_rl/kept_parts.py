"""Parts of long work on disk: each that is done stays, a training on its way is written down as it goes.

Part number N lies in ``DIRECTORY/N`` as checkpoints (:mod:`entropic_rl.checkpoint`), with a digest of what it was made
of: what is found there is of the same work, or refused.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from entropic_rl.checkpoint import Clock, newest_checkpoint, save_checkpoint
from entropic_rl.checkpointing import compare_versions, made_with
from entropic_rl.errors import NotResumableError
from entropic_rl.interruption import Stopped
from entropic_rl.run_directory import KEPT
from entropic_rl.snapshots import Snapshot, flaw_after, take
from entropic_rl.supervised.fitting import Fitting, Table

__all__ = ["KeptParts"]

T = TypeVar("T")


class KeptParts:
    """Parts in the order in which they are asked for (:class:`entropic_rl.parts.Parts`).

    Args:
        directory: of all parts.
        settings: text that says all that was asked for; parts of others are refused.
        every_seconds: wall-clock seconds between two checkpoints within a training; 0 for none but at its end.
        should_stop: asked at every epoch and before every part.
        begin: called before the first thing that is to be kept.

    Attributes:
        seconds_before: what those parts took that were found.
    """

    def __init__(
        self,
        directory: Path,
        *,
        settings: str,
        every_seconds: float,
        should_stop: Callable[[], bool],
        begin: Callable[[], None],
    ) -> None:
        self._directory, self._settings = directory, settings
        self._every_seconds, self._should_stop, self._begin = every_seconds, should_stop, begin
        self._n, self._has_begun = 0, False
        self.seconds_before = 0.0

    def fit(
        self,
        fitting: Fitting,
        table: Table,
        rows: Tensor,
        held_out: Tensor | None = None,
        on_epoch: Callable[[int, Tensor], None] | None = None,
    ) -> None:
        """Train from the newest checkpoint, and write others on the way and at the end.

        Raises:
            NotResumableError: what is found is of another training.
            RunDirectoryError: the disk is full, or refuses.
            Stopped: it was asked to; a checkpoint is written.
        """
        fitting.prepare(early_stopping=held_out is not None)
        part = self._next(table.x, table.target, rows, held_out, fitting.network.values)
        roots = {"fitting": fitting}
        found = part.find()
        if found is not None:
            flaw = flaw_after(found, roots)
            if flaw is not None:
                raise part.complaint(flaw)
            self.seconds_before += part.seconds_before
        n_found, clock = fitting.n_done, Clock(self._every_seconds)

        def after(epoch: int, losses: Tensor) -> None:
            if on_epoch is not None:
                on_epoch(epoch, losses)
            is_asked = self._should_stop()
            if is_asked or clock.is_due():
                with clock.writing():
                    part.keep(epoch, take(roots, copy=False), n_kept=KEPT)
            if is_asked:
                raise Stopped

        fitting.run(table, rows, held_out, after)
        if fitting.n_done > n_found:
            part.keep(fitting.n_done, take(roots, copy=False))

    def part(self, make: Callable[[], Snapshot], read: Callable[[Snapshot], T], *made_of: Any) -> T:
        """What ``make`` gave before of the same, or gives now, as it is read.

        Raises:
            NotResumableError: what is found was made of something else, or cannot be read.
            RunDirectoryError: the disk is full, or refuses.
            Stopped: it was asked to, before this part.
        """
        part = self._next(*made_of)
        found = part.find()
        if found is None:
            made = make()
            part.keep(0, made)
            return read(made)
        self.seconds_before += part.seconds_before
        try:
            return read(found)
        except (KeyError, IndexError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise part.complaint(error) from None

    def check(self) -> None:
        """Stop here if somebody asked to.

        Raises:
            Stopped: somebody did.
        """
        if not self._has_begun:
            self._begin()
            self._has_begun = True
        if self._should_stop():
            raise Stopped

    def _next(self, *made_of: Any) -> _Part:
        self.check()
        self._n += 1
        return _Part(self._directory / f"{self._n:05d}", _digest(self._settings, *made_of))


class _Part:
    """The folder of one part."""

    def __init__(self, directory: Path, digest: str) -> None:
        self.directory, self._digest = directory, digest
        self._began, self.seconds_before = time.perf_counter(), 0.0

    def find(self) -> Snapshot | None:
        """The newest state of it that is sound; None if there is none.

        Raises:
            NotResumableError: it was made of something else, or does not say of what.
        """
        found = newest_checkpoint(self.directory)
        if found is None:
            return None
        _, snapshot, notes = found
        if not isinstance(notes, dict) or not isinstance(notes.get("made_with"), dict):
            raise self.complaint("it does not say what it was made with")
        if notes.get("digest") != self._digest:
            raise NotResumableError(
                f"{self.directory} was made of other data or settings: expected those that the work was begun with; "
                "put them back, or begin anew"
            )
        compare_versions(notes["made_with"])
        seconds = notes.get("seconds")
        self.seconds_before = float(seconds) if isinstance(seconds, int | float) else 0.0
        return snapshot

    def complaint(self, flaw: object) -> NotResumableError:
        """That it cannot be gone on with."""
        return NotResumableError(f"{self.directory} is damaged or of another version ({flaw}); begin anew")

    def keep(self, step: int, snapshot: Snapshot, *, n_kept: int = 1) -> None:
        """Write a state of it down."""
        seconds = self.seconds_before + time.perf_counter() - self._began
        notes = {"digest": self._digest, "made_with": made_with(), "seconds": seconds}
        save_checkpoint(self.directory, step, snapshot, notes, kept=n_kept)


def _digest(*items: Any) -> str:
    """Of tensors, arrays, and plain values."""
    found = hashlib.sha256()
    for item in items:
        if isinstance(item, Tensor | np.ndarray):
            numbers = np.ascontiguousarray(item.detach().cpu().numpy() if isinstance(item, Tensor) else item)
            found.update(f"{numbers.dtype.str}{numbers.shape}".encode())
            found.update(numbers.tobytes())
        else:
            found.update(json.dumps(item).encode())
    return found.hexdigest()
