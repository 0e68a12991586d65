"""A step of an optimizer on one row of parameters, as :mod:`entropic_rl.optimizers` has it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from entropic_rl.fused.compilation import Floats, compiled

__all__ = ["Rows", "Rule", "step"]


class Rule(NamedTuple):
    """Which step.

    Attributes:
        adam: whether steps are Adam's; else RMSprop's.
        decay: of the mean of gradients, and of their squares.
        eps: beside the root.
    """

    adam: bool
    decay: tuple[float, float]
    eps: float


class Rows(NamedTuple):
    """What steps change: parameters ``params``, running means ``mean, square [R, P]``, and ``steps [R, 1]``."""

    params: Floats
    mean: Floats
    square: Floats
    steps: Floats


@compiled
def step(rule: Rule, rows: Rows, row: int, learning_rate: float, grads: Floats) -> None:
    """Step one row by its gradient ``[P]``."""
    params, mean, square = rows.params[row], rows.mean[row], rows.square[row]
    one = np.float32(1.0)
    decay, share = np.float32(rule.decay[0]), np.float32(1.0 - rule.decay[0])
    decay_of_squares, share_of_squares = np.float32(rule.decay[1]), np.float32(1.0 - rule.decay[1])
    eps, scale = np.float32(rule.eps), one
    rate = np.float32(learning_rate)
    if rule.adam:
        rows.steps[row, 0] += one
        t = rows.steps[row, 0]
        rate = np.float32(learning_rate / (1.0 - rule.decay[0] ** t))
        scale = np.float32(1.0 / math.sqrt(1.0 - rule.decay[1] ** t))
    for i in range(len(grads)):
        g = grads[i]
        square[i] = decay_of_squares * square[i] + share_of_squares * g * g
        if rule.adam:
            mean[i] = decay * mean[i] + share * g
            g = mean[i]
        params[i] -= rate * g / (np.sqrt(square[i]) * scale + eps)
