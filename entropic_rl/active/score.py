"""How good a model is on labelled rows that it never saw: right answers, likelihood, calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from entropic_rl.calibration.metrics import Meter, debiased

__all__ = ["MEASURES", "Score", "score_of"]

MEASURES = ("accuracy", "nll", "ece_debiased", "signed_gap")
_WORLDS = 50  # from which the noise floor of the calibration error is taken
_LEAST = 1e-12  # probability that a likelihood is charged for: a class that was never seen has none


@dataclass(frozen=True, slots=True)
class Score:
    """A model with so many labels.

    Attributes:
        n_labels: it was fitted to.
        accuracy: share of right answers.
        nll: mean negative log-likelihood, nats; a probability below 1e-12 counts as that.
        ece_debiased: expected calibration error less what chance gives; may be negative.
        signed_gap: mean confidence less accuracy: above 0 it is too sure.
    """

    n_labels: int
    accuracy: float
    nll: float
    ece_debiased: float
    signed_gap: float


def score_of(n_labels: int, log_p: Tensor, y: NDArray[np.int64], *, seed: int = 0, n_bins: int = 15) -> Score:
    """The score of log-probabilities ``[N, C]`` on columns of labels ``[N]``."""
    p = np.maximum(log_p.exp().numpy(), _LEAST)
    meter = Meter(p / p.sum(1, keepdims=True), n_bins)
    own = {name: float(value[0]) for name, value in meter.measure(y[None]).items()}
    floor = meter.ece_floor(_WORLDS, np.random.default_rng(seed))
    return Score(n_labels, own["accuracy"], own["nll"], float(debiased(own["ece"], floor)), own["signed_gap"])
