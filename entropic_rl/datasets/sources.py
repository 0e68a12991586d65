"""One door to all data: a name of what is bundled or generated, or a file (no torch)."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from entropic_rl.config import suggestion
from entropic_rl.datasets.data import Dataset, from_arrays, generator
from entropic_rl.datasets.label_noise import with_label_noise
from entropic_rl.datasets.population import DEFAULT_NOISE, N_CLASSES, Population
from entropic_rl.datasets.tables import READERS, read_file
from entropic_rl.datasets.thinning import class_shares, thinned
from entropic_rl.errors import ConfigError

__all__ = ["SOURCES", "load"]

_BUNDLED = ("digits", "breast_cancer", "wine")  # with scikit-learn
SOURCES = (*_BUNDLED, *DEFAULT_NOISE)

_DEFAULT_N = 1000


def load(
    source: str | os.PathLike[str],
    *,
    target: str | None = None,
    group: str | None = None,
    n: int | None = None,
    noise: float | None = None,
    label_noise: float = 0.0,
    label_noise_kind: str = "symmetric",
    imbalance: float = 1.0,
    seed: int = 0,
) -> Dataset:
    """Labelled data by name or from a file.

    With one seed, features and clean labels are the same whatever the label noise: comparisons over it are paired.

    Args:
        source: ``digits``, ``breast_cancer``, ``wine``, ``blobs``, ``moons``, or a path to CSV, Parquet or npz.
        target: of a file, the column of labels (of npz the array, by default ``y``).
        group: of a file, the column (array) that keeps rows together in splits; no feature.
        n: rows; by default 1,000 of generated data, of others all. Others are thinned within classes.
        noise: of ``blobs`` and ``moons``, the standard deviation within a class (see :class:`Population`).
        label_noise: share of labels that change, in [0, 1).
        label_noise_kind: ``symmetric`` to every other class alike, ``pair`` from class k to k + 1.
        imbalance: rows of the largest class over those of the smallest, geometric in between; 1 leaves classes as they
            are. Generated data is drawn with these shares (class 0 the largest); others are thinned (:func:`thinned`).
        seed: of everything random.

    Raises:
        ConfigError: the source is unknown, an argument is out of range or not for it, or the data is not usable.
    """
    kind = os.fspath(source)
    _check_numbers(n=n, noise=noise, label_noise=label_noise, imbalance=imbalance)
    _check(kind, target, group, n, noise)
    if kind in DEFAULT_NOISE:
        spread = DEFAULT_NOISE[kind] if noise is None else float(noise)
        clean = _generated(kind, _DEFAULT_N if n is None else int(n), spread, imbalance, seed)
    else:
        whole = _bundled(kind) if kind in _BUNDLED else read_file(Path(kind).expanduser(), target, group)
        clean = thinned(whole, n=None if n is None else int(n), imbalance=imbalance, seed=seed)
    return with_label_noise(clean, label_noise, label_noise_kind, seed=seed)


def _check(kind: str, target: str | None, group: str | None, n: int | None, noise: float | None) -> None:
    if kind not in SOURCES and Path(kind).suffix.lower() not in READERS:
        raise ConfigError(
            f"expected one of {', '.join(SOURCES)} or a file ending in {', '.join(READERS)}, got {kind!r}"
            f"{suggestion(kind, SOURCES)}"
        )
    columns = {"target": target, "group": group}
    given = [name for name, value in columns.items() if value is not None]
    if kind in SOURCES and given:
        raise ConfigError(f"{given[0]}: expected a file whose column it names, got {columns[given[0]]!r} with {kind}")
    if noise is not None and kind not in DEFAULT_NOISE:
        raise ConfigError(f"noise: expected blobs or moons, whose width it is, got {kind}; label_noise changes labels")
    if n is not None and (n < 1 or not math.isfinite(n) or n != int(n)):
        raise ConfigError(f"n: expected a whole number of rows, at least 1, got {n}")


def _check_numbers(**values: object) -> None:
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float | np.number)):
            raise ConfigError(f"{name}: expected a number, got {value!r}")


def _bundled(kind: str) -> Dataset:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{kind}")()
    labels = [str(name) for name in bunch.target_names] if kind != "digits" else list(range(10))
    named = [labels[column] for column in bunch.target]
    return from_arrays(
        bunch.data, named, name=kind, classes=labels, feature_names=[str(f) for f in bunch.feature_names]
    )


def _generated(kind: str, n: int, noise: float, imbalance: float, seed: int) -> Dataset:
    population = Population(kind, noise, tuple(class_shares(N_CLASSES[kind], imbalance).tolist()))
    X, y = population.draw(n, generator(seed, "labels"), generator(seed, "features"))
    classes = tuple(range(N_CLASSES[kind]))
    missing = sorted(set(classes) - set(y.tolist()))
    if missing:
        raise ConfigError(
            f"n: expected rows of all {len(classes)} classes, got none of {missing} among {n}; ask for more rows, less "
            "imbalance or another seed"
        )
    data = from_arrays(X, y, name=kind, classes=classes)
    return replace(data, clean_posterior=population.posterior(X), population=population)
