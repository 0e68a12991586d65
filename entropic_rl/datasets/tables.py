"""Files of the user's as labelled data: CSV, Parquet and npz (no torch)."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from entropic_rl.config import suggestion
from entropic_rl.datasets.data import Dataset, check_names, from_arrays, rows_without
from entropic_rl.errors import ConfigError, first_line
from entropic_rl.extras import missing_package

__all__ = [
    "READERS",
    "check_complete",
    "check_file",
    "feature_columns",
    "listed",
    "read_arrays",
    "read_cells",
    "read_file",
    "read_values",
    "typed",
]

_MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}
_MOST_CATEGORIES = 50


def read_file(path: Path, target: str | None, group: str | None) -> Dataset:
    """A file as a :class:`Dataset`: its ending says how it is read.

    Args:
        path: ``.csv`` or ``.tsv`` (a heading row; commas, semicolons, tabs or bars between), ``.parquet``, ``.npz``.
        target: the column of labels; of npz the array, by default ``y``, beside the array ``X``.
        group: the column (array) that keeps rows together in splits; no feature.

    Raises:
        ConfigError: the file cannot be read, a column is not there, or a value is missing or of the wrong kind.
    """
    check_file(path)
    return READERS[path.suffix.lower()](path, target, group)


def check_file(path: Path) -> None:
    """Refuse what is no file of an ending that can be read.

    Raises:
        ConfigError: saying which of both.
    """
    if not path.is_file():
        raise ConfigError(
            f"expected a file of data, got {path}, which is {'a folder' if path.exists() else 'not there'}"
        )
    if path.suffix.lower() not in READERS:
        raise ConfigError(f"expected a file ending in {', '.join(READERS)}, got {path}")


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of an npz file, by name.

    Raises:
        ConfigError: it is none, or holds objects.
    """
    try:
        stored = np.load(path, allow_pickle=False)
        if not isinstance(stored, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with stored:
            _check_size(stored)
            arrays = {name: stored[name] for name in stored.files}
        if odd := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"{odd[0]!r}, which is none")
        return arrays
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, MemoryError) as error:
        raise ConfigError(
            f"{path.name}: expected arrays X and y saved by numpy.savez, without objects, got {first_line(error)}"
        ) from None


def _check_size(stored: Any) -> None:
    """Refuse arrays that would take more memory than there is, before one is unpacked."""
    needed, available = sum(part.file_size for part in stored.zip.infolist()), psutil.virtual_memory().available
    if needed > available:
        raise ValueError(f"{needed / 1e9:.1f} GB once unpacked, more than the {available / 1e9:.1f} GB that are free")


def _npz(path: Path, target: str | None, group: str | None) -> Dataset:
    arrays = read_arrays(path)
    labels = "y" if target is None else target
    roles = {"X": "X", "target": labels, "group": labels if group is None else group}
    for role, name in roles.items():
        if name not in arrays:
            raise ConfigError(f"{path.name}: {role}: expected one of the arrays {', '.join(arrays)}, got {name!r}"
                              f"{suggestion(name, arrays)}")  # fmt: skip
    groups = None if group is None else arrays[group]
    return from_arrays(arrays["X"], arrays[labels], name=path.name, groups=groups)


def _csv(path: Path, target: str | None, group: str | None) -> Dataset:
    return _from_columns(path.name, {name: typed(cells) for name, cells in read_cells(path).items()}, target, group)


def read_cells(path: Path) -> dict[str, list[str]]:
    """Columns of a CSV by name, each cell as it is written but for blanks around it.

    Raises:
        ConfigError: it is no table with a heading row and a name for each column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name}: expected a text file in UTF-8, got {first_line(error)}") from None
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t|", key=first.count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row]
    except csv.Error as error:
        raise ConfigError(f"{path.name}: expected a table with a heading row, got {first_line(error)}") from None
    if not rows:
        raise ConfigError(f"{path.name}: expected a table with a heading row, got an empty file")
    heading = [name.strip() for name in rows[0]]
    if all(_number(name) is not None for name in heading):
        raise ConfigError(f"{path.name}: expected a heading row with the names of columns, got numbers: {first[:40]!r}")
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(heading):
            raise ConfigError(
                f"{path.name}: expected {len(heading)} values as in the heading, got {len(row)} in row {number} (the "
                "first below the heading is 1)"
            )
    if "" in heading:
        raise ConfigError(
            f"{path.name}: expected a name for each column, got none for column {heading.index('') + 1}; row numbers "
            "are no feature: leave them out (pandas: index=False), or name the column"
        )
    check_names(path.name, heading)
    return {name: [row[i].strip() for row in rows[1:]] for i, name in enumerate(heading)}


def _parquet(path: Path, target: str | None, group: str | None) -> Dataset:
    return _from_columns(path.name, read_values(path), target, group)


def read_values(path: Path) -> dict[str, list[Any]]:
    """Columns of a Parquet file by name; None where there is no value.

    Raises:
        ConfigError: it is none, or pyarrow is missing.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        needed = missing_package(error)
        if needed is None:
            raise
        raise ConfigError(f"{path.name}: Parquet files are read by {needed}, or save the table as CSV") from None
    try:
        with pyarrow.parquet.ParquetFile(path) as stored:  # read_table would take columns from names of folders
            table = stored.read()
    except (pyarrow.ArrowException, OSError) as error:
        raise ConfigError(f"{path.name}: expected a Parquet file, got {first_line(error)}") from None
    check_names(path.name, table.column_names)
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    return {name: values for name, values in columns.items() if not name.startswith("__index_level_")}  # of pandas


