"""Derivatives without derivatives: central differences in float64, and how far two derivatives are apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["STEP", "central_difference", "jacobian_difference", "relative_error"]

STEP = 1e-4
"""The customary step of central differences: in float64 their truncation and rounding are about as large there."""

_TRUNCATION = 1e-7  # estimated relative error from which on two steps are combined
_HIDDEN = 1e-5  # derivatives below this share of the function itself drown in the rounding of the function


def central_difference(along: Callable[[float], Tensor], step: float = STEP) -> tuple[Tensor, bool]:
    """Derivative of ``along`` at 0, of the shape of its values, and whether it had to be extrapolated.

    ``D(h) = (f(h) - f(-h)) / 2h`` errs by ``h^2 f'''/6``, of which ``(D(2h) - D(h)) / 3`` is an estimate. Where that is
    more than 1e-7 of the derivative it is taken off: ``(4 D(h) - D(2h)) / 3``, with an error of order ``h^4``.

    Args:
        along: of a number, near 0; float64 values.
        step: h, in units of the argument; ``along`` is asked at +-h and +-2h.

    Source: Richardson (1911), https://doi.org/10.1098/rsta.1911.0009.
    """
    near = (along(step) - along(-step)) / (2.0 * step)
    far = (along(2.0 * step) - along(-2.0 * step)) / (4.0 * step)
    truncation = (far - near) / 3.0
    if float(relative_error(near, near + truncation, size=near.abs().amax())) <= _TRUNCATION:
        return near, False
    return near - truncation, True


def jacobian_difference(function: Callable[[Tensor], Tensor], x: Tensor, steps: Tensor) -> tuple[Tensor, bool]:
    """Derivatives of ``function`` by each element of ``x``, ``[n] -> [..., n]``, and whether any was extrapolated.

    Args:
        function: of a vector ``[n]``, float64.
        x: ``[n]``, where.
        steps: ``[n]``, of each element.
    """

    def by(unit: Tensor, step: Tensor) -> tuple[Tensor, bool]:
        return central_difference(lambda t: function(x + t * unit), float(step))

    units = torch.eye(len(x), dtype=x.dtype)
    columns, extrapolated = zip(*map(by, units, steps), strict=True)
    return torch.stack(columns, -1), any(extrapolated)


def relative_error(expected: Tensor, got: Tensor, *, size: Tensor | float = 0.0) -> float:
    """Largest difference of two derivatives over the largest element of either, a number >= 0.

    Args:
        expected: ``[...]``.
        got: ``[...]``, the same shape.
        size: of the function itself. Finite differences cannot see derivatives below about 1e-5 of it: such are
            compared with that share instead.
    """
    scale = max(float(expected.abs().amax()), float(got.abs().amax()), _HIDDEN * float(size))
    error = float((expected - got).abs().amax())
    return error / scale if error else 0.0
