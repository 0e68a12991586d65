"""Policy heads on columns: log-probabilities and entropy bonuses of samples with their gradients, in closed form.

Each function looks at the outputs ``[n_outputs, B]`` of a tile and fills :class:`Slopes`. Sums over a few actions are
taken in float64; formulas are those of :mod:`entropic_rl.entropy`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from entropic_rl.families import MAX_LOG_STD, MIN_LOG_STD
from entropic_rl.fused.compilation import Booleans, Floats, Floats64, Integers, compiled

__all__ = ["FAMILIES", "HEADS", "Head", "Slopes", "choose", "draw"]

HEADS = ("categorical", "multi-discrete", "gaussian")
FAMILIES = ("shannon", "tsallis", "renyi", "kl-to-uniform", "kl-to-prior")
_SHANNON, _TSALLIS, _RENYI, _TO_UNIFORM, _TO_PRIOR = range(5)
_HALF_LOG_TAU = 0.5 * math.log(2.0 * math.pi)


class Head(NamedTuple):
    """What a head is.

    Attributes:
        nvec: ``[C]`` choices per component; one component of A for a categorical head, empty for a Gaussian one.
        family: index into ``FAMILIES``.
        order: of Tsallis and Renyi.
        prior: ``[A]`` weights, or standard deviations.
        log_std: where the log standard deviations begin among the parameters.
    """

    nvec: Integers
    family: int
    order: float
    prior: Floats64
    log_std: int


class Slopes(NamedTuple):
    """What a head makes of a tile, and the slopes of it.

    Attributes:
        log_prob: ``[B]`` of what was done.
        entropy: ``[B]``, Shannon's.
        bonus: ``[B]``.
        d_log_prob, d_bonus: ``[n_outputs, B]``, by the outputs.
        d_log_prob_by_std, d_bonus_by_std: ``[n_outputs, B]``, by log standard deviations.
    """

    log_prob: Floats64
    entropy: Floats64
    bonus: Floats64
    d_log_prob: Floats64
    d_bonus: Floats64
    d_log_prob_by_std: Floats64
    d_bonus_by_std: Floats64


@compiled
def choose(  # noqa: PLR0912 - what is common to all families is done once
    head: Head, outputs: Floats, samples: Integers, allowed: Booleans, taken: Integers, slopes: Slopes
) -> None:
    """Independent choices.

    Args:
        head: C choices among A actions in all.
        outputs: ``[A, B]``, logits.
        samples: ``[B]``, rows of the following.
        allowed: ``[N, A]``; without rows if everything is.
        taken: ``[N, C]``.
        slopes: what is filled.
    """
    is_plain = head.family in (_SHANNON, _TO_UNIFORM)
    p, d_bonus = slopes.d_log_prob, slopes.d_bonus
    for b in range(len(samples)):
        i = samples[b]
        log_prob, entropy, bonus, start = 0.0, 0.0, 0.0, 0
        for c in range(len(head.nvec)):
            stop, top, best, n_allowed = start + head.nvec[c], -np.inf, start, 0
            for a in range(start, stop):
                if len(allowed) == 0 or allowed[i, a]:
                    n_allowed += 1
                    if not outputs[a, b] <= top:  # also what is not a number
                        top, best = float(outputs[a, b]), a
            rest, mean_gap = 0.0, 0.0
            for a in range(start, stop):
                p[a, b] = 1.0 if a == best else 0.0
                if a != best and (len(allowed) == 0 or allowed[i, a]):
                    gap = top - outputs[a, b]
                    p[a, b] = math.exp(-gap)
                    rest += p[a, b]
                    mean_gap += p[a, b] * gap if p[a, b] > 0.0 else 0.0
            log_total, share = math.log1p(rest), 1.0 / (1.0 + rest)
            mean_gap *= share
            for a in range(start, stop):
                p[a, b] *= share
            entropy += log_total + mean_gap
            if is_plain:
                bonus += log_total + mean_gap - (math.log(n_allowed) if head.family == _TO_UNIFORM else 0.0)
                for a in range(start, stop):
                    d_bonus[a, b] = p[a, b] * (top - outputs[a, b] - mean_gap) if p[a, b] > 0.0 else 0.0
            else:
                bonus += _other(head, outputs, b, start, stop, top, log_total, p, d_bonus)
            chosen = start + taken[i, c]
            log_prob -= top - outputs[chosen, b] + log_total
            for a in range(start, stop):
                p[a, b] = (1.0 if a == chosen else 0.0) - p[a, b]
            start = stop
        slopes.log_prob[b], slopes.entropy[b], slopes.bonus[b] = log_prob, entropy, bonus
    if head.family == _TSALLIS:
        _to_tsallis(head.order, slopes.bonus, d_bonus, len(samples))


@compiled
def _other(
    head: Head,
    outputs: Floats,
    b: int,
    start: int,
    stop: int,
    top: float,
    log_total: float,
    p: Floats64,
    d_bonus: Floats64,
) -> float:
    """Bonuses other than Shannon's of one choice with probabilities ``p [A, B]``, 0 where it is not allowed."""
    total = 0.0
    if head.family == _TO_PRIOR:
        for a in range(start, stop):
            total += head.prior[a] if p[a, b] > 0.0 else 0.0
        divergence = 0.0
        for a in range(start, stop):
            log_p = outputs[a, b] - top - log_total
            d_bonus[a, b] = log_p - math.log(head.prior[a] / total) if p[a, b] > 0.0 else 0.0
            divergence += p[a, b] * d_bonus[a, b]
        for a in range(start, stop):
            d_bonus[a, b] = p[a, b] * (divergence - d_bonus[a, b])
        return -divergence
    for a in range(start, stop):
        d_bonus[a, b] = math.exp(head.order * (outputs[a, b] - top)) if p[a, b] > 0.0 else 0.0
        total += d_bonus[a, b]
    for a in range(start, stop):
        d_bonus[a, b] = head.order * (d_bonus[a, b] / total - p[a, b]) / (1.0 - head.order)
    return (math.log(total) - head.order * log_total) / (1.0 - head.order)


