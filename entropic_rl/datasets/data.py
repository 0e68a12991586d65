"""What labelled data is, and arrays of the user's checked to be some (no torch)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite, isnan
from typing import Any, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from entropic_rl.datasets.population import Array, Population
from entropic_rl.errors import ConfigError

__all__ = [
    "Array",
    "Dataset",
    "Ints",
    "check_features",
    "check_names",
    "encode_labels",
    "from_arrays",
    "generator",
    "rows_without",
]

Ints: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """N labelled rows.

    Attributes:
        name: of the source.
        X: features ``[N, D]``, float64, finite.
        y: labels ``[N]`` as columns 0 to C - 1, after label noise if there is any.
        clean_y: labels ``[N]`` before it.
        classes: the label of each column, in order.
        feature_names: of the D features.
        groups: ``[N]``, rows of equal number stay on one side of a split; None where rows are on their own.
        clean_posterior: ``[N, C]``, the true P(clean label | features) of each row; None where unknown.
        transition: ``[C, C]``, P(label in column j | clean label in column i); None without label noise.
        population: what rows were drawn from; None where unknown.
    """

    name: str
    X: Array
    y: Ints
    clean_y: Ints
    classes: tuple[Any, ...]
    feature_names: tuple[str, ...]
    groups: Ints | None = None
    clean_posterior: Array | None = None
    transition: Array | None = None
    population: Population | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def posterior(self) -> Array | None:
        """The true P(label | features) of each row ``[N, C]``, label noise included; None where unknown."""
        return None if self.clean_posterior is None else self._noisy(self.clean_posterior)

    @property
    def bayes_error(self) -> float | None:
        """The smallest error rate on labels as they are in ``y``; None where unknown."""
        return None if self.population is None else self.population.bayes_error(self.transition)

    @property
    def clean_bayes_error(self) -> float | None:
        """The smallest error rate on clean labels; None where unknown."""
        return None if self.population is None else self.population.bayes_error()

    def posterior_at(self, points: ArrayLike, *, clean: bool = False) -> Array:
        """The true P(label | features) at any points, ``[M, D] -> [M, C]``; ``clean`` leaves label noise out.

        Raises:
            ConfigError: it is unknown for this data, or points are none.
        """
        if self.population is None:
            raise ConfigError(f"{self.name}: expected data with a known posterior, which blobs and moons have")
        posterior = self.population.posterior(points)
        return posterior if clean else self._noisy(posterior)

    def take(self, rows: ArrayLike) -> Dataset:
        """These rows (integers or a mask ``[N]``), with everything that is known of them."""
        picked = np.asarray(rows)
        picked = picked if picked.dtype == bool else picked.astype(np.int64)
        own = ("X", "y", "clean_y", "groups", "clean_posterior")
        parts = {name: getattr(self, name) for name in own}
        return replace(self, **{name: part[picked] for name, part in parts.items() if part is not None})

    def summary(self) -> str:
        """Rows, columns, classes with their shares, and what is known, in one line."""
        shares = np.bincount(self.y, minlength=len(self.classes)) / max(len(self), 1)
        listed = ", ".join(f"{label} {share:.1%}" for label, share in zip(self.classes, shares, strict=True))
        columns = f"{self.X.shape[1]} column{'s' if self.X.shape[1] != 1 else ''}"
        parts = [f"{self.name}: {len(self)} rows, {columns}, {len(self.classes)} classes ({listed})"]
        if self.groups is not None:
            parts.append(f"{len(np.unique(self.groups))} groups")
        if self.transition is not None:
            parts.append(f"{(self.y != self.clean_y).mean():.1%} of the labels changed")
        if self.bayes_error is not None:
            parts.append(f"Bayes error {self.bayes_error:.1%}")
        return "; ".join(parts)

    def _noisy(self, posterior: Array) -> Array:
        return posterior if self.transition is None else posterior @ self.transition


def from_arrays(
    X: ArrayLike,
    y: ArrayLike,
    *,
    name: str = "data",
    classes: Sequence[Any] | None = None,
    feature_names: Sequence[str] | None = None,
    groups: ArrayLike | None = None,
) -> Dataset:
    """Features ``[N, ...]`` (flattened to ``[N, D]``) and labels ``[N]`` of any kind as a :class:`Dataset`.

    Args:
        X: finite numbers.
        y: texts, integers or whole floats.
        name: for messages and the summary.
        classes: the label of each column; by default those met, sorted.
        feature_names: D of them; by default ``x0``, ``x1``, ...
        groups: ``[N]`` of any kind; rows of one group stay together in splits.

    Raises:
        ConfigError: a feature is no finite number, lengths differ, or there are fewer than two classes or a class
            without rows.
    """
    features = check_features(X, name, feature_names)
    labels = np.asarray(y)
    if labels.shape != features.shape[:1]:
        raise ConfigError(
            f"{name}: expected one label per row, y [N], got {labels.shape} for features {features.shape}"
        )
    if not len(labels):
        raise ConfigError(f"{name}: expected rows of data, got none")
    columns, known = encode_labels(labels, name, classes)
    codes: Ints | None = None
    if groups is not None:
        owners = np.asarray(groups)
        if owners.shape != labels.shape:
            raise ConfigError(f"{name}: expected one group per row, got {owners.shape} for {len(labels)} rows")
        gaps = rows_without(owners.tolist())
        if gaps:
            raise ConfigError(f"{name}: expected a group for every row, got none in row {gaps[0] + 1} (the first is 1)")
        owners = owners.astype(str) if owners.dtype == object else owners
        codes = np.unique(owners, return_inverse=True)[1].astype(np.int64)
    names = tuple(feature_names) if feature_names is not None else tuple(f"x{d}" for d in range(features.shape[1]))
    return Dataset(
        name=name, X=features, y=columns, clean_y=columns, classes=known, feature_names=names,
        groups=codes,
    )  # fmt: skip


def check_features(X: ArrayLike, name: str, feature_names: Sequence[str] | None = None) -> Array:
    """Features ``[N, ...]`` as ``[N, D]``, float64.

    Raises:
        ConfigError: there are none, one is no finite number, or names are not D different ones.
    """
    try:
        raw = np.asarray(X)
    except ValueError:
        raise ConfigError(f"{name}: expected features X [N, D], got rows of different lengths") from None
    if raw.ndim < 2 or raw[:1].size == 0:
        raise ConfigError(f"{name}: expected features X [N, D] with at least one row and column, got {raw.shape}")
    raw = raw.reshape(len(raw), -1)
    if feature_names is not None:
        if len(feature_names) != raw.shape[1]:
            raise ConfigError(f"{name}: expected {raw.shape[1]} feature names, got {len(feature_names)}")
        check_names(name, feature_names)
    if raw.dtype.kind not in "biuf":
        raw = _numbers(raw, name, feature_names)
    features = raw.astype(np.float64)
    bad = ~np.isfinite(features)
    if bad.any():
        row, d = np.argwhere(bad)[0]
        raise ConfigError(
            f"{name}: expected finite numbers, got {features[row, d]} in column {_column(d, feature_names)}, row "
            f"{row + 1} (the first is 1), and {int(bad.sum()) - 1} more; fill or drop them"
        )
    return features


def generator(seed: int, use: str) -> Generator:
    """A generator of its own for each seed and use, so that changing one use leaves the others alone.

    Raises:
        ConfigError: the seed is out of range.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise ConfigError(f"seed: expected an integer in [0, 2^64), got {seed!r}")
    return np.random.default_rng([int(seed), int.from_bytes(hashlib.sha256(use.encode()).digest()[:4], "big")])


