"""Labels and probabilities as people pass them: checked once, in one place (no torch)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from entropic_rl.errors import ConfigError

__all__ = ["Array", "Ints", "as_scores", "check_counts", "labels_and_probabilities"]

Array: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

_SUM_TOLERANCE = 1e-3  # float16 softmax rows are off by 5e-4


def labels_and_probabilities(
    y: ArrayLike, proba: ArrayLike, classes: Sequence[Any] | None = None
) -> tuple[Ints, Array]:
    """Labels as columns ``[N]`` and probabilities ``[N, C]`` in float64, rows summing to 1.

    Args:
        y: ``[N]``: columns of ``proba``, or labels if ``classes`` names them.
        proba: ``[N, C]``, or ``[N]`` for the probability of the second of two classes.
        classes: the label of each column.

    Raises:
        ConfigError: lengths differ, a probability is none, rows do not sum to 1, or a label has no column.
    """
    p = _float(proba, "proba")
    if p.ndim == 1:
        p = np.stack([1.0 - p, p], 1)
    labels = np.asarray(y)
    if p.ndim != 2 or p.shape[1] < 2 or labels.shape != p.shape[:1]:
        raise ConfigError(
            f"expected labels y [N] and probabilities proba [N, C], C >= 2, got {labels.shape} and {np.shape(proba)}"
        )
    if not len(labels):
        raise ConfigError("y: expected at least one label, got none")
    if np.isnan(p).any():
        raise ConfigError(f"proba: expected probabilities, got NaN in row {np.isnan(p).any(1).argmax()}")
    outside = ((p < -1e-9) | (p > 1.0 + 1e-6)).any(1)
    if outside.any():
        row = outside.argmax()
        raise ConfigError(f"proba: expected numbers in [0, 1], got {p[row].min():g} to {p[row].max():g} in row {row}")
    total = p.sum(1)
    off = np.abs(total - 1.0) > _SUM_TOLERANCE
    if off.any():
        row = off.argmax()
        raise ConfigError(f"proba: expected rows that sum to 1, got {total[row]:.6g} in row {row}; were these logits?")
    p = np.clip(p, 0.0, 1.0)
    return _columns(labels, p.shape[1], classes), p / p.sum(1, keepdims=True)


def as_scores(values: ArrayLike, name: str) -> Array:
    """A vector of finite numbers, one per row of data.

    Raises:
        ConfigError: it is none, or empty.
    """
    scores = _float(values, name)
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise ConfigError(f"{name}: expected one finite number per row, got an array {scores.shape} with "
                          f"{int((~np.isfinite(scores)).sum())} that are not finite")  # fmt: skip
    return scores


def check_counts(**counts: int) -> None:
    """Refuse numbers of bins and resamples below 1.

    Raises:
        ConfigError: naming it.
    """
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"{name}: expected at least 1, got {count}")


def _float(values: ArrayLike, name: str) -> Array:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"{name}: expected an array of numbers, got {type(values).__name__}") from None


def _columns(labels: NDArray[Any], n_classes: int, classes: Sequence[Any] | None) -> Ints:
    if classes is None:
        if not np.issubdtype(labels.dtype, np.integer) and labels.dtype != bool:
            raise ConfigError(
                f"y: expected columns of proba as integers, got {labels.dtype}; name the columns by classes"
            )
        if labels.min() < 0 or labels.max() >= n_classes:
            raise ConfigError(
                f"y: expected columns of proba, 0 to {n_classes - 1}, got {labels.min()} to {labels.max()}; name the "
                "columns by classes"
            )
        return labels.astype(np.int64)
    names = np.asarray(classes)
    if names.shape != (n_classes,) or len(np.unique(names)) != n_classes:
        raise ConfigError(
            f"classes: expected {n_classes} different labels, one per column of proba, got {names.tolist()}"
        )
    order = np.argsort(names)
    place = np.searchsorted(names, labels, sorter=order).clip(max=n_classes - 1)
    found = order[place]
    unknown = names[found] != labels
    if np.any(unknown):
        missing = sorted(set(labels[unknown].tolist()), key=str)
        raise ConfigError(f"y: expected labels among {names.tolist()}, got {missing[:3]}; proba has no column for them")
    return found.astype(np.int64)
