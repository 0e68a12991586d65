"""States of trainings on disk: whole or not there, checked before they are believed, the newest that is sound.

A checkpoint is a folder ``CHECKPOINTS/STEP`` of ``tensors.safetensors``, ``tree.json`` and ``manifest.json``, which has
the SHA-256 of both. It is written beside its place, flushed to the disk, and moved there in one step: whoever reads
sees all of it or nothing. Nothing in it can run code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_as_bytes

from entropic_rl.errors import RunDirectoryError
from entropic_rl.run_directory import KEPT
from entropic_rl.snapshots import Snapshot

__all__ = ["Clock", "newest_checkpoint", "remove_checkpoints", "remove_newer", "save_checkpoint"]

_PATIENCE = 50
"""Times as long as a checkpoint took is worked before the clock asks for the next: at most 2 % of the time."""
_FORMAT = 1
_MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Format -> how its tree becomes one of the next format."""
_TENSORS, _TREE, _MANIFEST = "tensors.safetensors", "tree.json", "manifest.json"
_BLOCK = 2**24  # bytes
_DAMAGE = (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError)  # what reading it raises


class Clock:
    """When the next checkpoint is due.

    Args:
        every_seconds: wall-clock seconds between two; 0 for never.
    """

    def __init__(self, every_seconds: float) -> None:
        self.every_seconds = every_seconds
        self._written_at, self._took = time.monotonic(), 0.0

    def is_due(self) -> bool:
        """Whether it is time."""
        waited = time.monotonic() - self._written_at
        return self.every_seconds > 0.0 and waited >= max(self.every_seconds, _PATIENCE * self._took)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around the writing of one."""
        began = time.monotonic()
        yield
        self._written_at = time.monotonic()
        self._took = self._written_at - began


def save_checkpoint(
    directory: Path, step: int, snapshot: Snapshot, notes: Mapping[str, Any], *, kept: int = KEPT
) -> None:
    """Add a checkpoint to ``directory``, and remove those that are too old.

    Args:
        directory: of the checkpoints.
        step: what orders them, such as env steps.
        snapshot: the state.
        notes: plain values beside it.
        kept: how many stay, this one included.

    Raises:
        RunDirectoryError: the disk is full, or refuses; checkpoints from before are untouched.
    """
    place = directory / f"{step:015d}"
    if not _is_sound(place):  # if it is, the same training came here before, with the same bits
        _add(place, snapshot, notes)
    for old in _places(directory)[:-kept]:
        shutil.rmtree(old, ignore_errors=True)


def _add(place: Path, snapshot: Snapshot, notes: Mapping[str, Any]) -> None:
    directory = place.parent
    beside = directory / f"{place.name}.tmp"
    contents = {
        _TENSORS: tensors_as_bytes(snapshot.tensors),
        _TREE: json.dumps({"tree": snapshot.tree, "notes": dict(notes)}).encode(),
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    contents[_MANIFEST] = json.dumps({"format": _FORMAT, "sha256": digests}).encode()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        for name, content in contents.items():
            _write(beside / name, content)
        _flush_folder(beside)
        shutil.rmtree(place, ignore_errors=True)  # a damaged one
        os.replace(beside, place)
        _flush_folder(directory)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise RunDirectoryError(
            f"cannot write a checkpoint into {directory} ({error.strerror}); make room, then go on from the last one "
            "with --resume"
        ) from error


def newest_checkpoint(directory: Path, *, at_most: int | None = None) -> tuple[int, Snapshot, dict[str, Any]] | None:
    """The newest sound checkpoint: its step, the state and the notes; None if there is none.

    Those of steps after ``at_most``, if it is given, are left aside.

    Damaged ones are passed over with a warning that names the damage.

    Raises:
        RunDirectoryError: it was written by a later version of this package.
    """
    for place in reversed(_places(directory)):
        if at_most is not None and int(place.name) > at_most:
            continue
        try:
            snapshot, notes = _read(place)
        except _DAMAGE as error:
            warnings.warn(f"the checkpoint {place} is damaged and was passed over ({error})", stacklevel=2)
            continue
        return int(place.name), snapshot, notes
    return None


def remove_newer(directory: Path, step: int) -> None:
    """Checkpoints of a future that will not be: the record beside it is cut back, and will not have the same bytes."""
    for place in _places(directory):
        if int(place.name) > step:
            shutil.rmtree(place, ignore_errors=True)


def remove_checkpoints(directory: Path) -> None:
    """All of them, if there are any."""
    shutil.rmtree(directory, ignore_errors=True)


def _is_sound(place: Path) -> bool:
    try:
        _read(place)
    except _DAMAGE:
        return False
    return True


def _read(place: Path) -> tuple[Snapshot, dict[str, Any]]:
    manifest = json.loads((place / _MANIFEST).read_bytes())
    version = manifest["format"]
    contents = {name: (place / name).read_bytes() for name in (_TENSORS, _TREE)}
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != manifest["sha256"][name]:
            raise ValueError(f"{name} is not what its manifest says")
    if version > _FORMAT:
        raise RunDirectoryError(
            f"{place} has format {version}: expected at most {_FORMAT}; it needs a later version of entropic_rl"
        )
    both = json.loads(contents[_TREE])
    for older in range(version, _FORMAT):
        both = _MIGRATIONS[older](both)
    return Snapshot(both["tree"], tensors_from_bytes(contents[_TENSORS])), both["notes"]


def _places(directory: Path) -> list[Path]:
    """Folders of checkpoints, the oldest first."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if path.name.isdecimal() and path.is_dir())


def _write(path: Path, content: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(content), _BLOCK):
            block = content[start : start + _BLOCK]
            while block:
                block = block[file.write(block) :]
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
