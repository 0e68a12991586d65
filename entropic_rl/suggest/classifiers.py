"""Gradients of classifiers, on rows that they were not fitted to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold

from entropic_rl.calibration.classifier import EntropicClassifier
from entropic_rl.entropy import categorical_entropy
from entropic_rl.errors import ConfigError
from entropic_rl.losses import entropic_cross_entropy
from entropic_rl.suggest.evidence import GradientNorms, Norms, gathered, norms_of
from entropic_rl.supervised.networks import Network, Perceptrons

__all__ = ["norms_of_classifier"]


def norms_of_classifier(
    classifier: EntropicClassifier, X: np.ndarray, y: np.ndarray, n_folds: int, seed: int
) -> GradientNorms:
    """Norms of both gradients on each of the folds, of copies that were fitted without entropy to the others.

    Args:
        classifier: its settings are what counts; of several members the first is measured.
        X: ``[N, D]``.
        y: ``[N]``, labels.
        n_folds: each with every class.
        seed: of folds, minibatches and copies.

    Raises:
        ConfigError: a class has fewer rows than there are folds.
    """
    try:
        folds = list(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(X, y))
    except ValueError as error:
        raise ConfigError(f"X and y: expected rows for {n_folds} folds, got {error}; give more rows") from None
    if np.unique(y, return_counts=True)[1].min() < n_folds:
        raise ConfigError(f"y: expected {n_folds} rows of every class or more, got fewer; ask for fewer batches")
    parts: list[Norms] = []
    group, levels = [], []
    for k, (train, held_out) in enumerate(folds):
        fitted = clone(classifier).set_params(ent_coef=0.0, random_state=seed + k).fit(X[train], y[train])
        rows = np.random.default_rng([seed, k]).permutation(held_out)
        for norms, level in _minibatches(fitted, X[rows], y[rows]):
            parts.append(norms)
            group.append(k)
            levels.append(level)
    highest = math.log(len(np.unique(y)))
    return gathered(parts, np.array(group), level=float(np.mean(levels)), highest=highest)


def _minibatches(fitted: Any, X: np.ndarray, y: np.ndarray) -> Iterator[tuple[Norms, float]]:
    """Of the first member, for every minibatch of rows: norms of both gradients, and the mean entropy."""
    network, size = fitted._network, fitted.batch_size or len(X)
    x = torch.as_tensor(X, dtype=network.values.dtype, device=network.values.device)
    target = torch.as_tensor(np.searchsorted(fitted.classes_, y), device=x.device)
    sizes, layers = _layers(network)
    for start in range(0, len(x), size):
        rows = x[start : start + size].expand(len(network.values), -1, -1)
        labels = target[start : start + size].expand(len(rows), -1)
        network.backward(entropic_cross_entropy(network(rows), labels, ent_coef=0.0, dim=-1).mean(1))
        task = network.grads[:1].clone()
        entropy = categorical_entropy(network(rows))
        network.backward(entropy.mean(1))
        ascent = network.grads[:1].clone()
        norms = norms_of(layers, task.split(sizes, 1), ascent.split(sizes, 1))
        yield norms, float(entropy.detach()[0].mean())


def _layers(network: Network) -> tuple[list[int], list[str]]:
    """How many numbers each parameter has, and which layer it belongs to; modules of others count as one."""
    if not isinstance(network, Perceptrons):
        return [network.values.shape[1]], ["network"]
    named = network.params.named()
    return [int(p[0].numel()) for p in named.values()], [f"layer {name.partition('.')[0]}" for name in named]