READERS = {".csv": _csv, ".tsv": _csv, ".npz": _npz, ".parquet": _parquet}


def _from_columns(name: str, columns: Mapping[str, Sequence[Any]], target: str | None, group: str | None) -> Dataset:
    names = list(columns)
    if target is None:
        raise ConfigError(f"{name}: expected the column of labels as target, got none; its columns are {listed(names)}")
    for role, column in {"target": target, "group": target if group is None else group}.items():
        if column not in columns:
            raise ConfigError(f"{name}: {role}: expected one of its columns, got {column!r}"
                              f"{suggestion(str(column), names) or f'; they are {listed(names)}'}")  # fmt: skip
    if target == group:
        raise ConfigError(f"{name}: expected different columns as target and group, got {target!r} for both")
    if not columns[target]:
        raise ConfigError(f"{name}: expected rows below the heading, got none")
    parts, feature_names = [], []
    for column, values in columns.items():
        check_complete(name, column, values)
        if column not in (target, group):
            part, labels = feature_columns(name, column, values)
            parts.append(part)
            feature_names.extend(labels)
    if not parts:
        raise ConfigError(f"{name}: expected a column of features beside target and group, got none")
    return from_arrays(
        np.concatenate(parts, 1), _labels(columns[target]), name=name, feature_names=feature_names,
        groups=None if group is None else [str(value) for value in columns[group]],
    )  # fmt: skip


def feature_columns(
    name: str, column: str, values: Sequence[Any], *, advice: str = "leave the column out, or name it as group"
) -> tuple[NDArray[np.float64], list[str]]:
    """A column of numbers as it is ``[N, 1]``, one of texts as one column per text ``[N, texts]``; and their names.

    Raises:
        ConfigError: it is neither, or of more texts than categories have; ``advice`` says what to do about that.
    """
    if all(isinstance(value, int | float) for value in values):
        return np.array(values, dtype=np.float64)[:, None], [column]
    strange = [row for row, value in enumerate(values) if not isinstance(value, str)]
    if strange:
        raise ConfigError(
            f"{name}: expected numbers or texts, got {type(values[strange[0]]).__name__} in column {column!r}; turn "
            "the column into numbers or leave it out"
        )
    texts = [row for row, value in enumerate(values) if _number(value) is None]
    if 0 < len(texts) < len(values) / 2:
        raise ConfigError(
            f"{name}: expected numbers in column {column!r}, got the text {values[texts[0]][:40]!r} in row "
            f"{texts[0] + 1} (the first is 1) and {len(texts) - 1} more; mend or drop those rows"
        )
    commas = [row for row, value in enumerate(values) if "," in value]
    if commas and all(_number(value.replace(",", ".")) is not None for value in values):
        raise ConfigError(
            f"{name}: expected numbers with decimal points in column {column!r}, got {values[commas[0]][:40]!r} in row "
            f"{commas[0] + 1} (the first is 1)"
        )
    categories = sorted(set(values))
    if len(categories) > _MOST_CATEGORIES or (len(categories) == len(values) and len(values) > 2):
        raise ConfigError(
            f"{name}: expected numbers or at most {_MOST_CATEGORIES} categories in column {column!r}, got "
            f"{len(categories)} different texts such as {categories[0][:40]!r} in {len(values)} rows; {advice}"
        )
    hot = np.array(values)[:, None] == np.array(categories)
    return hot.astype(np.float64), [f"{column}={category}" for category in categories]


def check_complete(name: str, column: str, values: Sequence[Any]) -> None:
    """Refuse a column with gaps.

    Raises:
        ConfigError: naming the first.
    """
    gaps = rows_without(values)
    if gaps:
        raise ConfigError(
            f"{name}: expected a value in every row, got none in column {column!r}, row {gaps[0] + 1} (the first is 1)"
            f", and {len(gaps) - 1} more of this column; fill or drop them"
        )


def _labels(values: Sequence[Any]) -> NDArray[Any]:
    """Labels that are not all numbers are texts."""
    numbers = all(isinstance(value, int | float) for value in values)
    return np.array(values if numbers else [str(value) for value in values])


def typed(texts: Sequence[str]) -> list[Any]:
    """A column of numbers if all that is there are numbers, else of texts as they are written; None where empty."""
    there = [None if text.lower() in _MISSING else text for text in texts]
    numbers = [None if text is None else _number(text) for text in there]
    return numbers if numbers.count(None) == there.count(None) else there


def _number(text: str) -> float | None:
    """A number as tables hold them; Python itself also reads ``1_000``."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def listed(names: Sequence[str]) -> str:
    """Names of columns, the first ten of many."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
