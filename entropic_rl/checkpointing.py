"""When the state of a training is written down, and how one that was stopped goes on from it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from entropic_rl.checkpoint import Clock, newest_checkpoint, remove_newer, save_checkpoint
from entropic_rl.diagnostics.record import FlowRecord, Rhythm
from entropic_rl.diagnostics.verdicts import Way
from entropic_rl.errors import NotResumableError
from entropic_rl.ranks import ALONE, Ranks
from entropic_rl.run_directory import KEPT
from entropic_rl.snapshots import Snapshot, flaw_after, take
from entropic_rl.tracking import Recorder, versions
from entropic_rl.training import Training

__all__ = ["Checkpointer", "compare_versions", "made_with"]

_LATE = (FlowRecord, Rhythm, Way)  # made when a network is looked at first
_MATTERS = ("entropic-rl", "torch", "numpy", "gymnasium", "python")  # for the bits


class Checkpointer:
    """Writes the state of a training down between its steps, and puts it back.

    Args:
        directory: of the checkpoints; None for none.
        training: whose state it is.
        parts: objects with state beside the training, by name.
        recorders: whose files are cut back to what they were.
        settings: plain values that a checkpoint is good for.
        every_updates: updates between two checkpoints; 0 for the clock alone.
        every_seconds: wall-clock seconds between two; 0 for the count alone.
        ranks: processes that learn together, each of which writes its own at the same steps.

    Attributes:
        is_possible: whether there is nothing in the training that cannot be kept.
    """

    def __init__(
        self,
        directory: Path | None,
        training: Training,
        parts: Mapping[str, Any],
        recorders: Sequence[Recorder],
        *,
        settings: Sequence[Mapping[str, Any]] = (),
        every_updates: int,
        every_seconds: float,
        ranks: Ranks = ALONE,
    ) -> None:
        self._directory, self._recorders = directory, recorders
        self._roots = {"agent": training.agent, "training": training, **parts}
        self._training, self._ranks = training, ranks
        self._settings = [{**each} for each in settings]
        self._every_updates, self._clock = every_updates, Clock(every_seconds)
        self.is_possible = bool(ranks.lowest(int(self._try())))

    def between_updates(self) -> None:
        """Write a checkpoint if it is time."""
        by_count = self._every_updates and self._training.n_updates % self._every_updates == 0
        if self.is_possible and (by_count or self._ranks.first_says(self._clock.is_due())):
            self.save()

    def save(self, *, kept: int = KEPT) -> None:
        """Write a checkpoint now; nothing where that is not possible.

        Raises:
            RunDirectoryError: the disk is full, or refuses.
        """
        if self._directory is None or not self.is_possible:
            return
        offsets = [recorder.offset() for recorder in self._recorders]
        notes = {"offsets": offsets, "made_with": made_with(), "settings": self._settings}
        with self._clock.writing():
            save_checkpoint(self._directory, self._training.n_steps, take(self._roots, copy=False), notes, kept=kept)

    def resume(self) -> int | None:
        """Put the newest sound checkpoint back; returns its env steps, or None if there is none to put back.

        Raises:
            NotResumableError: it is of another training, or the environments did not come back to where they were.
        """
        return self._ranks.agree(lambda: self._put_back(self._newest()))

    def _newest(self) -> tuple[int, Snapshot, dict[str, Any]] | None:
        """The newest that is sound; of several processes, the newest that all of them have."""
        found = None if self._directory is None else newest_checkpoint(self._directory)
        if self._directory is None or self._ranks.size == 1:
            return found
        lowest = self._ranks.lowest(-1 if found is None else found[0])
        if lowest < 0 and self._ranks.lowest(int(found is None)) == 0:
            raise NotResumableError(
                "some of the processes have no checkpoint where others have one: bring their folders back, or remove "
                "the others' to begin anew"
            )
        if found is not None and found[0] > lowest >= 0:
            found = newest_checkpoint(self._directory, at_most=lowest)
        has_all = self._ranks.lowest(int(lowest < 0 or (found is not None and found[0] == lowest)))
        if not has_all:
            raise NotResumableError(_complaint("the processes have no checkpoint of the same step"))
        return found if lowest >= 0 else None

    def _put_back(self, found: tuple[int, Snapshot, dict[str, Any]] | None) -> int | None:
        if found is None:
            for recorder in self._recorders:
                recorder.cut_back(0)
            return None
        step, snapshot, notes = found
        offsets = self._checked(notes)
        compare_versions(notes["made_with"])
        _compare_settings(notes.get("settings", self._settings), self._settings)
        flaw = flaw_after(snapshot, self._roots, late=_LATE)
        if flaw is not None:
            raise NotResumableError(_complaint(flaw))
        for recorder, offset in zip(self._recorders, offsets, strict=True):
            recorder.cut_back(offset)
        if self._directory is not None:
            remove_newer(self._directory, step)
        return step

    def _checked(self, notes: Any) -> list[int]:
        """Where the records are to be cut back to, if there are such places in them."""
        sizes = [recorder.offset() for recorder in self._recorders]
        offsets: Any = notes.get("offsets") if isinstance(notes, dict) else None
        known = isinstance(offsets, list) and len(offsets) == len(sizes) and isinstance(notes.get("made_with"), dict)
        if not known or not all(type(x) is int and 0 <= x <= size for x, size in zip(offsets, sizes, strict=True)):
            raise NotResumableError(
                f"the checkpoint is not of this metrics.jsonl: expected at most its {sizes} bytes to go on after, got "
                f"{str(offsets)[:60]}; train anew"
            )
        return list(offsets)

    def _try(self) -> bool:
        if self._directory is None or not (self._every_updates or self._clock.every_seconds):
            return False
        try:
            take(self._roots, copy=False)
        except TypeError as error:
            warnings.warn(f"no checkpoints are written, the run cannot be resumed: {error}", stacklevel=3)
            return False
        return True


def made_with() -> dict[str, Any]:
    """What the bits of a training depend on, beside its settings."""
    return {name: versions()[name] for name in _MATTERS} | {"threads": torch.get_num_threads()}


def compare_versions(then: Mapping[str, Any]) -> None:
    """Warn of what :func:`made_with` says otherwise than it did."""
    other = [f"{name} {then.get(name)} then, {now} now" for name, now in made_with().items() if then.get(name) != now]
    if other:
        warnings.warn(f"resuming with other software, the bits may differ ({'; '.join(other)})", stacklevel=3)


def _compare_settings(then: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> None:
    if len(then) != len(now):
        raise NotResumableError(_complaint(f"{len(then)} runs, not {len(now)}"))
    for before, after in zip(then, now, strict=True):
        other = [name for name in {**before, **after} if json.dumps(before.get(name)) != json.dumps(after.get(name))]
        if other:
            raise NotResumableError(_complaint(", ".join(other)))


def _complaint(flaw: str) -> str:
    _, is_env, copy = flaw.partition(".copies.")
    if is_env:
        return (
            f"environment {copy.partition('.')[0]} did not come back to where it was when its episode was played "
            "again: expected one that draws from its own np_random alone; train anew"
        )
    return f"the checkpoint is of other settings or another version ({flaw}); resume with those, or anew"
