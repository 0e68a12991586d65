"""Nodes and weights of the quadratures behind entropies that have no closed form."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

__all__ = ["gauss_legendre", "normal_trapezoid", "on_device"]

Rule = tuple[tuple[float, ...], tuple[float, ...]]
"""Nodes and weights."""


@lru_cache
def gauss_legendre(n: int) -> Rule:
    """For integrals over [-1, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return tuple(nodes.tolist()), tuple(weights.tolist())


@lru_cache
def on_device(rule: Rule, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """A quadrature rule on a device; copied there once."""
    return tuple(torch.tensor(numbers, dtype=dtype, device=device) for numbers in rule)


@lru_cache
def normal_trapezoid(n: int) -> Rule:
    """For expectations over the standard normal distribution."""
    t = np.linspace(-8.5, 8.5, n)
    weights = np.exp(-0.5 * t**2)
    return tuple(t.tolist()), tuple((weights / weights.sum()).tolist())