def encode_labels(
    labels: NDArray[Any], name: str, classes: Sequence[Any] | None = None
) -> tuple[Ints, tuple[Any, ...]]:
    """Labels of any kind ``[N]`` as columns ``[N]`` and the label of each column.

    Raises:
        ConfigError: labels are of several kinds or too many to be classes, or a class has no rows.
    """
    values = [_plain(value) for value in labels.tolist()]
    kinds = {str if isinstance(value, str) else float for value in values if isinstance(value, str | int | float)}
    gaps = [
        row for row, value in enumerate(values) if value is None or (isinstance(value, float) and not isfinite(value))
    ]
    if gaps:
        raise ConfigError(
            f"{name}: expected a label in every row, got {values[gaps[0]]} in row {gaps[0] + 1} (the first is 1)"
        )
    if len(kinds) != 1 or not all(isinstance(value, str | int | float) for value in values):
        met = sorted({type(value).__name__ for value in values})
        raise ConfigError(f"{name}: expected labels that are all texts or all numbers, got {' and '.join(met)}")
    known = list(dict.fromkeys(map(_plain, classes))) if classes is not None else sorted(set(values))
    if classes is not None and len(known) != len(classes):
        raise ConfigError(f"{name}: expected different classes, got {list(classes)}")
    foreign = sorted(map(str, set(values) - set(known)))
    if foreign:
        raise ConfigError(f"{name}: expected labels among the classes {known}, got {foreign[:3]}")
    if len(known) < 2:
        raise ConfigError(f"{name}: expected at least two classes, got {known} alone")
    if classes is None and len(known) > len(values) / 2:
        raise ConfigError(
            f"{name}: expected at least two rows per class on average, got {len(known)} different labels in "
            f"{len(values)} rows; is the target a quantity, or an identifier?"
        )
    place = {label: column for column, label in enumerate(known)}
    columns = np.array([place[value] for value in values], dtype=np.int64)
    missing = [known[column] for column in np.flatnonzero(np.bincount(columns, minlength=len(known)) == 0)]
    if missing:
        raise ConfigError(f"{name}: expected rows of every class, got none of {missing} in {len(values)} rows")
    return columns, tuple(known)


def rows_without(values: Iterable[Any]) -> list[int]:
    """Where values are None or NaN."""
    return [row for row, value in enumerate(values) if value is None or (isinstance(value, float) and isnan(value))]


def check_names(name: str, names: Sequence[str]) -> None:
    """Refuse columns of the same name.

    Raises:
        ConfigError: naming the first.
    """
    twice = [each for each in dict.fromkeys(names) if list(names).count(each) > 1]
    if twice:
        raise ConfigError(f"{name}: expected a name of its own for each column, got {twice[0]!r} more than once")


def _plain(label: Any) -> Any:
    """A label as Python's own text or number, whole ones as integers."""
    value = label.item() if isinstance(label, np.generic) else label
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _numbers(raw: NDArray[Any], name: str, feature_names: Sequence[str] | None) -> NDArray[Any]:
    """Numbers out of an array of objects."""
    if raw.dtype.kind == "O":
        wrong = [i for i, value in enumerate(raw.flat) if not isinstance(value, int | float | np.number)]
        if not wrong:
            return raw.astype(np.float64)
        value, (row, d) = raw.flat[wrong[0]], divmod(wrong[0], raw.shape[1])
    else:
        value, row, d = raw[0, 0], 0, 0
    raise ConfigError(
        f"{name}: expected numbers, got {_kind(value)} {str(value)[:40]!r} in column "
        f"{_column(d, feature_names)}, row {row + 1} (the first is 1)"
    )


def _kind(value: Any) -> str:
    return "the text" if isinstance(value, str) else type(value).__name__


def _column(d: int, feature_names: Sequence[str] | None) -> str:
    return repr(feature_names[d]) if feature_names is not None else f"'x{d}'"
