"""Temperature scaling: one number that makes logits of held-out data as likely as they can be."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from entropic_rl.errors import ConfigError

__all__ = ["TemperatureScaler"]

_GRID = 41
_HALVINGS = 60


class TemperatureScaler:
    """Divides logits by the temperature that minimises the negative log-likelihood of held-out labels.

    ``log T`` is what is fitted, in float64: T > 0 by construction, and the likeliest class stays. The likelihood is
    unimodal in it, so that a grid and bisections of the derivative find its minimum. Fit it on a split of its own, on
    neither training nor test data. Source: Guo et al. (2017), section 4.2, https://arxiv.org/abs/1706.04599.

    Args:
        bounds: lowest and highest temperature. Data that are classified without an error would want 0: the bound is
            taken, and a warning says so.
        prior_precision: of a Gaussian prior of log T around 0, >= 0: ``prior_precision (log T)^2 / 2`` is added to the
            *sum* of the losses, so that it fades as data come. A temperature fitted on few points overfits; 0 is none.

    Attributes:
        temperature: 1 until :meth:`fit`.
    """

    def __init__(self, *, bounds: tuple[float, float] = (0.01, 100.0), prior_precision: float = 0.0) -> None:
        if not (len(bounds) == 2 and 0.0 < bounds[0] <= 1.0 <= bounds[1] < math.inf and bounds[0] < bounds[1]):
            raise ConfigError(f"bounds: expected 0 < lowest <= 1 <= highest, got {tuple(bounds)}")
        if not 0.0 <= prior_precision < math.inf:
            raise ConfigError(f"prior_precision: expected a number >= 0, got {prior_precision}")
        self._bounds = bounds
        self._precision = prior_precision
        self.temperature = 1.0

    def fit(
        self, logits: Tensor | Any, target: Tensor | Sequence[int] | Any, weight: Tensor | Any = None
    ) -> TemperatureScaler:
        """Fit the temperature to ``logits [N, C]`` and class indices ``target [N]`` (arrays do as well).

        ``weight [N]``, >= 0, is how much each row counts: 2 is two rows; None is 1 for all.

        Raises:
            ConfigError: shapes do not fit, no rows, NaN or infinite logits, indices or weights out of range.
        """
        z, y = _checked(logits, target)
        counts = _checked_weight(weight, z)
        gaps = (z - z.gather(1, y.unsqueeze(1))).detach()  # [N, C], 0 at the label: loss_i = logsumexp(gaps_i / T)
        # u = -log T, the logarithm of what multiplies the logits.
        low, high = -math.log(self._bounds[1]), -math.log(self._bounds[0])
        grid = sorted({0.0, *torch.linspace(low, high, _GRID, dtype=torch.float64).tolist()})
        losses = [self._loss(gaps, counts, u) for u in grid]
        best = min(range(len(grid)), key=lambda i: (losses[i], abs(grid[i])))
        left, right = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        for _ in range(_HALVINGS):
            middle = 0.5 * (left + right)
            left, right = (left, middle) if self._slope(gaps, counts, middle) > 0.0 else (middle, right)
        # The same temperature as before where nothing is better by more than rounding.
        u = min((0.0, grid[best], 0.5 * (left + right)), key=lambda u: self._loss(gaps, counts, u))
        self.temperature = math.exp(-u)
        if min(u - low, high - u) < 1e-6 * (high - low):
            warnings.warn(
                "the temperature is at its bound: the held-out data are separated by their logits, or tell nothing; "
                "take more of them, or give a prior_precision",
                stacklevel=2,
            )
        return self

    def transform(self, logits: Tensor) -> Tensor:
        """``logits / T``, ``[..., C] -> [..., C]``."""
        return logits / self.temperature

    def predict_proba(self, logits: Tensor) -> Tensor:
        """``softmax(logits / T)``, ``[..., C] -> [..., C]``."""
        return self.transform(logits).softmax(-1)

    def _loss(self, gaps: Tensor, counts: Tensor, u: float) -> float:
        return (counts * (gaps * math.exp(u)).logsumexp(1)).sum().item() + 0.5 * self._precision * u * u

    def _slope(self, gaps: Tensor, counts: Tensor, u: float) -> float:
        """Derivative of the loss by u."""
        scaled = gaps * math.exp(u)
        return (counts * (scaled.softmax(1) * scaled).sum(1)).sum().item() + self._precision * u


def _checked(logits: Any, target: Any) -> tuple[Tensor, Tensor]:
    z, y = torch.as_tensor(logits).detach().to(torch.float64), torch.as_tensor(target)
    if z.ndim != 2 or y.shape != z.shape[:1] or y.is_floating_point():
        raise ConfigError(
            f"temperature: expected logits [N, C] and class indices [N], got {tuple(z.shape)} and {tuple(y.shape)} of "
            f"{str(y.dtype).removeprefix('torch.')}"
        )
    if not len(z):
        raise ConfigError("temperature: expected at least one row to fit it on, got none")
    if not z.isfinite().all():
        raise ConfigError("temperature: expected finite logits, got NaN or infinity")
    if not ((y >= 0) & (y < z.shape[1])).all():
        raise ConfigError(f"temperature: expected class indices from 0 to {z.shape[1] - 1}, got {y.min()} to {y.max()}")
    return z, y.to(torch.int64)


def _checked_weight(weight: Any, z: Tensor) -> Tensor:
    """``[N]``, where the logits ``z [N, C]`` are."""
    if weight is None:
        return torch.ones_like(z[:, 0])
    counts = torch.as_tensor(weight).detach().to(z)
    if counts.shape != z.shape[:1] or not ((counts >= 0.0) & counts.isfinite()).all() or not counts.any():
        raise ConfigError(
            f"temperature: expected a weight >= 0 for each of {len(z)} rows, not all 0, got {tuple(counts.shape)} from "
            f"{counts.min() if counts.numel() else 0:g} to {counts.max() if counts.numel() else 0:g}"
        )
    return counts
