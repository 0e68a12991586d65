"""Losses of agents and classifiers, per element: pure functions that never reduce; the caller takes the one mean.

``entropic_loss`` is where reinforcement learning, calibration and active learning meet; everything here with an
``ent_coef`` goes through it, with an entropy of :mod:`entropic_rl.entropy`.
"""

from entropic_rl.losses.core import check_same_shape, entropic_loss
from entropic_rl.losses.module import EntropicCrossEntropy
from entropic_rl.losses.policy import clipped_surrogate_loss, clipped_value_loss, policy_gradient_loss, value_loss
from entropic_rl.losses.supervised import (
    confidence_penalty_loss,
    entropic_binary_cross_entropy,
    entropic_cross_entropy,
    entropic_gaussian_nll,
    focal_loss,
)
from entropic_rl.losses.unlabeled import unlabeled_loss

__all__ = [
    "EntropicCrossEntropy",
    "check_same_shape",
    "clipped_surrogate_loss",
    "clipped_value_loss",
    "confidence_penalty_loss",
    "entropic_binary_cross_entropy",
    "entropic_cross_entropy",
    "entropic_gaussian_nll",
    "entropic_loss",
    "focal_loss",
    "policy_gradient_loss",
    "unlabeled_loss",
    "value_loss",
]
