"""Files of jobs on their way between machines that do not see the same disk; free of torch.

A parcel is ``{path: bytes}`` with paths relative to the directory of the comparison. Checkpoints come first in it and
are put down last: a checkpoint says how long its record was, which may be longer than that but never shorter.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from entropic_rl.compare.jobs import Job
from entropic_rl.errors import RunDirectoryError
from entropic_rl.run_directory import KEPT

__all__ = ["Sender", "folders_of", "put_down"]

_PASSING = (".tmp", ".lock")  # ends of names of what is being written, or guards it


def folders_of(job: Job, out: Path) -> list[str]:
    """Folders that belong to a job, relative to the comparison's directory ``out``; that of its checkpoints first."""
    folders = [*([job.checkpoints] if job.checkpoints is not None else []), *(cell.directory for cell in job.cells)]
    return [folder.relative_to(out).as_posix() for folder in folders]


class Sender:
    """Packs what has changed since it did so last.

    Args:
        out: the directory of the comparison.
        folders: relative to it, of checkpoints first.
    """

    def __init__(self, out: Path, folders: Sequence[str]) -> None:
        self._out, self._folders = out, folders
        self._sent: dict[str, tuple[int, int]] = {}  # path -> size and time

    def parcel(self) -> dict[str, bytes]:
        """Files that are new or other than before."""
        parcel: dict[str, bytes] = {}
        for path in self._files():
            name = path.relative_to(self._out).as_posix()
            try:
                found = path.stat()
                state = (found.st_size, found.st_mtime_ns)
                if self._sent.get(name) != state:
                    parcel[name] = path.read_bytes()
                    self._sent[name] = state
            except FileNotFoundError:  # an old checkpoint, removed meanwhile
                continue
        return parcel

    def skip(self) -> None:
        """What is there now is known where parcels go."""
        self.parcel()

    def newest_checkpoint(self) -> str:
        """Its name; nothing if there is none."""
        names = [path.parent.name for path in self._files() if path.name == "manifest.json"]
        return max(names, default="")

    def _files(self) -> list[Path]:
        found = [path for folder in self._folders for path in sorted((self._out / folder).rglob("*"))]
        return [path for path in found if path.is_file() and not _is_passing(path)]


def put_down(parcel: Mapping[str, bytes], out: Path, folders: Sequence[str]) -> None:
    """Write the files of a parcel, those of checkpoints last.

    Args:
        parcel: what a :class:`Sender` packed.
        out: the directory of the comparison, here.
        folders: in which its files may lie, as :func:`folders_of` gives them.

    Raises:
        RunDirectoryError: a path leads elsewhere.
    """
    for name in parcel:
        if not _lies_in(name, folders):
            raise RunDirectoryError(f"a worker sent a file {name!r}: expected one in {', '.join(folders)}")
    rank = {name: next(i for i, folder in enumerate(folders) if name.startswith(f"{folder}/")) for name in parcel}
    # The manifest of a checkpoint, without which nobody reads it, is the very last.
    for name in sorted(parcel, key=lambda name: (-rank[name], name.endswith("manifest.json"))):
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f"{path.name}.tmp")
        beside.write_bytes(parcel[name])
        os.replace(beside, path)
        if path.name == "manifest.json":
            _drop_old(path.parent.parent)


def _drop_old(folder: Path) -> None:
    """Checkpoints that are no longer kept where they came from."""
    places = sorted((path for path in folder.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
    for old in places[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def _lies_in(name: str, folders: Sequence[str]) -> bool:
    path = PurePosixPath(name)
    plain = not path.is_absolute() and ".." not in path.parts and "\0" not in name and path.as_posix() == name
    return plain and any(name.startswith(f"{folder}/") for folder in folders)


def _is_passing(path: Path) -> bool:
    return any(part.endswith(_PASSING) for part in path.parts[-2:])
