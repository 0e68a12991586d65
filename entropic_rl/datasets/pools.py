"""Tables without labels: features for a classifier, and the rest for the person who is asked (no torch)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entropic_rl.config import suggestion
from entropic_rl.datasets.data import Array, check_features, rows_without
from entropic_rl.datasets.tables import (
    check_complete,
    check_file,
    feature_columns,
    listed,
    read_arrays,
    read_cells,
    read_values,
    typed,
)
from entropic_rl.errors import ConfigError

__all__ = ["Pool", "RawTable", "pool_of", "read_table"]

Values = Sequence[Any] | NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class RawTable:
    """A file as columns.

    Attributes:
        name: of the file.
        columns: as they are written, by name: texts of CSV, values of Parquet, arrays ``[N]`` of npz.
        features: names of those that are features unless they are dropped: of npz the columns of ``X``.
        is_text: whether numbers are still texts.
    """

    name: str
    columns: Mapping[str, Values]
    features: tuple[str, ...]
    is_text: bool = False

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def typed(self, column: str) -> list[Any]:
        """A column as numbers, if they are all numbers, or texts; None where it has no value."""
        values = self.columns[column]
        if isinstance(values, np.ndarray):
            return values.tolist()
        return typed(values) if self.is_text else list(values)

    def texts(self, column: str) -> list[str]:
        """A column as it is written; empty where it has no value."""
        return [self.text(column, row) for row in range(len(self))]

    def text(self, column: str, row: int) -> str:
        """One cell of it."""
        value = self.columns[column][row]
        return "" if value is None else str(value).strip()

    def check_columns(self, role: str, names: Sequence[str]) -> None:
        """Refuse names of columns that are not there.

        Raises:
            ConfigError: with the closest one.
        """
        for name in names:
            if name not in self.columns:
                known = list(self.columns)
                raise ConfigError(f"{self.name}: {role}: expected one of its columns, got {name!r}"
                                  f"{suggestion(name, known) or f'; they are {listed(known)}'}")  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """P rows whose labels are unknown.

    Attributes:
        table: the file.
        X: features ``[P, D]``, float64, finite.
        feature_names: of the D features.
        key: what names rows: the column of their ids, or ``row`` where they are counted from 0.
        names: ``[P]``, of the rows, different ones.
        categories: texts of each column that became a feature; None where it is of numbers.
    """

    table: RawTable
    X: Array
    feature_names: tuple[str, ...]
    key: str
    names: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...] | None]

    def __len__(self) -> int:
        return len(self.X)

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of each name."""
        return {name: row for row, name in enumerate(self.names)}

    @cached_property
    def fingerprint(self) -> str:
        """What two pools have in common only if all their columns are the same."""
        digest = hashlib.sha256()
        for name, values in self.table.columns.items():
            digest.update(f"\x1d{name}\x1e".encode())
            digest.update(
                values.tobytes() if isinstance(values, np.ndarray) else "\x1f".join(map(str, values)).encode()
            )
        return f"{len(self)} rows, {digest.hexdigest()[:16]}"

    def features_of(self, table: RawTable) -> Array:
        """The same features of another table, ``[N, D]``; texts that the pool has not are none of its categories.

        Raises:
            ConfigError: a column of the pool is missing there, has gaps, or is of another kind.
        """
        table.check_columns("features of the pool", list(self.categories))
        parts = []
        for column, categories in self.categories.items():
            values = table.typed(column)
            check_complete(table.name, column, values)
            if categories is not None:
                parts.append(np.array([str(value) for value in values])[:, None] == np.array(categories))
                continue
            strange = [row for row, value in enumerate(values) if not isinstance(value, int | float | np.number)]
            if strange:
                raise ConfigError(
                    f"{table.name}: expected numbers in column {column!r}, as in the pool, got "
                    f"{str(values[strange[0]])[:40]!r} in row {strange[0] + 1} (the first is 1)"
                )
            parts.append(np.array(values, dtype=np.float64)[:, None])
        return check_features(np.concatenate(parts, 1, dtype=np.float64), table.name, self.feature_names)


def read_table(path: Path) -> RawTable:
    """A CSV, TSV, Parquet or npz file (features in its array ``X``) as columns.

    Raises:
        ConfigError: it is not there, cannot be read, or has no rows.
    """
    check_file(path)
    if path.suffix.lower() == ".npz":
        table = _from_arrays(path)
    else:
        is_text = path.suffix.lower() != ".parquet"
        columns = read_cells(path) if is_text else read_values(path)
        table = RawTable(name=path.name, columns=columns, features=tuple(columns), is_text=is_text)
    if not table.columns or not len(table):
        raise ConfigError(f"{path.name}: expected rows of data, got none")
    return table


def pool_of(table: RawTable, *, id_column: str | None = None, drop: Sequence[str] = ()) -> Pool:
    """A table as a pool: its features, and the names of its rows.

    Args:
        table: the file.
        id_column: whose values name the rows; no feature.
        drop: columns that are no features.

    Raises:
        ConfigError: a column is not there, has gaps or is no feature; an id is missing or there twice; no features are
            left.
    """
    table.check_columns("drop", drop)
    table.check_columns("id", [] if id_column is None else [id_column])
    names = tuple(str(row) for row in range(len(table))) if id_column is None else _ids(table, id_column)
    used = [column for column in table.features if column not in drop and column != id_column]
    if not used:
        raise ConfigError(f"{table.name}: expected at least one column of features, got none beside what is dropped "
                          "and the id")  # fmt: skip
    parts, feature_names = [], []
    categories: dict[str, tuple[str, ...] | None] = {}
    for column in used:
        values = table.typed(column)
        check_complete(table.name, column, values)
        part, made = feature_columns(
            table.name, column, values, advice=f"leave it out by --drop {column}, or name it by --id if it is one"
        )
        parts.append(part)
        feature_names.extend(made)
        categories[column] = None if made == [column] else tuple(name.removeprefix(f"{column}=") for name in made)
    X = check_features(np.concatenate(parts, 1), table.name, feature_names)
    key = "row" if id_column is None else id_column
    return Pool(
        table=table, X=X, feature_names=tuple(feature_names), key=key, names=names, categories=categories
    )  # fmt: skip


def _from_arrays(path: Path) -> RawTable:
    arrays = read_arrays(path)
    if "X" not in arrays:
        raise ConfigError(f"{path.name}: expected an array X, got {listed(list(arrays)) or 'none'}")
    X = check_features(arrays["X"], path.name)
    columns: dict[str, Values] = {f"x{d}": X[:, d] for d in range(X.shape[1])}
    features = tuple(columns)
    beside = {name: array for name, array in arrays.items() if name not in columns and name != "X"}
    columns |= {name: array for name, array in beside.items() if array.shape == (len(X),)}
    return RawTable(name=path.name, columns=columns, features=features)


def _ids(table: RawTable, column: str) -> tuple[str, ...]:
    ids = table.texts(column)
    gaps = rows_without([name or None for name in ids])
    if gaps:
        raise ConfigError(f"{table.name}: expected an id in every row, got none in column {column!r}, row "
                          f"{gaps[0] + 1} (the first is 1)")  # fmt: skip
    seen: dict[str, int] = {}
    for row, name in enumerate(ids):
        if name in seen:
            raise ConfigError(
                f"{table.name}: expected an id of its own for each row, got {name!r} in rows {seen[name] + 1} and "
                f"{row + 1} (the first is 1)"
            )
        seen[name] = row
    return tuple(ids)
