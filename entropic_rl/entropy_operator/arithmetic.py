"""Weights of logits in machine code, of which a processor computes several at a time."""

from __future__ import annotations

import math

import numpy as np

from entropic_rl.fused.compilation import Floats, compiled, compiled_as_written

__all__ = ["Scales", "ordered", "scales_of", "top", "unsigned", "weight", "weight_of_rest", "with_others"]

Scales = tuple[np.float32, np.float32, np.float32, np.float32, np.float32]

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
# exp(r) = 1 + r + r^2 q(r) for |r| <= log(2) / 2, least squares with weights that even out the relative error, 4e-9
_C2, _C3, _C4 = np.float32(0.4999999341202609), np.float32(0.1666652010288094), np.float32(0.041668394304361256)
_C5, _C6 = np.float32(0.008368780869647726), np.float32(0.0013814462683895343)
_ROUND = np.float32(12582912.0)  # 1.5 * 2^23: a number added to it leaves an integer in the last bits
_ROUND_BITS = np.int32(np.float32(12582912.0).view(np.int32))
_INFINITY_BITS = np.int32(0x7F800000)
_HIGH_BITS = np.int32(-256)  # keeps 16 bits, whose product with an exponent is exact
_LARGEST = 87.0  # beyond it exp(-d) is no normal number of float32, and counts as 0
_LOG_2 = math.log(2.0)


@compiled
def scales_of(temperature: float) -> Scales:
    """What turns gaps into exponents: ``log2(e) / T``, ``T log 2`` in two parts, ``1 / T``, and the largest gap."""
    step = temperature * _LOG_2
    high = np.int32(np.float32(step).view(np.int32) & _HIGH_BITS).view(np.float32)
    return (
        np.float32(1.0 / step),
        high,
        np.float32(step - high),
        np.float32(1.0 / temperature),
        np.float32(min(_LARGEST * temperature, 3.0e38)),
    )


@compiled_as_written
def weight(largest: np.float32, z: np.float32, scales: Scales) -> tuple[np.float32, np.float32]:
    """``exp(-d / T)`` of a gap ``d = largest - z`` with a relative error of 1e-7 however large d is, and d itself.

    Where there is no weight, d is finite all the same.
    """
    rate, step, step_low, inverse, limit = scales
    gap = largest - z
    back = gap - largest
    lost = (largest - (gap - back)) - (z + back)  # what rounding took from the gap: Knuth's sum of two numbers
    shifted = np.float32(_ROUND - gap * rate)
    n = shifted - _ROUND
    r = ((-gap - n * step) - n * step_low - lost) * inverse
    value = ((((_C6 * r + _C5) * r + _C4) * r + _C3) * r + _C2) * (r * r) + r + _ONE
    power = np.int32((shifted.view(np.int32) - _ROUND_BITS + np.int32(127)) << np.int32(23)).view(np.float32)
    return _ZERO if gap >= limit else value * power, limit if gap > limit else gap


@compiled_as_written
def weight_of_rest(largest: np.float32, z: np.float32, scales: Scales) -> tuple[np.float32, np.float32, np.float32]:
    """The same, but that a largest logit has no weight and is counted instead."""
    value, gap = weight(largest, z, scales)
    is_top = _ONE if gap == _ZERO else _ZERO
    return value - is_top, gap, is_top


@compiled_as_written
def with_others(rest: float, n_tops: float) -> float:
    """Weights of the rest with those of all largest logits but one; the one has to go before it swallows the rest."""
    return rest + (n_tops - 1.0)


@compiled
def top(z: Floats) -> np.float32:
    """The largest, or what is not a number; as integers in the same order, of which compilers know to take several."""
    bits, found = z.view(np.int32), np.int32(-(2**31))
    for i in range(len(bits)):
        found = max(found, ordered(unsigned(bits[i])))
    return np.int32(ordered(found)).view(np.float32)


@compiled
def unsigned(bits: np.int32) -> np.int32:
    """The bits of a number; of what is not a number those that come after all numbers, whatever its sign."""
    size = bits & np.int32(0x7FFFFFFF)
    return np.int32(size if size > _INFINITY_BITS else bits)


@compiled
def ordered(bits: np.int32) -> np.int32:
    """The bits of a number as an integer: what is larger stays larger; twice it is the same again."""
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))
