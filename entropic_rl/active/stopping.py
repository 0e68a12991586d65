"""When to stop asking: what each round says of itself without knowing the truth, and rules over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from entropic_rl.active.config import StoppingRule
from entropic_rl.entropy import categorical_entropy

__all__ = ["Round", "describe_round", "kappa", "should_stop"]


@dataclass(frozen=True, slots=True)
class Round:
    """A model on the way, as far as it can be judged without labels.

    Attributes:
        n_labels: it was fitted to.
        agreement: Cohen's kappa of its answers on the whole pool with those of the round before; NaN at first.
        confidence: mean probability of the likeliest label over rows without one: the accuracy that it expects.
        entropy: mean entropy over the same rows, nats.
    """

    n_labels: int
    agreement: float
    confidence: float
    entropy: float


def describe_round(n_labels: int, log_p: Tensor, answers: NDArray[np.int64], before: NDArray[np.int64] | None) -> Round:
    """A round by what its model says of unlabelled rows, ``log_p [N, C]``, and of the pool, ``answers [P]``."""
    if not len(log_p):
        return Round(n_labels, 1.0 if before is None else kappa(answers, before), 1.0, 0.0)
    return Round(
        n_labels,
        float("nan") if before is None else kappa(answers, before),
        float(log_p.amax(-1).exp().mean()),
        float(categorical_entropy(log_p).mean()),
    )


def should_stop(rule: StoppingRule, rounds: Sequence[Round]) -> bool:
    """Whether a rule holds at the last of the rounds.

    ``stable`` is Bloodgood & Vijay-Shanker (2009), https://aclanthology.org/W09-1107: answers that no longer change.
    ``confident`` and ``entropy`` believe the model: Zhu et al. (2010), https://doi.org/10.1145/1753783.1753784, overall
    uncertainty.
    """
    last = rounds[-rule.patience :]
    if len(last) < rule.patience:
        return False
    if rule.kind == "labels":
        return all(r.n_labels >= rule.threshold for r in last)
    if rule.kind == "stable":
        return all(r.agreement >= rule.threshold for r in last)  # NaN is not
    if rule.kind == "confident":
        return all(r.confidence >= rule.threshold for r in last)
    return all(r.entropy <= rule.threshold for r in last)


def kappa(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Cohen's kappa: agreement of two columns of labels above what chance gives; 1 where both are one label alone."""
    n_classes = int(max(a.max(), b.max())) + 1
    table = np.bincount(a * n_classes + b, minlength=n_classes**2).reshape(n_classes, n_classes) / len(a)
    by_chance = float(table.sum(1) @ table.sum(0))
    return 1.0 if by_chance == 1.0 else (float(np.trace(table)) - by_chance) / (1.0 - by_chance)
