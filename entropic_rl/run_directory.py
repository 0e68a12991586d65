"""The run directory as files: the record that everything else is a view of.

``config.json`` the resolved settings, ``metrics.jsonl`` one row per interval, ``summary.json`` the end,
``policy.safetensors`` and ``policy.json`` what was learned, ``*.svg`` pictures. No torch here.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from entropic_rl.errors import RunDirectoryError, first_line

__all__ = [
    "CHECKPOINTS",
    "FAILED",
    "KEPT",
    "OFFENDING",
    "UNFINISHED",
    "check_links",
    "check_run_directory",
    "file_name",
    "is_record",
    "locked",
    "read_json",
    "read_json_lines",
    "read_metrics",
    "replace_file",
    "write_json",
]

CHECKPOINTS = "checkpoints"
"""Folder of the states that a training can go on from."""
KEPT = 2
"""Checkpoints that are kept: the newest, and the one before it."""
UNFINISHED = "unfinished.json"
"""What unfinished work was asked for, of classifiers; it can be gone on with."""
FAILED = "failed.json"
"""Why a run did not finish, if it is known."""
OFFENDING = "offending_batch.safetensors"
"""What its numbers broke on, if they did."""
_LONGEST = 200  # bytes of a name; file systems allow 255, and something may be added
_MARKS = ("policy.json", "metrics.jsonl", "plan.json", "learner.json")  # one of them lies in every directory of ours
_LOCK = ".lock"
_LEFT = (_LOCK, "config.json.tmp", f"{UNFINISHED}.tmp")  # by a kill, before anything was begun


def file_name(text: str) -> str:
    """A text, such as an environment's id, as the name of one file: nothing in it leads elsewhere, and it is not long.

    What a name cannot hold becomes ``-``; a digest keeps names apart of which only the beginning is left.
    """
    name = re.sub(r"[/\\:\x00-\x1f\x7f]", "-", text)
    name = f"-{name}" if name in ("", ".", "..") else name
    kept = name.encode(errors="replace")
    if len(kept) <= _LONGEST:
        return kept.decode()
    digest = hashlib.sha256(kept).hexdigest()[:16]
    return f"{kept[: _LONGEST - 17].decode(errors='ignore')}-{digest}"


def check_run_directory(directory: Path) -> None:
    """Refuse a run directory that cannot take a new run; creates nothing.

    Raises:
        RunDirectoryError: it is not empty, is no directory, cannot be written, or no system takes its name.
    """
    try:
        flaw = _flaw(directory) if "\0" not in str(directory) else "has a character that no name can have"
    except OSError as error:
        flaw = f"cannot be made: {error.strerror}"
    if flaw:
        raise RunDirectoryError(f"run directory {directory} {flaw}: expected a new or empty one; choose another")


def _flaw(directory: Path) -> str:
    """Why a directory cannot take a new run; nothing if it can."""
    flaw = ""
    if directory.is_dir():
        if (directory / UNFINISHED).exists():
            flaw = f"holds unfinished work, which --resume {directory} goes on with"
        elif any(path.name not in _LEFT for path in directory.iterdir()):
            flaw = "is not empty"
        elif not os.access(directory, os.W_OK):
            flaw = "cannot be written"
    elif directory.exists():
        flaw = "is a file"
    else:
        parent = next(p for p in directory.absolute().parents if p.exists())
        if not parent.is_dir():
            flaw = f"cannot be made: {parent} is a file"
        elif not os.access(parent, os.W_OK):
            flaw = f"cannot be made: {parent} cannot be written"
    return flaw


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps other processes of ours out of a directory; a killed process leaves no lock.

    The directory is made if need be, and removed if nothing comes into it.

    Raises:
        RunDirectoryError: another process has it, or it cannot be made.
    """
    existed = directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / _LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise RunDirectoryError(
            f"another process is at work in {directory}: expected one at a time; wait for it, or stop it"
        ) from None
    except OSError as error:
        raise RunDirectoryError(f"cannot make run directory {directory}: {error.strerror}; choose another") from None
    try:
        yield
    finally:
        lock.release()
        if not existed and all(path.name == _LOCK for path in directory.iterdir()):
            shutil.rmtree(directory, ignore_errors=True)


def check_links(directory: Path) -> None:
    """Refuse a directory in which links lead out of it: what is written or deleted there would be somebody else's.

    Raises:
        RunDirectoryError: naming the first.
    """
    root = directory.resolve()
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name != "wandb"]  # which is written by its own package alone
        for path in (Path(folder, name) for name in (*folders, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise RunDirectoryError(
                    f"{path} is a link out of {directory}: expected all files of it inside; put what it leads to in "
                    "its place, or delete it"
                )


def is_record(directory: Path) -> bool:
    """Whether it looks like one of a run, a comparison or a learner."""
    return any((directory / name).exists() for name in _MARKS)


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that a reader never sees half of it."""
    replace_file(path, json.dumps(strict(content), indent=2, allow_nan=False) + "\n")


def replace_file(path: Path, text: str) -> None:
    """Write a text so that a reader sees all of the old or all of the new one."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.unlink(missing_ok=True)  # it may be a link to a file of somebody else's
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def strict(content: Any) -> Any:
    """The same with ``None`` for NaN and infinities, which JSON does not have."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: strict(value) for key, value in content.items()}
    return [strict(value) for value in content] if isinstance(content, list | tuple) else content


def read_json(path: Path, *, expected: str = "a run directory of a finished training") -> dict[str, Any]:
    """A JSON mapping from a run directory.

    Raises:
        RunDirectoryError: it is missing, unreadable or no mapping.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise RunDirectoryError(f"no {path.name} in {path.parent}: expected {expected}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunDirectoryError(f"cannot read {path}: {first_line(error)}") from None
    if not isinstance(content, dict):
        raise RunDirectoryError(f"{path} is damaged: expected a JSON object, got a {type(content).__name__}")
    return content


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one in each line, up to the first line that holds none: a torn end is left out."""
    found = []
    for line in path.read_bytes().splitlines():
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(content, dict):
            break
        found.append(content)
    return found


def read_metrics(directory: Path) -> list[dict[str, float]]:
    """The rows of ``metrics.jsonl``; an unfinished last line is left out, as is all that is no finite number."""
    rows = read_json_lines(directory / "metrics.jsonl")
    return [{name: value for name, value in row.items() if isinstance(value, int | float)} for row in rows]
