"""Labels on disk: a CSV of ``row,label`` that grows line by line, each safe before the next is asked for (no torch)."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path

from entropic_rl.errors import ConfigError, first_line

__all__ = ["LabelFile"]


class LabelFile:
    """Labels of rows in the order in which they came, as text.

    A line that a crash has cut off, which can only be the last one, is not counted and is written over.

    Args:
        path: of the file; made with the first label.
        key: heading of the first column: what names a row.
    """

    def __init__(self, path: Path, key: str = "row") -> None:
        self.path, self._heading = path, [key, "label"]

    def read(self) -> list[tuple[str, str]]:
        """Rows and labels as they are written.

        Raises:
            ConfigError: it cannot be read, the heading is another, or a line has not two cells, or no label.
        """
        if not self.path.exists():
            return []
        try:
            lines = list(csv.reader(io.StringIO(self._whole().decode("utf-8-sig"), newline="")))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ConfigError(f"{self.path}: expected labels as CSV in UTF-8, got {first_line(error)}") from None
        if not lines:
            return []
        if [cell.strip().lower() for cell in lines[0]] != [cell.lower() for cell in self._heading]:
            expected = ",".join(self._heading)
            raise ConfigError(f"{self.path}: expected the heading {expected}, got {','.join(lines[0])[:60]!r}")
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

    def append(self, rows: Iterable[object], labels: Iterable[object]) -> int:
        """Add labels, on disk when this returns.

        Returns:
            where they begin, for :meth:`cut`.

        Raises:
            ConfigError: it cannot be written.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        kept = self._whole() if self.path.exists() else b""
        if not kept:
            writer.writerow(self._heading)
        elif not kept.endswith(b"\n"):
            text.write("\n")
        writer.writerows(zip(rows, labels, strict=True))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.truncate(len(kept))
                file.write(text.getvalue().encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ConfigError(f"{self.path}: labels cannot be written there: {error.strerror}") from None
        return len(kept)

    def cut(self, place: int) -> None:
        """Take back what was added from ``place`` on, as :meth:`append` gave it; gone from disk when this returns."""
        with self.path.open("ab") as file:
            file.truncate(place)
            os.fsync(file.fileno())

    def _whole(self) -> bytes:
        """What the file holds, but for a last line that has neither an end nor two cells: a crash has cut it off."""
        content = self.path.read_bytes()
        end = content.rfind(b"\n") + 1
        try:
            [cells] = csv.reader([content[end:].decode("utf-8", "replace")], strict=True)
        except (csv.Error, ValueError):  # nothing, or in the middle of a quoted cell
            return content[:end]
        return content if len(cells) == len(self._heading) and all(cell.strip() for cell in cells) else content[:end]
