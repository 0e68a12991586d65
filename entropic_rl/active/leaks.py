"""Labels that lie hidden in a pool, where a model would read them off; free of torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from entropic_rl.datasets.pools import Pool, RawTable
from entropic_rl.errors import ConfigError

__all__ = ["check_copies", "check_headings"]

_HEADINGS = {"label", "labels", "target", "y"}  # y of npz alone: in a table it is as often a coordinate
_LEAST = 20  # labels from which on a column is compared with them
_LEAST_APART = 3  # of them that are not of the commonest class: fewer are told apart by chance too easily


def check_headings(table: RawTable, *, dropped: Sequence[str] = (), keep: Sequence[str] = ()) -> None:
    """Refuse a column that is named as labels are.

    Raises:
        ConfigError: naming it, and both ways out.
    """
    table.check_columns("keep", keep)
    for column in table.columns:
        named = column.lower() in _HEADINGS and (column.lower() != "y" or column not in table.features)
        if named and column not in dropped and column not in keep:
            raise ConfigError(
                f"{table.name}: expected rows without labels, got the column {column!r}: if it holds labels, give "
                f"--drop {column}; if it is a feature, --keep {column}"
            )


def check_copies(pool: Pool, labels: Mapping[int, str], *, keep: Sequence[str] = ()) -> None:
    """Refuse a feature that maps one to one to the labels of all labelled rows.

    Nothing is said below 20 labels, nor where fewer than 3 differ from the commonest: a feature of two values is a copy
    of 17 labels against 3 by chance once in about a thousand times.

    Raises:
        ConfigError: naming the column, and both ways out.
    """
    counts = Counter(labels.values())
    if len(labels) < _LEAST or len(labels) - max(counts.values()) < _LEAST_APART:
        return
    for column in pool.categories:
        values = pool.table.columns[column]
        pairs = {(str(values[row]), label) for row, label in labels.items()}
        n_values = len({value for value, _ in pairs})
        if column not in keep and len(pairs) == n_values == len(counts):
            raise ConfigError(
                f"{pool.table.name}: expected rows without labels, got the column {column!r}, which gives away all "
                f"{len(labels)} labels so far: if it holds labels, give --drop {column}; if it is a feature, "
                f"--keep {column}"
            )
