"""Fewer rows, and classes of unequal size (no torch)."""

from __future__ import annotations

import math

import numpy as np

from entropic_rl.datasets.data import Array, Dataset, generator
from entropic_rl.errors import ConfigError

__all__ = ["class_shares", "thinned"]


def class_shares(n_classes: int, imbalance: float) -> Array:
    """Shares ``[C]`` that fall geometrically, the first ``imbalance`` times the last.

    Raises:
        ConfigError: the imbalance is below 1 or not finite.
    """
    if not 1.0 <= imbalance < math.inf:
        raise ConfigError(f"imbalance: expected the largest class over the smallest, at least 1, got {imbalance}")
    weights = imbalance ** -np.linspace(0.0, 1.0, n_classes)
    return weights / weights.sum()


def thinned(dataset: Dataset, *, n: int | None = None, imbalance: float = 1.0, seed: int = 0) -> Dataset:
    """At most n rows (None: as many as possible), their order kept, drawn within classes without replacement.

    An imbalance of 1 keeps the shares as they are; otherwise they fall geometrically from the class that has most
    rows to the one that has fewest (equal ones in their order), the first ``imbalance`` times the last. Generated data
    takes its imbalance when it is drawn; label noise comes after.

    Raises:
        ConfigError: there are not that many rows, a class would have none, or imbalance comes too late.
    """
    counts = np.bincount(dataset.y, minlength=len(dataset.classes))
    shares = counts / len(dataset)
    falling = class_shares(len(counts), imbalance)
    most = float(len(dataset))
    if imbalance != 1.0:
        if dataset.population is not None or dataset.transition is not None:
            raise ConfigError(
                f"{dataset.name}: expected imbalance when data is loaded, got it after "
                + ("its posterior" if dataset.transition is None else "its label noise")
            )
        shares = np.empty(len(counts))
        shares[np.argsort(-counts, kind="stable")] = falling
        most = float((counts / shares).min())
    if n is not None and not 1 <= n <= math.floor(most + 1e-9):
        limit = f" at imbalance {imbalance:g}" if imbalance != 1.0 else ""
        raise ConfigError(
            f"n: expected 1 to {math.floor(most + 1e-9)} rows, as many as {dataset.name} has{limit}, got {n}"
        )
    kept = _rounded(shares * (most if n is None else n), round(most) if n is None else n, counts)
    empty = [dataset.classes[k] for k in np.flatnonzero(kept == 0)]
    if empty:
        raise ConfigError(
            f"{dataset.name}: expected rows of all {len(counts)} classes, got none of {empty} among {kept.sum()}; ask "
            "for more rows or less imbalance"
        )
    if kept.sum() == len(dataset):
        return dataset
    order = generator(seed, "thinning").permutation(len(dataset))
    rank = np.empty(len(dataset), dtype=np.int64)  # of a row among those of its class
    for column in range(len(counts)):
        own = order[dataset.y[order] == column]
        rank[own] = np.arange(len(own))
    return dataset.take(rank < kept[dataset.y])


def _rounded(wanted: Array, total: int, most: np.ndarray) -> np.ndarray:
    """Whole numbers near ``wanted [C]`` that sum to ``total`` where ``most [C]`` allows, by largest remainders."""
    whole = np.minimum(np.floor(wanted + 1e-9).astype(np.int64), most)
    for column in np.argsort(whole - wanted, kind="stable"):
        if whole.sum() < total and whole[column] < most[column]:
            whole[column] += 1
    return whole
