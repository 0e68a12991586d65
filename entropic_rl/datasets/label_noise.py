"""Labels that are wrong with a known probability, and what that does to the posterior (no torch)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from entropic_rl.config import suggestion
from entropic_rl.datasets.data import Array, Dataset, generator
from entropic_rl.errors import ConfigError

__all__ = ["KINDS", "transition_matrix", "with_label_noise"]

KINDS = ("symmetric", "pair")


def transition_matrix(n_classes: int, share: float, kind: str = "symmetric") -> Array:
    """P(label in column j | clean label in column i), ``[C, C]``.

    Args:
        n_classes: at least 2.
        share: of labels that change, in [0, 1).
        kind: ``symmetric`` to every other class alike, ``pair`` from class k to k + 1, from the last to the first.

    Raises:
        ConfigError: the share or the kind is none of these.
    """
    if kind not in KINDS:
        raise ConfigError(
            f"label_noise_kind: expected one of {', '.join(KINDS)}, got {kind!r}{suggestion(kind, KINDS)}"
        )
    if not 0.0 <= share < 1.0:
        raise ConfigError(f"label_noise: expected a share of labels in [0, 1), got {share}")
    stay = np.eye(n_classes)
    to = np.roll(stay, 1, axis=1) if kind == "pair" else (1.0 - stay) / (n_classes - 1)
    return (1.0 - share) * stay + share * to


def with_label_noise(dataset: Dataset, share: float, kind: str = "symmetric", *, seed: int = 0) -> Dataset:
    """The same rows, each label changed with probability ``share``; clean labels stay in ``clean_y``.

    With one seed, labels that change at a share also change at every larger one.

    Raises:
        ConfigError: the share or kind is invalid, labels are noisy already, or a class lost all of its rows.
    """
    n_classes = len(dataset.classes)
    transition = transition_matrix(n_classes, share, kind)
    if dataset.transition is not None:
        raise ConfigError(f"{dataset.name}: expected clean labels, got labels that are noisy already")
    if share == 0.0:
        return dataset
    rng = generator(seed, "label noise")
    changes = rng.random(len(dataset)) < share
    steps = rng.integers(1, n_classes, len(dataset)) if kind == "symmetric" else 1
    noisy = np.where(changes, (dataset.y + steps) % n_classes, dataset.y)
    gone = [dataset.classes[k] for k in np.flatnonzero(np.bincount(noisy, minlength=n_classes) == 0)]
    if gone:
        raise ConfigError(
            f"label_noise: expected every class to keep a row, got none of {gone} among {len(dataset)} rows; use more "
            "rows, less noise or another seed"
        )
    return replace(dataset, y=noisy.astype(np.int64), transition=transition)
