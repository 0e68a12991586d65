"""Means, quantiles and variances over the samples of each run that count, ``[R, N] -> [R]``."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "entropy_metrics",
    "explained_variance",
    "masked_mean",
    "masked_means",
    "mean_and_quantiles",
    "variance",
]

QUANTILES = (0.1, 0.5, 0.9)
_ENTROPY_NAMES = ("explore/policy_entropy", *(f"explore/policy_entropy_q{100 * q:.0f}" for q in QUANTILES))


def entropy_metrics(entropy: Tensor) -> dict[str, Tensor]:
    """Mean and quantiles of a policy's entropy, ``[R, 4]``, under their names in the record."""
    return dict(zip(_ENTROPY_NAMES, entropy.unbind(1), strict=True))


def masked_mean(x: Tensor, valid: Tensor | None) -> Tensor:
    """Mean over the samples of each run that count, ``[R, B] -> [R]``."""
    if valid is None:
        return x.mean(1)
    return (x * valid).sum(1) / valid.sum(1).clamp(min=1)


def masked_means(named: dict[str, Tensor], valid: Tensor | None) -> dict[str, Tensor]:
    """:func:`masked_mean` of several ``[R, B]`` by name, in one reduction."""
    stacked = torch.stack(list(named.values()))  # [K, R, B]
    means = stacked.mean(2) if valid is None else (stacked * valid).sum(2) / valid.sum(1).clamp(min=1)
    return dict(zip(named, means.unbind(), strict=True))


def mean_and_quantiles(x: Tensor, valid: Tensor | None) -> Tensor:
    """Mean and the nearest order statistics to the quantiles, over the samples that count, ``[R, N] -> [R, 4]``."""
    n = torch.full_like(x[:, 0], x.shape[1]) if valid is None else valid.sum(1).clamp(min=1).to(x.dtype)
    ordered = (x if valid is None else x.masked_fill(~valid, torch.inf)).sort(1).values
    rank = torch.stack([(n - 1.0) * quantile for quantile in QUANTILES], 1).round().to(torch.int64)
    return torch.cat([masked_mean(x, valid).unsqueeze(1), ordered.gather(1, rank)], 1)


def explained_variance(value: Tensor, value_target: Tensor, valid: Tensor | None = None) -> Tensor:
    """``1 - Var(target - value) / Var(target)`` per run, ``[R, N] -> [R]``; NaN where the target does not vary."""
    spread = variance(value_target, valid)
    explained = 1.0 - variance(value_target - value, valid) / spread
    return torch.where(spread > 0, explained, torch.full_like(explained, float("nan")))


def variance(x: Tensor, valid: Tensor | None) -> Tensor:
    """Population variance over the samples of each run that count, ``[R, N] -> [R]``."""
    return masked_mean((x - masked_mean(x, valid).unsqueeze(1)).square(), valid)
