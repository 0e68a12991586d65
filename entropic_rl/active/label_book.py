"""The labels of a pool in a person's words: read, checked, taken and taken back; free of torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from entropic_rl.active.labels import LabelFile
from entropic_rl.config import suggestion
from entropic_rl.datasets.pools import Pool
from entropic_rl.errors import ConfigError
from entropic_rl.run_directory import strict, write_json

__all__ = ["LabelBook"]


class LabelBook:
    """Labels of rows of a pool, kept in a file, each on disk when it has been taken.

    Beside ``labels.csv`` lies ``labels.session.json``: which pool its row numbers are of, and what models said.

    Args:
        pool: whose rows they are.
        path: the file of labels.
        classes: all labels there can be; empty if whatever comes is one.

    Attributes:
        labels: of rows, in the order in which they came.

    Raises:
        ConfigError: the file is of another pool, has two labels for a row, or one of no class.
    """

    def __init__(self, pool: Pool, path: Path, classes: Sequence[str] = ()) -> None:
        self.path, self._pool, self._given = path, pool, tuple(classes)
        self._file = LabelFile(path, pool.key)
        self._beside = path.with_name(f"{path.stem}.session.json")
        entries = self._file.read()
        if entries:
            self._check_pool()
        self.labels: dict[int, str] = {}
        for name, label in entries:
            row = self._checked(name, label, str(path))
            if self.labels.setdefault(row, label) != label:
                raise ConfigError(
                    f"{path}: expected one label for {pool.key} {name}, got {self.labels[row]} and {label}; delete "
                    "the wrong line"
                )

    @property
    def key(self) -> str:
        """What names rows."""
        return self._pool.key

    @property
    def classes(self) -> list[str]:
        """All labels there can be, or those met."""
        return sorted(self._given or set(self.labels.values()))

    @property
    def unlabelled(self) -> list[int]:
        """Rows without a label, in order."""
        return [row for row in range(len(self._pool)) if row not in self.labels]

    def take(self, entries: Sequence[tuple[str, str]], source: str) -> int:
        """Take labels of named rows, all or none; how many are new. What is known may be said again.

        Raises:
            ConfigError: nothing is taken: there is no such row or class, or a row has another label.
        """
        new: dict[int, str] = {}
        for name, label in entries:
            row = self._checked(name, label, source)
            before = self.labels.get(row) or new.setdefault(row, label)
            if before != label:
                where = str(self.path) if row in self.labels else "the same file"
                raise ConfigError(
                    f"{source}: {self._pool.key} {name} has the label {before} already, in {where}, got {label}; "
                    "nothing was taken; mend one of them"
                )
        if new:
            self.remember("key", self._pool.key)
            self._file.append([self._pool.names[row] for row in new], new.values())
            self.labels.update(new)
        return len(new)

    def add(self, row: int, label: str) -> int:
        """Take one label, on disk when this returns; where it begins there, for :meth:`undo`."""
        self.remember("key", self._pool.key)  # which pool row numbers are of, before the first is written
        place = self._file.append([self._pool.names[row]], [label])
        self.labels[row] = label
        return place

    def undo(self, row: int, place: int) -> None:
        """Take back the label that was added last."""
        self._file.cut(place)
        del self.labels[row]

    def holds(self, name: str, label: str) -> bool:
        """Whether that is the label of the row of that name."""
        return self.labels.get(self._pool.rows.get(name, -1)) == label

    def flaw(self, label: str) -> str:
        """What is wrong with a label; nothing if it is one of the classes."""
        if not self._given or label in self._given:
            return ""
        return f"expected one of the classes {', '.join(self._given)}, got {label!r}{suggestion(label, self._given)}"

    def recall(self, name: str) -> Any:
        """What was kept under a name for later sessions; None if nothing."""
        return self._kept().get(name)

    def remember(self, name: str, content: Any) -> None:
        """Keep something for later sessions.

        Raises:
            ConfigError: it cannot be written.
        """
        kept = self._kept() | {"pool": self._pool.fingerprint, name: content}
        if strict(kept) == self._kept():
            return
        try:
            self._beside.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._beside, kept)
        except OSError as error:
            raise ConfigError(f"{self._beside}: cannot be written: {error.strerror}") from None

    def _kept(self) -> dict[str, Any]:
        try:
            found = json.loads(self._beside.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):  # it only helps: labels are whole without it
            return {}
        return found if isinstance(found, dict) else {}

    def _check_pool(self) -> None:
        before = self.recall("pool")
        if before is not None and self._pool.key == "row" and before != self._pool.fingerprint:
            raise ConfigError(
                f"{self.path}: its row numbers are of another pool ({before}), got {self._pool.table.name} "
                f"({self._pool.fingerprint}); give the pool that it was begun with, or name rows by --id COLUMN in a "
                f"new file; if rows are in the same places, delete {self._beside.name}"
            )

    def _checked(self, name: str, label: str, source: str) -> int:
        row = self._pool.rows.get(name)
        if row is None:
            there = f"0 to {len(self._pool) - 1}" if self._pool.key == "row" else "those of its column"
            raise ConfigError(
                f"{source}: expected rows of {self._pool.table.name}, got {self._pool.key} {name!r}, which is none of "
                f"{there}; give the pool that the labels are of"
            )
        flaw = self.flaw(label)
        if flaw:
            raise ConfigError(f"{source}: {self._pool.key} {name}: {flaw}")
        return row
