"""Gradients within a layer: over the time steps of recurrent layers, and over the heads of attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from entropic_rl.diagnostics.flow import output_gradients, split_gradient
from entropic_rl.diagnostics.forward import check_precision, check_trainable, observed_pass
from entropic_rl.entropy import categorical_entropy
from entropic_rl.errors import ConfigError

__all__ = ["Parts", "gradient_over_time", "gradient_per_head"]


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Norms of gradients by part of a layer: by time step, or by head.

    Attributes:
        task: ``[N]``.
        entropy: ``[N]``; None without an entropy term.
    """

    task: Tensor
    entropy: Tensor | None


def gradient_over_time(
    module: nn.Module,
    *inputs: Any,
    loss: Callable[[Tensor], Tensor],
    ent_coef: float = 0.0,
    entropy: Callable[[Tensor], Tensor] = categorical_entropy,
) -> dict[str, Parts]:
    """How strongly the loss hangs on what each recurrent layer was given at each of its T steps.

    Where the norms at the first steps are far below those at the last, the layer cannot learn from what lies long ago.

    Args:
        module: with layers ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM`` on batches of sequences of one length.
        inputs: what the module is called with.
        loss: of the module's output, without the entropy; one number.
        ent_coef: weight of the mean entropy, which is subtracted from the loss.
        entropy: of the module's output.

    Returns:
        Layer -> norms of the gradients by its inputs, ``[T]``, over samples and features.

    Raises:
        ConfigError: as :func:`entropic_rl.diagnostics.flow.split_gradient`; there is no such layer, or its sequences
            are packed.
    """
    check_trainable(module)
    check_precision([(f"input {i}", x) for i, x in enumerate(inputs) if isinstance(x, Tensor)], "inputs")
    layers = {name or type(module).__name__: m for name, m in module.named_modules() if isinstance(m, nn.RNNBase)}
    if not layers:
        raise ConfigError(f"module: expected a recurrent layer (nn.RNN, nn.GRU, nn.LSTM), got none in "
                          f"{type(module).__name__}; look at its layers with GradientFlow")  # fmt: skip
    given: dict[str, Tensor] = {}
    hooks = [layer.register_forward_pre_hook(_keeping(given, name)) for name, layer in layers.items()]
    try:
        output = observed_pass(module, inputs).output
    finally:
        for hook in hooks:
            hook.remove()
    by_task, by_entropy = output_gradients(output, loss, ent_coef=ent_coef, entropy=entropy)
    seen = list(given.values())
    task = torch.autograd.grad(output, seen, by_task, allow_unused=True, materialize_grads=True, retain_graph=True)
    other: tuple[Tensor | None, ...] = (None,) * len(seen)
    if by_entropy is not None:
        other = torch.autograd.grad(output, seen, by_entropy, allow_unused=True, materialize_grads=True)
    return {
        name: Parts(_by_step(t, layers[name]), None if e is None else _by_step(e, layers[name]))
        for name, t, e in zip(given, task, other, strict=True)
    }


def gradient_per_head(
    module: nn.Module,
    *inputs: Any,
    loss: Callable[[Tensor], Tensor],
    ent_coef: float = 0.0,
    entropy: Callable[[Tensor], Tensor] = categorical_entropy,
) -> dict[str, Parts]:
    """Norms of the gradients by the weights of each head of attention: its query, key, value and output.

    A head whose norm is far below those of its neighbours has nothing to do.

    Args:
        module: with layers ``nn.MultiheadAttention`` whose keys and values are as wide as queries.
        inputs: what the module is called with.
        loss: of the module's output, without the entropy; one number.
        ent_coef: weight of the mean entropy, which is subtracted from the loss.
        entropy: of the module's output.

    Returns:
        Layer -> norms by head, ``[heads]``.

    Raises:
        ConfigError: as :func:`entropic_rl.diagnostics.flow.split_gradient`; there is no such layer.
    """
    check_trainable(module)
    layers = {
        name or type(module).__name__: layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.MultiheadAttention) and layer.in_proj_weight is not None
    }
    if not layers:
        raise ConfigError(f"module: expected attention (nn.MultiheadAttention, keys as wide as queries), got none in "
                          f"{type(module).__name__}; look at its layers with GradientFlow")  # fmt: skip
    split = split_gradient(module, inputs, loss, ent_coef=ent_coef, entropy=entropy)
    names = {id(p): name for name, p in module.named_parameters()}
    order = [names[id(p)] for p in split.parameters]
    sizes = [p.numel() for p in split.parameters]

    def by_name(row: Tensor) -> dict[str, Tensor]:
        parts = row[0].split(sizes)
        return {name: part.view_as(p) for name, part, p in zip(order, parts, split.parameters, strict=True)}

    task, other = by_name(split.task), None if split.entropy is None else by_name(split.entropy)
    return {
        name: Parts(_by_head(task, name, layer), None if other is None else _by_head(other, name, layer))
        for name, layer in layers.items()
    }


def _keeping(given: dict[str, Tensor], name: str) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    """A hook that keeps what a recurrent layer is given, in a form that has a gradient."""

    def keep(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x, *rest = inputs
        if not isinstance(x, Tensor) or x.ndim != 3:
            got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise ConfigError(f"{name}: expected a batch of sequences of one length, got {got}; pad instead of packing")
        given[name] = x if x.requires_grad else x.detach().clone().requires_grad_()
        return (given[name], *rest)

    return keep


def _by_step(gradient: Tensor, layer: nn.RNNBase) -> Tensor:
    """``[T]`` of the gradient by a layer's input."""
    by_step = gradient.transpose(0, 1) if layer.batch_first else gradient
    return by_step.detach().double().flatten(1).norm(dim=1)


def _by_head(gradients: dict[str, Tensor], name: str, layer: nn.MultiheadAttention) -> Tensor:
    """``[heads]``: rows of the projections to query, key and value, and columns of that back."""
    prefix = f"{name}." if f"{name}.in_proj_weight" in gradients else ""
    into = gradients[f"{prefix}in_proj_weight"].double().unflatten(0, (3, layer.num_heads, layer.head_dim))
    back = gradients[f"{prefix}out_proj.weight"].double().unflatten(1, (layer.num_heads, layer.head_dim))
    return (into.square().sum((0, 2, 3)) + back.square().sum((0, 2))).sqrt()
