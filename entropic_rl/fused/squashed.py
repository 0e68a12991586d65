"""Samples of a tanh-Gaussian on columns with their log-probabilities, and the way back to means and deviations.

Formulas are those of :class:`entropic_rl.distributions.TanhGaussian`, in float64 for the few numbers that these are.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from entropic_rl.families import MAX_LOG_STD, MIN_LOG_STD
from entropic_rl.fused.compilation import Floats, Floats64, compiled
from entropic_rl.fused.elementary import exp, expm1, log1p

__all__ = ["Squashed", "draw_squashed", "make_squashed", "squashed_slopes"]

_HALF_LOG_TAU = 0.5 * math.log(2.0 * math.pi)
_LOG_2 = math.log(2.0)


class Squashed(NamedTuple):
    """Actions drawn for B samples, D numbers each.

    Attributes:
        action: ``[D, B]``, in [-1, 1].
        shift: ``[D, B]``, noise times standard deviation.
        inside: ``[D, B]``, 1 where the log standard deviation is between its bounds, else 0.
        log_prob: ``[B]``.
    """

    action: Floats64
    shift: Floats64
    inside: Floats64
    log_prob: Floats64


@compiled
def make_squashed(n_actions: int, width: int) -> Squashed:
    """Room for ``width`` samples."""
    return Squashed(
        np.empty((n_actions, width), np.float64),
        np.empty((n_actions, width), np.float64),
        np.empty((n_actions, width), np.float64),
        np.empty(width, np.float64),
    )


@compiled
def draw_squashed(outputs: Floats, noise: Floats, drawn: Squashed) -> None:
    """Fill ``drawn`` from the actor's ``outputs [2 D, B]``, means and log standard deviations, and ``noise [B, D]``.

    With ``e = exp(-2|u|)``, ``|tanh u| = (1 - e) / (1 + e)`` and ``log(1 - tanh^2 u) = 2 (log 2 - |u| - log1p e)``.
    """
    n_actions, n = drawn.action.shape
    drawn.log_prob[:] = 0.0
    for d in range(n_actions):
        for b in range(n):
            given = float(outputs[n_actions + d, b])
            log_std = MIN_LOG_STD if given < MIN_LOG_STD else given
            log_std = MAX_LOG_STD if log_std > MAX_LOG_STD else log_std
            drawn.inside[d, b] = 1.0 if log_std == given else 0.0
            z = float(noise[b, d])
            shift = exp(log_std) * z
            u = outputs[d, b] + shift
            magnitude = abs(u)
            size = -expm1(-2.0 * magnitude) / (1.0 + exp(-2.0 * magnitude))
            drawn.shift[d, b] = shift
            drawn.action[d, b] = -size if u < 0.0 else size
            log_det = 2.0 * (_LOG_2 - magnitude - log1p(exp(-2.0 * magnitude)))
            drawn.log_prob[b] -= 0.5 * z * z + log_std + _HALF_LOG_TAU + log_det


@compiled
def squashed_slopes(drawn: Squashed, by_action: Floats64, by_log_prob: Floats64, back: Floats) -> None:
    """Set ``back [2 D, B]``, the slopes of a loss by the actor's outputs.

    Args:
        drawn: as :func:`draw_squashed` left it.
        by_action: ``[D, B]``, slopes of the loss by actions.
        by_log_prob: ``[B]``, by their log-probabilities: those rise by ``2 tanh u`` with u.
    """
    n_actions, n = drawn.action.shape
    for d in range(n_actions):
        for b in range(n):
            a = drawn.action[d, b]
            by_unsquashed = by_action[d, b] * (1.0 - a * a) + by_log_prob[b] * 2.0 * a
            by_log_std = by_unsquashed * drawn.shift[d, b] - by_log_prob[b]
            back[d, b] = by_unsquashed
            back[n_actions + d, b] = by_log_std * drawn.inside[d, b]
