"""Where an attack may go: a ball around each row, cut to the box in which features lie. Rows are ``[R, N, D]``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from entropic_rl.config import suggestion
from entropic_rl.errors import ConfigError
from entropic_rl.streams import Stream

__all__ = ["NORMS", "Ball", "Box", "as_box", "check_eps", "check_norm"]

NORMS = ("linf", "l2")

Box: TypeAlias = tuple[float, float]
"""The least and the largest value that a feature may have; infinite where there is no bound."""


def check_norm(norm: str) -> str:
    """``norm``, if it is one.

    Raises:
        ConfigError: it is not.
    """
    if norm not in NORMS:
        raise ConfigError(f"norm: expected linf or l2, got {norm!r}{suggestion(str(norm), NORMS)}")
    return norm


def check_eps(eps: float) -> float:
    """A radius in the units of the features.

    Raises:
        ConfigError: it is negative, infinite or NaN.
    """
    if not 0.0 <= eps < math.inf:
        raise ConfigError(f"eps: expected a finite radius >= 0, in the units of the features, got {eps}")
    return float(eps)


def as_box(box: Sequence[float] | None, x: Tensor) -> Box:
    """The bounds of the features, and that all rows ``x`` are within them.

    Raises:
        ConfigError: they are no bounds, a row lies outside, or is not finite.
    """
    low, high = (-math.inf, math.inf) if box is None else map(float, box)
    if not low < high:
        raise ConfigError(f"box: expected a least and a larger value of the features, got {low:g} and {high:g}")
    if not x.isfinite().all():
        raise ConfigError("x: expected finite features, got NaN or infinity; fill or drop those rows")
    if x.numel() and not low <= float(x.min()) <= float(x.max()) <= high:
        raise ConfigError(
            f"box: expected features from {low:g} to {high:g}, got {float(x.min()):g} to {float(x.max()):g}; scale the "
            "features, or declare the box they lie in"
        )
    return low, high


@dataclass(frozen=True, slots=True)
class Ball:
    """Points within ``eps`` of a row, and in the box.

    Attributes:
        eps: radius, or one of each run, ``[R, 1, 1]``.
        norm: ``linf`` or ``l2``.
        box: see :func:`as_box`; rows are in it.
    """

    eps: float | Tensor
    norm: str
    box: Box

    def project(self, x: Tensor, centre: Tensor) -> Tensor:
        """The nearest point of the ball, then of the box; as the centre is in it, the second stays in the ball."""
        if self.norm == "linf":
            inside = torch.minimum(torch.maximum(x, centre - self.eps), centre + self.eps)
        else:
            delta = x - centre
            length = torch.linalg.vector_norm(delta, dim=-1, keepdim=True)
            inside = torch.where(length > self.eps, centre + delta * (self.eps / length), x)
        return inside.clamp(*self.box)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The direction of length 1 along which a linear loss grows most; 0 where the gradient is 0 or NaN."""
        gradient = gradient.nan_to_num(0.0, posinf=0.0, neginf=0.0)
        if self.norm == "linf":
            return gradient.sign()
        largest = gradient.abs().amax(-1, keepdim=True)
        scaled = gradient / torch.where(largest > 0, largest, 1.0)  # squares of small gradients would be 0
        length = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
        return scaled / torch.where(length > 0, length, 1.0)

    def random_point(self, centre: Tensor, stream: Stream, *, surface: bool = False) -> Tensor:
        """A uniform point of the ball around each row, or of its surface (a corner, in L-infinity), cut to the box.

        Args:
            centre: ``[R, N, D]``.
            stream: of R runs, or of one for all.
            surface: rather than from within.
        """
        n_rows, n_features = centre.shape[1:]
        if self.norm == "linf":
            offset = 2.0 * stream.uniform(n_rows, n_features) - 1.0
            offset = offset.sign() if surface else offset
        else:
            offset = stream.normal(n_rows, n_features)
            offset = offset / torch.linalg.vector_norm(offset, dim=-1, keepdim=True)
            offset = offset if surface else offset * stream.uniform(n_rows, 1) ** (1.0 / n_features)
        return self.project(centre + self.eps * offset.to(centre.dtype), centre)
