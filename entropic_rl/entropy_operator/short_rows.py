"""Rows of few classes, side by side: ``[K, rows]`` in a tile, so that every loop runs along the rows."""

from __future__ import annotations

import numpy as np

from entropic_rl.entropy_operator.arithmetic import Scales, ordered, unsigned, weight, weight_of_rest, with_others
from entropic_rl.fused.blocks import turn_over
from entropic_rl.fused.compilation import Floats, Floats64, compiled

__all__ = ["slope_tile", "sum_tile"]

_ZERO = np.float32(0.0)


@compiled
def sum_tile(z: Floats, scales: Scales, spare: Floats, tops: Floats64, rests: Floats64, mean_gaps: Floats64) -> None:
    """Largest logits, weights of the rest, and mean gaps of ``z [n, K]``; ``spare`` has room for ``[K + 4, n]``."""
    n, n_classes = z.shape
    columns, largest = spare[:n_classes], spare[n_classes, :n]
    rest, weighted, n_tops = spare[n_classes + 1, :n], spare[n_classes + 2, :n], spare[n_classes + 3, :n]
    turn_over(columns, z)
    for i in range(n):  # slices would take longer to compile
        largest[i], rest[i], weighted[i], n_tops[i] = -np.inf, _ZERO, _ZERO, _ZERO
    for k in range(n_classes):
        _larger(columns[k, :n].view(np.int32), largest.view(np.int32))
    for k in range(n_classes):
        _add(columns[k, :n], largest, scales, rest, weighted, n_tops)
    for i in range(n):
        total = with_others(np.float64(rest[i]), np.float64(n_tops[i]))
        tops[i], rests[i], mean_gaps[i] = largest[i], total, np.float64(weighted[i]) / (1.0 + total)


@compiled
def slope_tile(z: Floats, scales: Scales, by_row: Floats, spare: Floats, grad: Floats) -> None:
    """``w (slope (d - mean) + shift)`` of ``z [n, K]``; ``by_row [4, n]`` holds largest logit, slope, shift, mean."""
    n, n_classes = z.shape
    turn_over(spare, z)
    for k in range(n_classes):
        _slope(spare[k, :n], by_row[0, :n], scales, by_row[1, :n], by_row[2, :n], by_row[3, :n])
    turn_over(grad, spare[:, :n])


@compiled
def _larger(z: Floats, largest: Floats) -> None:
    """Bits of numbers, of which the larger stay; see :func:`entropic_rl.entropy_operator.arithmetic.top`."""
    for i in range(len(z)):
        largest[i] = ordered(max(ordered(unsigned(z[i])), ordered(largest[i])))


@compiled
def _add(z: Floats, largest: Floats, scales: Scales, rest: Floats, weighted: Floats, n_tops: Floats) -> None:
    for i in range(len(z)):
        value, gap, is_top = weight_of_rest(largest[i], z[i], scales)
        rest[i] += value
        weighted[i] += value * gap
        n_tops[i] += is_top


@compiled
def _slope(z: Floats, largest: Floats, scales: Scales, slope: Floats, shift: Floats, mean_gap: Floats) -> None:
    """In place."""
    for i in range(len(z)):
        value, gap = weight(largest[i], z[i], scales)
        z[i] = value * (slope[i] * (gap - mean_gap[i]) + shift[i])