@compiled
def draw(head: Head, outputs: Floats, samples: Integers, log_stds: Floats, taken: Floats, slopes: Slopes) -> None:
    """A diagonal Gaussian.

    Args:
        head: the entropy bonus.
        outputs: ``[D, B]``, means.
        samples: ``[B]``, rows of ``taken``.
        log_stds: ``[D]``, parameters.
        taken: ``[N, D]``.
        slopes: what is filled.
    """
    constant = 0.5
    if head.family in (_TSALLIS, _RENYI):
        constant = 0.5 * math.log(head.order) / (head.order - 1.0)
    slopes.log_prob[:], slopes.entropy[:], slopes.bonus[:] = 0.0, 0.0, 0.0
    for d in range(len(log_stds)):
        log_std = min(max(float(log_stds[d]), MIN_LOG_STD), MAX_LOG_STD)
        inside = 1.0 if MIN_LOG_STD <= log_stds[d] <= MAX_LOG_STD else 0.0
        std = math.exp(log_std)
        for b in range(len(samples)):
            mean = float(outputs[d, b])
            standardised = (taken[samples[b], d] - mean) / std
            slopes.log_prob[b] -= 0.5 * standardised * standardised + log_std + _HALF_LOG_TAU
            slopes.entropy[b] += log_std + _HALF_LOG_TAU + 0.5
            slopes.d_log_prob[d, b] = standardised / std
            slopes.d_log_prob_by_std[d, b] = (standardised * standardised - 1.0) * inside
            if head.family == _TO_PRIOR:
                width = head.prior[d if len(head.prior) > 1 else 0]
                slopes.bonus[b] -= math.log(width) - log_std + 0.5 * (std * std + mean * mean) / (width * width) - 0.5
                slopes.d_bonus[d, b] = -mean / (width * width)
                slopes.d_bonus_by_std[d, b] = (1.0 - std * std / (width * width)) * inside
            else:
                slopes.bonus[b] += log_std + _HALF_LOG_TAU + constant
                slopes.d_bonus[d, b] = 0.0
                slopes.d_bonus_by_std[d, b] = inside
    if head.family == _TSALLIS:
        _to_tsallis(head.order, slopes.bonus, slopes.d_bonus_by_std, len(samples))


@compiled
def _to_tsallis(order: float, bonus: Floats64, d_bonus: Floats64, n: int) -> None:
    """Renyi entropies of ``n`` samples to those of Tsallis, in place, and their slopes by the chain rule."""
    for b in range(n):
        factor = math.exp((1.0 - order) * bonus[b])
        bonus[b] = math.expm1((1.0 - order) * bonus[b]) / (1.0 - order)
        for a in range(len(d_bonus)):
            d_bonus[a, b] *= factor
