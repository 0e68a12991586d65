"""Elementary functions of float64 that a loop computes several at a time; those of the C library it calls one by one.

Errors are a few units in the last place. Arithmetic is as it is written: what looks superfluous here rounds.
"""

from __future__ import annotations

import math

from entropic_rl.fused.compilation import bits_of, compiled_exactly, from_bits

__all__ = ["exp", "expm1", "log1p"]

_ROUND = 1.5 * 2.0**52  # added to a number it leaves the nearest integer in its lowest bits
_PER_E, _LN2_HIGH, _LN2_LOW = 1.0 / math.log(2.0), 6.93147180369123816490e-01, 1.90821492927058770002e-10
_LEAST, _MOST = -708.0, 709.0
_ONE_BITS, _HALF_ROOT_BITS = 0x3FF0000000000000, 0x3FE6A09E667F3BCD  # 1, sqrt 1/2
_FRACTION = 0x000FFFFFFFFFFFFF
_AS_NUMBER = 0x4330000000000000  # 2^52, to whose lowest bits an integer is added
_C2, _C3, _C4, _C5 = 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120
_C6, _C7, _C8, _C9 = 1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880
_C10, _C11, _C12, _C13 = 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800


@compiled_exactly
def exp(x: float) -> float:
    """``e^x``; 0 below -708, infinite above 709."""
    scale, rest = _parts(x)
    return _outside(x, scale * rest + scale, 0.0)


@compiled_exactly
def expm1(x: float) -> float:
    """``e^x - 1``."""
    scale, rest = _parts(x)
    return _outside(x, scale * rest + (scale - 1.0), -1.0)


@compiled_exactly
def _outside(x: float, value: float, least: float) -> float:
    value = least if x < _LEAST else value
    return math.inf if x > _MOST else value


@compiled_exactly
def _parts(x: float) -> tuple[float, float]:
    """``2^n`` and ``e^r - 1`` with ``x = n ln 2 + r``, ``|r| <= ln 2 / 2``, by Taylor's series."""
    inside = _LEAST if x < _LEAST else x
    inside = _MOST if x > _MOST else inside
    shifted = inside * _PER_E + _ROUND
    n = shifted - _ROUND
    r = (inside - n * _LN2_HIGH) - n * _LN2_LOW
    p = ((((_C13 * r + _C12) * r + _C11) * r + _C10) * r + _C9) * r + _C8
    p = (((((p * r + _C7) * r + _C6) * r + _C5) * r + _C4) * r + _C3) * r + _C2
    return from_bits((bits_of(shifted) << 52) + _ONE_BITS), r + r * r * p


@compiled_exactly
def log1p(x: float) -> float:
    """``ln(1 + x)`` for finite x >= 0.

    With ``1 + x = 2^n m``, m from sqrt 1/2 to sqrt 2, ``ln m = 2 atanh((m - 1) / (m + 1))`` by its series. What
    rounding took from ``1 + x`` is put back as a derivative.
    """
    u = 1.0 + x
    lost = (x - (u - 1.0)) / u
    above = bits_of(u) - _HALF_ROOT_BITS
    n = from_bits((above >> 52) + _AS_NUMBER) - 2.0**52
    m = from_bits((above & _FRACTION) + _HALF_ROOT_BITS)
    s = (m - 1.0) / (m + 1.0)
    t = s * s
    p = (((1.0 / 21 * t + 1.0 / 19) * t + 1.0 / 17) * t + 1.0 / 15) * t + 1.0 / 13
    p = ((((p * t + 1.0 / 11) * t + 1.0 / 9) * t + 1.0 / 7) * t + 1.0 / 5) * t + 1.0 / 3
    value = n * _LN2_HIGH + (2.0 * s + (2.0 * s * t * p + (n * _LN2_LOW + lost)))
    return x if x < 1e-16 else value
