"""Labels on disk: a CSV of ``row,label`` that only grows, each safe before the next one is asked for (no torch)."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path

from entropic_rl.errors import ConfigError

__all__ = ["LabelFile"]

_HEADING = ["row", "label"]


class LabelFile:
    """Labels of rows in the order in which they came, as text.

    A line that a crash has cut off, which can only be the last one, is not counted and is written over.

    Args:
        path: of the file; made with the first label.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[tuple[str, str]]:
        """Rows and labels as they are written.

        Raises:
            ConfigError: the heading is another, or a line has not two cells, or no label.
        """
        if not self.path.exists():
            return []
        text = self._whole().decode("utf-8-sig")
        lines = list(csv.reader(io.StringIO(text)))
        if not lines:
            return []
        if [cell.strip().lower() for cell in lines[0]] != _HEADING:
            raise ConfigError(f"{self.path}: expected the heading row,label, got {','.join(lines[0])[:60]!r}")
        found = []
        for number, line in enumerate(lines[1:], start=2):
            cells = [cell.strip() for cell in line]
            if not any(cells):
                continue
            if len(cells) != 2 or not all(cells):
                raise ConfigError(
                    f"{self.path}: expected a row and its label in line {number}, got {','.join(cells)[:60]!r}"
                )
            found.append((cells[0], cells[1]))
        return found

    def append(self, rows: Iterable[object], labels: Iterable[object]) -> None:
        """Add labels, on disk when this returns."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        kept = self._whole() if self.path.exists() else b""
        if not kept:
            writer.writerow(_HEADING)
        elif not kept.endswith(b"\n"):
            text.write("\n")
        writer.writerows(zip(rows, labels, strict=True))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.truncate(len(kept))
            file.write(text.getvalue().encode())
            file.flush()
            os.fsync(file.fileno())

    def _whole(self) -> bytes:
        """What the file holds, but for a last line that has neither an end nor two cells: a crash has cut it off."""
        content = self.path.read_bytes()
        end = content.rfind(b"\n") + 1
        cells = content[end:].decode("utf-8", "replace").split(",")
        return content if len(cells) == len(_HEADING) and all(cell.strip() for cell in cells) else content[:end]
