"""The run directory as files: the record that everything else is a view of.

``config.json`` the resolved settings, ``metrics.jsonl`` one row per interval, ``summary.json`` the end,
``policy.safetensors`` and ``policy.json`` what was learned, ``*.svg`` pictures. No torch here.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from entropic_rl.errors import RunDirectoryError

__all__ = ["check_run_directory", "read_json", "read_metrics", "write_json"]


def check_run_directory(directory: Path) -> None:
    """Refuse a run directory that cannot take a new run; creates nothing.

    Raises:
        RunDirectoryError: it is not empty, is no directory, or cannot be written.
    """
    flaw = ""
    if directory.is_dir():
        if any(directory.iterdir()):
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
    if flaw:
        raise RunDirectoryError(f"run directory {directory} {flaw}: expected a new or empty one; choose another")


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that a reader never sees half of it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=2, allow_nan=True) + "\n")
    os.replace(temporary, path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON mapping from a run directory.

    Raises:
        RunDirectoryError: it is missing, unreadable or no mapping.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise RunDirectoryError(
            f"no {path.name} in {path.parent}: expected a run directory of a finished training"
        ) from None
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"cannot read {path}: {error}") from None
    if not isinstance(content, dict):
        raise RunDirectoryError(f"{path} is damaged: expected a JSON object, got a {type(content).__name__}")
    return content


def read_metrics(directory: Path) -> list[dict[str, float]]:
    """The rows of ``metrics.jsonl``; an unfinished last line is left out."""
    rows = []
    for line in (directory / "metrics.jsonl").read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
