"""A small network as stages, each a function of the one before, with slopes in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from entropic_rl.diagnostics.copies import double_copy
from entropic_rl.errors import ConfigError, first_line

__all__ = ["Stage", "stages_of"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stage:
    """A layer: what its outputs are called, how they are computed, and its derivative."""

    name: str
    """z1, h1, z2, ..., and y for the logits."""
    meaning: str
    function: Callable[[Tensor], Tensor]
    weight: Tensor | None
    """``[out, in]`` of a Linear layer, which is its derivative."""
    slope: Callable[[Tensor], Tensor | None]
    """Derivative of an activation at z, ``[n] -> [n, n]``; None where there is no closed form here."""


def stages_of(network: nn.Sequential) -> tuple[list[Stage], dict[int, int]]:
    """The stages of a network, and of each Linear layer its place in the network -> its place among the stages.

    Raises:
        ConfigError: it is not a Sequential of Linear layers with at most one activation after each but the last.
    """
    rule = "network: expected an nn.Sequential of Linear layers with at most one activation between them"
    if not isinstance(network, nn.Sequential):
        raise ConfigError(f"{rule}, got {type(network).__name__}; write the layers in a row")
    layers = list(double_copy(network, "network").cpu())
    linear = [isinstance(layer, nn.Linear) for layer in layers]
    if not linear or not (linear[0] and linear[-1]):
        raise ConfigError(f"{rule}, got {len(layers)} layers of which the first or the last is not Linear; the softmax "
                          "is part of the loss")  # fmt: skip
    stages: list[Stage] = []
    places: dict[int, int] = {}
    for i, layer in enumerate(layers):
        if linear[i]:
            places[i] = len(stages)
            name = "y" if i == len(layers) - 1 else f"z{len(places)}"
            stages.append(_linear(layer, name, f"weights of layer {len(places)}"))
        elif not linear[i - 1]:
            raise ConfigError(f"{rule}, got {type(layer).__name__} after another one; put a Linear layer between them")
        else:
            stages.append(_activation(layer, f"h{len(places)}", rule))
    return stages, places


def _linear(layer: Any, name: str, meaning: str) -> Stage:
    weight = layer.weight.detach()
    bias = torch.zeros_like(weight[:, 0]) if layer.bias is None else layer.bias.detach()
    return Stage(name=name, meaning=meaning, weight=weight, slope=lambda _: None,
                 function=lambda x: F.linear(x, weight, bias))  # fmt: skip


def _activation(layer: nn.Module, name: str, rule: str) -> Stage:
    kind = type(layer).__name__

    def function(z: Tensor) -> Tensor:
        try:
            h = layer(z.clone())  # some work in place
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ConfigError(
                f"{rule}, got {kind}, which fails on one row: {first_line(error)}; leave it out"
            ) from error
        if not isinstance(h, Tensor) or h.shape != z.shape:
            raise ConfigError(f"{rule}, got {kind}, which changes the shape; leave it out")
        return h

    def slope(z: Tensor) -> Tensor | None:
        formula = _SLOPES.get(type(layer))
        with torch.no_grad():
            found = None if formula is None else formula(layer, z)
        return None if found is None else found.diag()

    return Stage(name=name, meaning=f"slope of {kind}", function=function, weight=None, slope=slope)


def _of_gelu(layer: Any, z: Tensor) -> Tensor | None:
    if layer.approximate != "none":
        return None
    return torch.special.ndtr(z) + z * (-0.5 * z * z).exp() / math.sqrt(2.0 * math.pi)


def _of_softplus(layer: Any, z: Tensor) -> Tensor:
    return torch.where(z * layer.beta > layer.threshold, 1.0, (layer.beta * z).sigmoid())


def _of_prelu(layer: Any, z: Tensor) -> Tensor:
    return torch.where(z > 0, torch.ones_like(z), layer.weight.expand_as(z))


_SLOPES: dict[type[nn.Module], Callable[[Any, Tensor], Tensor | None]] = {
    nn.ELU: lambda layer, z: torch.where(z > 0, 1.0, layer.alpha * z.exp()),
    nn.GELU: _of_gelu,
    nn.Identity: lambda _, z: torch.ones_like(z),
    nn.LeakyReLU: lambda layer, z: torch.where(z > 0, torch.ones_like(z), layer.negative_slope),
    nn.PReLU: _of_prelu,
    nn.ReLU: lambda _, z: (z > 0).to(z.dtype),
    nn.SiLU: lambda _, z: z.sigmoid() * (1.0 + z * (-z).sigmoid()),
    nn.Sigmoid: lambda _, z: z.sigmoid() * (-z).sigmoid(),
    nn.Softplus: _of_softplus,
    nn.Tanh: lambda _, z: 1.0 - z.tanh() ** 2,
}
