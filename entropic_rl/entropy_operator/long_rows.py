"""Rows of many classes, one at a time: each is read from memory once on the way forward, and once on the way back."""

from __future__ import annotations

import math

import numpy as np

from entropic_rl.entropy_operator.arithmetic import Scales, top, weight, weight_of_rest, with_others
from entropic_rl.fused.compilation import Floats, compiled

__all__ = ["slope_row", "sum_row"]

_CHUNK = 4096  # elements that the nearest cache holds
_BLOCK = 512  # elements summed in float32; float64 from there on
_ZERO = np.float32(0.0)


@compiled
def sum_row(z: Floats, temperature: float, scales: Scales) -> tuple[float, float, float]:
    """Largest logit, weights of the rest, and mean gap of a row.

    A chunk with a new largest logit scales down what was summed before it.
    """
    largest, rest, weighted = np.float32(-np.inf), 0.0, 0.0
    for first in range(0, len(z), _CHUNK):
        chunk = z[first : first + _CHUNK]
        found, n_tops = top(chunk), 1.0  # the one that was found before
        if not found <= largest:  # also what is not a number
            if largest > -np.inf:
                drop = np.float64(found) - np.float64(largest)
                scale = math.exp(-drop / temperature)
                weighted = scale * (weighted + drop * (1.0 + rest)) if scale > 0.0 else 0.0
                rest = scale * (1.0 + rest)
            largest, n_tops = found, 0.0
        if largest == -np.inf:
            continue
        for start in range(0, len(chunk), _BLOCK):
            weights, products, count = _sums(chunk[start : start + _BLOCK], largest, scales)
            rest += np.float64(weights)
            weighted += np.float64(products)
            n_tops += np.float64(count)
        rest = with_others(rest, n_tops)
    return np.float64(largest), rest, weighted / (1.0 + rest)


@compiled
def _sums(z: Floats, largest: np.float32, scales: Scales) -> tuple[np.float32, np.float32, np.float32]:
    """Of weights without those of largest logits, of them times gaps, and of largest logits."""
    weights, products, n_tops = _ZERO, _ZERO, _ZERO
    for i in range(len(z)):
        value, gap, is_top = weight_of_rest(largest, z[i], scales)
        weights = weights + value
        products = products + value * gap
        n_tops = n_tops + is_top
    return weights, products, n_tops


@compiled
def slope_row(
    z: Floats,
    largest: np.float32,
    scales: Scales,
    slope: np.float32,
    shift: np.float32,
    mean_gap: np.float32,
    grad: Floats,
) -> None:
    """``w (slope (d - mean) + shift)`` of each element."""
    for i in range(len(z)):
        value, gap = weight(largest, z[i], scales)
        grad[i] = value * (slope * (gap - mean_gap) + shift)
