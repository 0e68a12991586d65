"""What one gradient step says about every layer: norms, angles, shares of the step; pure functions of ``[R, P]`` rows.

A layer is a stretch of columns. Sums are in float64: the square of a gradient that has all but vanished is no float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["SIGNALS", "Layer", "gradient_signals", "stack_units", "step_signals"]

SIGNALS = {
    "task_norm": "norm of the gradient of the task",
    "entropy_norm": "norm of the gradient of the entropy term",
    "total_norm": "norm of the gradient of the loss",
    "cosine": "cosine between the two gradients; -1: they oppose each other",
    "ratio": "entropy's norm over the task's",
    "entropy_share": "entropy's share of the step, after the optimizer's scaling; the task's is 1 minus it",
    "weight_norm": "norm of the parameters",
    "update_ratio": "norm of the update over that of the parameters",
    "dead": "share of units that are 0 for every sample",
    "saturated": "share of outputs where the slope of the activation is below 5 % of its largest",
    "rms": "root mean square of the outputs",
    "finite": "1 if parameters, outputs and gradients are all finite, else 0",
}
"""Every number that is kept of a layer, and what it is."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Parameters that belong together.

    Attributes:
        name: as the network has it.
        columns: where they are in the rows.
    """

    name: str
    columns: slice

    @property
    def n_parameters(self) -> int:
        """How many."""
        return int(self.columns.stop - self.columns.start)


def gradient_signals(
    layers: Sequence[Layer], weights: Tensor, task: Tensor, entropy: Tensor | None
) -> dict[str, Tensor]:
    """Norms of both gradients and of the parameters, and the angle between the gradients, ``[R, L]`` each.

    Args:
        layers: L.
        weights: ``[R, P]``.
        task: ``[R, P]``, the gradient of the loss without its entropy.
        entropy: ``[R, P]``, the gradient of what the entropy adds; None where it adds nothing.
    """
    weights, task = weights.double(), task.double()
    found = {"weight_norm": _norms(layers, weights), "task_norm": _norms(layers, task)}
    if entropy is None:
        nothing = torch.full_like(found["task_norm"], torch.nan)
        return found | {"total_norm": found["task_norm"]} | dict.fromkeys(("entropy_norm", "cosine", "ratio"), nothing)
    entropy = entropy.double()
    entropy_norm = _norms(layers, entropy)
    products = _sums(layers, task * entropy)
    return found | {
        "entropy_norm": entropy_norm,
        "total_norm": _norms(layers, task + entropy),
        "cosine": products / (found["task_norm"] * entropy_norm),
        "ratio": entropy_norm / found["task_norm"],
    }


def step_signals(
    layers: Sequence[Layer],
    before: Tensor,
    after: Tensor,
    *,
    task: Tensor,
    entropy: Tensor | None,
    scale: Tensor,
) -> dict[str, Tensor]:
    """How far a step went, and which share of it is the entropy's, ``[R, L]`` each.

    The optimizer scales the gradient g entry by entry, by D: the share is ``<D g_entropy, D g> / <D g, D g>``. Shares
    of task and entropy sum to 1; one is negative where the other overcame it. Of a step with momentum this is the part
    that is made of the present gradient.

    Args:
        layers: L.
        before: parameters before the step, ``[R, P]``.
        after: and after it.
        task: gradients as in :func:`gradient_signals`.
        entropy: likewise.
        scale: D, ``[R, P]``.
    """
    before = before.double()
    found = {"update_ratio": _norms(layers, after.double() - before) / _norms(layers, before)}
    if entropy is None:
        return found | {"entropy_share": torch.full_like(found["update_ratio"], torch.nan)}
    scale = scale.double()
    by_entropy = scale * entropy.double()
    total = by_entropy + scale * task.double()
    return found | {"entropy_share": _sums(layers, by_entropy * total) / _sums(layers, total * total)}


def stack_units(layers: Sequence[Layer], units: Mapping[str, dict[str, Tensor]], like: Tensor) -> dict[str, Tensor]:
    """What was seen of layers' outputs, ``[R]`` each, as ``[R, L]``; NaN where nothing was seen.

    Args:
        layers: L.
        units: layer -> signal -> ``[R]``.
        like: ``[R, L]``.
    """
    names = ("dead", "saturated", "rms", "finite")
    nothing = torch.full_like(like[:, 0], torch.nan)
    return {
        name: torch.stack([units.get(layer.name, {}).get(name, nothing).to(like) for layer in layers], 1)
        for name in names
    }


def _norms(layers: Sequence[Layer], x: Tensor) -> Tensor:
    return torch.stack([torch.linalg.vector_norm(x[:, layer.columns], dim=1) for layer in layers], 1)


def _sums(layers: Sequence[Layer], x: Tensor) -> Tensor:
    return torch.stack([x[:, layer.columns].sum(1) for layer in layers], 1)
