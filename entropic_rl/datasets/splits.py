"""Rows dealt to sides: in proportion within every class, whole groups at a time if there are any (no torch)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from entropic_rl.datasets.data import Array, Dataset, Ints, generator
from entropic_rl.errors import ConfigError

__all__ = ["Split", "folds", "split"]

_SIDES = ("train", "validation", "test")


class Split(NamedTuple):
    """Rows of three sides, ascending; give one to :meth:`Dataset.take`."""

    train: Ints
    validation: Ints
    test: Ints


def split(dataset: Dataset, fractions: Sequence[float] = (0.6, 0.2, 0.2), *, seed: int = 0) -> Split:
    """Rows for training, validation and test, stratified by clean labels, so that label noise leaves them alone.

    Args:
        dataset: if it has groups, none lies on two sides, and fractions and classes are met as well as that allows.
        fractions: of the rows, summing to 1; a side of 0 stays empty.
        seed: another one deals otherwise.

    Raises:
        ConfigError: fractions are none, or a side would miss a class.
    """
    numbers = all(isinstance(fraction, int | float | np.number) for fraction in fractions)
    shares = np.asarray(fractions if numbers else (), dtype=np.float64)
    if shares.shape != (3,) or not (shares >= 0.0).all() or shares[0] == 0.0 or abs(shares.sum() - 1.0) > 1e-9:
        raise ConfigError(
            "fractions: expected three numbers (train, validation, test) that sum to 1, train above 0, got "
            f"{tuple(fractions)}"
        )
    names = [name for name, share in zip(_SIDES, shares, strict=True) if share > 0.0]
    side = np.flatnonzero(shares > 0.0)[_dealt(dataset, shares[shares > 0.0], names, generator(seed, "split"))]
    return Split(*(np.flatnonzero(side == s) for s in range(3)))


def folds(dataset: Dataset, k: int = 5, *, seed: int = 0) -> list[tuple[Ints, Ints]]:
    """k pairs of rows (train, test), every row in one test side; stratified and grouped as in :func:`split`.

    Raises:
        ConfigError: k is below 2, or a class or the groups are too few for k folds.
    """
    if not isinstance(k, int | np.integer) or k < 2:
        raise ConfigError(f"folds: expected a whole number, at least 2, got {k!r}")
    names = [f"fold {fold + 1}" for fold in range(k)]
    side = _dealt(dataset, np.full(k, 1.0 / k), names, generator(seed, "folds"))
    return [(np.flatnonzero(side != fold), np.flatnonzero(side == fold)) for fold in range(k)]


def _dealt(dataset: Dataset, shares: Array, names: Sequence[str], rng: Generator) -> Ints:
    """The side of every row ``[N]``, every class on every side."""
    n_classes, n_sides = len(dataset.classes), len(shares)
    y, groups = dataset.clean_y, dataset.groups
    counts = np.bincount(y, minlength=n_classes)
    scarce = int(counts.argmin())
    if counts[scarce] < n_sides:
        raise ConfigError(
            f"{dataset.name}: expected at least {n_sides} rows of every class, one for each of {', '.join(names)}, got "
            f"{counts[scarce]} of {dataset.classes[scarce]!r}; add rows, or use fewer sides"
        )
    if groups is not None:
        holders = [len(np.unique(groups[y == column])) for column in range(n_classes)]
        scarce = int(np.argmin(holders))
        if holders[scarce] < n_sides:
            raise ConfigError(
                f"{dataset.name}: expected every class in at least {n_sides} groups, one for each of "
                f"{', '.join(names)}, got {dataset.classes[scarce]!r} in {holders[scarce]}; add groups, or use fewer "
                "sides"
            )
    side = _deal_rows(y, shares, rng) if groups is None else _deal_groups(y, groups, shares, n_classes, rng)
    table = np.zeros((n_sides, n_classes), dtype=np.int64)
    np.add.at(table, (side, y), 1)
    if not table.all():
        s, column = np.argwhere(table == 0)[0]
        of = "rows" if groups is None else f"rows in {len(np.unique(groups))} groups"
        raise ConfigError(
            f"{dataset.name}: expected every class on every side, got none of {dataset.classes[column]!r} "
            f"({counts[column]} {of}) for {names[s]} ({shares[s]:.0%}); add rows, or give that side a larger share"
        )
    return side


def _deal_rows(y: Ints, shares: Array, rng: Generator) -> Ints:
    """Rows sorted by class, in random order within, dealt to the side that lacks most.

    Any run of rows is dealt in proportion, so that classes and the whole are both within a row or two of it.
    """
    order = rng.permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    dealt, side = np.zeros(len(shares)), np.empty(len(y), dtype=np.int64)
    for position, row in enumerate(order):
        side[row] = np.argmax(shares * (position + 1) - dealt)
        dealt[side[row]] += 1.0
    return side


def _deal_groups(y: Ints, groups: Ints, shares: Array, n_classes: int, rng: Generator) -> Ints:
    """Groups, large ones first and in random order where equal, dealt to the side whose classes they fit best."""
    names, codes = np.unique(groups, return_inverse=True)
    held = np.zeros((len(names), n_classes))
    np.add.at(held, (codes, y), 1.0)
    held /= held.sum(0)  # the share of each class that a group holds
    order = rng.permutation(len(names))
    order = order[np.argsort(-held[order].sum(1), kind="stable")]
    lacks = np.repeat(shares[:, None], n_classes, 1)  # [sides, C]
    side = np.empty(len(names), dtype=np.int64)
    for group in order:
        # Of sum (lacks - held)^2 over all sides, what depends on which side takes the group.
        side[group] = np.argmax(lacks @ held[group])
        lacks[side[group]] -= held[group]
    return side[codes]
