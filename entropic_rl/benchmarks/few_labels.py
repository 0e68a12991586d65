"""What rows without labels are worth on the digits: entropy minimisation beside supervised training and its peers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
from torch import Tensor

from entropic_rl.calibration import EntropicClassifier
from entropic_rl.compare.statistics import Estimate, bootstrap, mean, paired_difference, sign_flip_test
from entropic_rl.compare.words import p_value
from entropic_rl.few_labels.config import UnlabeledConfig
from entropic_rl.few_labels.unlabeled import UnlabeledTerm
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.fitting import Fitting, Table
from entropic_rl.supervised.networks import Perceptrons
from entropic_rl.supervised.tasks import Classification

__all__ = ["METHODS", "SUPERVISED", "Digits", "accuracies", "comparison_rows", "shares"]

Array = NDArray[np.float64]
Shares = Mapping[str, Array]

SUPERVISED = "supervised"
_FIT: dict[str, Any] = {"net_arch": (64,), "batch_size": None, "n_epochs": 400, "learning_rate": 1e-3}
_TEST_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Digits:
    """Digits / 16 and, of each seed, which rows have labels, which have none, and which are for the test alone."""

    x: Array  # [n, 64]
    y: NDArray[np.int64]  # [n]
    labelled: NDArray[np.int64]  # [S, L]
    unlabelled: NDArray[np.int64]  # [S, U]
    test: NDArray[np.int64]  # [S, M]


def shares(n_labels: int, n_seeds: int) -> Digits:
    """Draw ``n_labels`` rows, every class alike often, from the 70 % that are not for the test; for each seed."""
    X, y = load_digits(return_X_y=True)
    parts: list[list[Any]] = [[], [], []]
    for seed in range(n_seeds):
        pool, test = train_test_split(np.arange(len(y)), test_size=_TEST_SHARE, stratify=y, random_state=seed)
        split = train_test_split(pool, train_size=n_labels, stratify=y[pool], random_state=seed)
        for part, rows in zip(parts, (*split, test), strict=True):
            part.append(rows)
    return Digits(X / 16.0, y, *(np.array(part) for part in parts))


def accuracies(n_labels: int, n_seeds: int, methods: Sequence[str]) -> dict[str, Array]:
    """Accuracy on test rows by method, ``[S]`` each; seeds share rows, first weights and minibatches."""
    digits = shares(n_labels, n_seeds)
    return {name: METHODS[name](digits) for name in methods}


def comparison_rows(n_labels: int, found: Shares) -> list[str]:
    """Markdown rows: accuracy, and how it differs from supervised training, paired by seed."""
    rows = []
    for name, scores in found.items():
        rng = np.random.default_rng(0)
        cells = [str(n_labels), name, _percent(bootstrap(100.0 * scores, mean, rng))]
        if name != SUPERVISED:
            difference = 100.0 * (scores - found[SUPERVISED])
            gap = paired_difference(100.0 * scores, 100.0 * found[SUPERVISED], rng)
            cells += [_percent(gap, "+"), f"{(difference > 0).sum()} of {len(scores)}"]
            cells.append(p_value(sign_flip_test(difference, rng)))
        rows.append("| " + " | ".join(cells + ["-"] * (6 - len(cells))) + " |")
    return rows


def _percent(estimate: Estimate, sign: str = "") -> str:
    return f"{estimate.value:{sign}.1f} [{estimate.low:{sign}.1f}, {estimate.high:{sign}.1f}]"


def _networks(digits: Digits, unlabeled_coef: float, marginal_coef: float) -> Array:
    """Perceptrons of all seeds as one batch."""
    seeds = range(len(digits.labelled))
    x = torch.from_numpy(digits.x).float()
    network = Perceptrons((64, *_FIT["net_arch"], 10), seeds)
    extra = None
    if unlabeled_coef or marginal_coef:
        config = UnlabeledConfig(unlabeled_coef=unlabeled_coef, marginal_coef=marginal_coef)
        extra = UnlabeledTerm(x, torch.from_numpy(digits.unlabelled), config, seeds)
    table = Table(x, torch.from_numpy(digits.y))
    Fitting(network, Classification(), FitConfig(**_FIT), seeds, extra=extra).run(
        table, torch.from_numpy(digits.labelled)
    )
    test = torch.from_numpy(digits.test)
    with torch.no_grad():
        right: Tensor = network(x[test]).argmax(-1) == table.target[test]
    return right.double().mean(1).numpy()


def _peer(digits: Digits, make: Callable[[int], Any]) -> Array:
    """A semi-supervised estimator of scikit-learn, one seed after another."""
    scores = []
    for seed, (labelled, unlabelled, test) in enumerate(
        zip(digits.labelled, digits.unlabelled, digits.test, strict=True)
    ):
        rows = np.concatenate([labelled, unlabelled])
        y = np.concatenate([digits.y[labelled], np.full(len(unlabelled), -1)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # LabelSpreading divides by rows without neighbours
            model = make(seed).fit(digits.x[rows], y)
            scores.append(model.score(digits.x[test], digits.y[test]))
    return np.array(scores)


METHODS: dict[str, Callable[[Digits], Array]] = {
    SUPERVISED: partial(_networks, unlabeled_coef=0.0, marginal_coef=0.0),
    "entropy minimisation, no marginal term": partial(_networks, unlabeled_coef=1.0, marginal_coef=0.0),
    "entropy minimisation": partial(_networks, unlabeled_coef=1.0, marginal_coef=1.0),
    "self-training of the same network": partial(
        _peer, make=lambda seed: SelfTrainingClassifier(EntropicClassifier(random_state=seed, **_FIT))
    ),
    "LabelSpreading, 7 neighbours": partial(_peer, make=lambda _: LabelSpreading(kernel="knn", max_iter=1000)),
    "LabelSpreading, radial": partial(_peer, make=lambda _: LabelSpreading(gamma=64.0, max_iter=1000)),
}
