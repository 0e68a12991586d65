"""What units do on a batch: how many are dead or saturated, how large outputs are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["unit_signals"]

_FLAT = 0.05  # of its largest slope, below which an activation is flat
_SMALL = 1e-3  # outputs of smooth rectifiers that count as 0

# The slope of an activation over its largest slope, from its output.
_SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": lambda y: 1.0 - y * y,
    "sigmoid": lambda y: 4.0 * y * (1.0 - y),
}
_OFF: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda y: y <= 0.0,
    "gelu": lambda y: y.abs() < _SMALL,
    "silu": lambda y: y.abs() < _SMALL,
    "elu": lambda y: y + 1.0 < _FLAT,
}


@torch.no_grad()
def unit_signals(output: Tensor, activation: str | None = None) -> dict[str, Tensor]:
    """Signals ``[R]`` of outputs ``[R, ..., units]``, everything between being samples.

    Args:
        output: after the activation.
        activation: ``relu``, ``tanh``, ``sigmoid``, ``gelu``, ``silu``, ``elu``; of others nothing is known but the
            size of their outputs.
    """
    y = output.detach().flatten(1, -2) if output.ndim > 2 else output.detach().unsqueeze(1)  # [R, samples, units]
    found = {"rms": y.double().square().mean((1, 2)).sqrt(), "finite": y.isfinite().flatten(1).all(1).double()}
    if activation in _OFF:
        found["dead"] = _OFF[activation](y).all(1).double().mean(1)
    if activation in _SLOPES:
        found["saturated"] = (_SLOPES[activation](y) < _FLAT).double().mean((1, 2))
        found["dead"] = torch.zeros_like(found["rms"])
    return found
