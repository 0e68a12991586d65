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
from entropic_rl.fused.elementary import exp, log1p

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
        top, rest, mean_gap, log_total, first: ``[B]``, on the way.
    """

    log_prob: Floats64
    entropy: Floats64
    bonus: Floats64
    d_log_prob: Floats64
    d_bonus: Floats64
    d_log_prob_by_std: Floats64
    d_bonus_by_std: Floats64
    top: Floats64
    rest: Floats64
    mean_gap: Floats64
    log_total: Floats64
    first: Floats64


@compiled
def choose(head: Head, outputs: Floats, samples: Integers, allowed: Booleans, taken: Integers, slopes: Slopes) -> None:
    """Independent choices.

    Args:
        head: C choices among A actions in all.
        outputs: ``[A, B]``, logits; -infinity is put where an action is not allowed.
        samples: ``[B]``, rows of the following.
        allowed: ``[N, A]``; without rows if everything is.
        taken: ``[N, C]``.
        slopes: what is filled.
    """
    n, start = len(samples), 0
    slopes.log_prob[:n], slopes.entropy[:n], slopes.bonus[:n] = 0.0, 0.0, 0.0
    for c in range(len(head.nvec)):
        stop = start + head.nvec[c]
        _mask(outputs, samples, allowed, start, stop)
        _weigh(outputs, start, stop, slopes)
        _bonus(head, outputs, n, start, stop, slopes)
        for b in range(n):
            chosen = start + taken[samples[b], c]
            slopes.log_prob[b] -= slopes.top[b] - outputs[chosen, b] + slopes.log_total[b]
        for a in range(start, stop):
            for b in range(n):
                slopes.d_log_prob[a, b] *= -1.0
        for b in range(n):
            slopes.d_log_prob[start + taken[samples[b], c], b] += 1.0
        start = stop
    if head.family == _TSALLIS:
        _to_tsallis(head.order, slopes.bonus, slopes.d_bonus, n)


@compiled
def _mask(outputs: Floats, samples: Integers, allowed: Booleans, start: int, stop: int) -> None:
    """Put -infinity where an action is not allowed."""
    if len(allowed) > 0:
        for a in range(start, stop):
            for b in range(len(samples)):
                if not allowed[samples[b], a]:
                    outputs[a, b] = np.float32(-np.inf)


@compiled
def _weigh(outputs: Floats, start: int, stop: int, slopes: Slopes) -> None:
    """Probabilities of one choice, in ``d_log_prob``, its largest logit, the log of its sum of weights, and Shannon's
    entropy: ``log sum + mean gap`` with gaps from the largest logit, whose own weight 1 is kept apart from the rest.
    """
    n, top, rest, mean_gap = outputs.shape[1], slopes.top, slopes.rest, slopes.mean_gap
    for b in range(n):
        top[b], rest[b], mean_gap[b], slopes.first[b] = outputs[start, b], 0.0, 0.0, 0.0
    for a in range(start + 1, stop):
        for b in range(n):
            value = float(outputs[a, b])
            top[b] = value if value > top[b] else top[b]
    for a in range(start, stop):
        for b in range(n):
            gap = top[b] - outputs[a, b]
            weight = exp(-gap)
            is_first = (1.0 - slopes.first[b]) if gap == 0.0 else 0.0
            slopes.first[b] += is_first
            slopes.d_log_prob[a, b] = weight
            rest[b] += weight - is_first
            mean_gap[b] += weight * gap if weight != 0.0 else 0.0
    for b in range(n):
        share = 1.0 / (1.0 + rest[b])
        slopes.log_total[b] = log1p(rest[b])
        rest[b] = share
        mean_gap[b] *= share
        slopes.entropy[b] += slopes.log_total[b] + mean_gap[b]
    for a in range(start, stop):
        for b in range(n):
            slopes.d_log_prob[a, b] *= rest[b]


@compiled
def _bonus(head: Head, outputs: Floats, n: int, start: int, stop: int, slopes: Slopes) -> None:
    """Add the bonus of one choice whose probabilities are in ``d_log_prob``, and set its slopes."""
    p, d_bonus = slopes.d_log_prob, slopes.d_bonus
    if head.family not in (_SHANNON, _TO_UNIFORM):
        for b in range(n):
            slopes.bonus[b] += _other(head, outputs, b, start, stop, slopes.top[b], slopes.log_total[b], p, d_bonus)
        return
    for b in range(n):
        slopes.bonus[b] += slopes.log_total[b] + slopes.mean_gap[b]
    for a in range(start, stop):
        for b in range(n):
            gap = slopes.top[b] - outputs[a, b]
            d_bonus[a, b] = p[a, b] * (gap - slopes.mean_gap[b]) if p[a, b] != 0.0 else 0.0
    if head.family == _TO_UNIFORM:
        for b in range(n):
            n_allowed = 0
            for a in range(start, stop):
                n_allowed += outputs[a, b] != -np.inf
            slopes.bonus[b] -= math.log(n_allowed)


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
