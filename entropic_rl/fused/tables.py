"""Perceptrons as tables of layers, and optimizers as rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from entropic_rl.fused.acting import Actor
from entropic_rl.fused.heads import HEADS
from entropic_rl.fused.layers import ACTIVATIONS, Layer
from entropic_rl.fused.stepping import Rows, Rule
from entropic_rl.networks import MLP, ParameterRows
from entropic_rl.optimizers import Adam, RMSprop
from entropic_rl.policies import ActorCritic

__all__ = [
    "actor_of",
    "array",
    "choices_of",
    "layer_table",
    "parameter_offsets",
    "policy_table",
    "rows_of",
    "rule_of",
    "unfit",
]


def unfit(policy: ActorCritic, heads: Sequence[str] = HEADS) -> str | None:
    """What machine code for these ``heads`` asks of a policy that is not so."""
    values, kind = policy.params.values, policy.action.kind
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return f"float32 on the CPU, got {values.dtype} on {values.device}"
    if not policy.is_dense:
        return "layers of perceptrons, got a policy with features or memory"
    if kind not in heads:
        return f"{', '.join(heads)} heads, got a {kind} one"
    return None


def choices_of(policy: ActorCritic) -> NDArray[np.int64]:
    """``[C]`` choices per component of the policy's head; none for a Gaussian one."""
    action = policy.action
    nvec = {"categorical": (action.n_outputs,), "multi-discrete": action.nvec}.get(action.kind, ())
    return np.array(nvec, dtype=np.int64)


def policy_table(policy: ActorCritic) -> tuple[NDArray[np.int64], dict[str, int], int]:
    """:func:`layer_table` of a policy: trunk, actor and, if it has one, critic."""
    parts = zip(policy.parts(), ("input", "trunk", "trunk"), strict=True)
    has_critic = policy.network.critic
    own = [(part, before) for part, before in parts if has_critic or part.name != "critic"]
    return layer_table(policy.params, policy.observation.size, own)


def layer_table(
    params: ParameterRows, n_inputs: int, parts: Sequence[tuple[MLP, str]]
) -> tuple[NDArray[np.int64], dict[str, int], int]:
    """Layers in the order of the way forward, the first row of each part's outputs, and how many rows there are.

    Args:
        params: of all parts.
        n_inputs: numbers that go in.
        parts: each with the name of the part before it, ``input`` for none.
    """
    offsets, first_row, n_units = parameter_offsets(params), {"input": 0}, n_inputs
    found: list[Layer] = []
    for part, before in parts:
        source = first_row[before]
        for i, (n_in, n_out) in enumerate(zip(part.sizes, part.sizes[1:], strict=False)):
            activation = part.activation if part.activates(i) else "none"
            weight, bias = offsets[f"{part.name}.{i}.weight"], offsets[f"{part.name}.{i}.bias"]
            found.append(Layer(weight, bias, source, n_in, n_units, n_out, ACTIVATIONS.index(activation), 0))
            source, n_units = n_units, n_units + n_out
        first_row[part.name] = source
    later = [{layer.source for layer in found[i + 1 :]} for i in range(len(found))]
    shares = [-1 if layer.source == 0 else int(layer.source in later[i]) for i, layer in enumerate(found)]
    table = [layer._replace(shares=share) for layer, share in zip(found, shares, strict=True)]
    return np.array(table, dtype=np.int64).reshape(-1, len(Layer._fields)), first_row, n_units


def actor_of(policy: ActorCritic) -> Actor:
    """The part of a policy that acts."""
    layers, first_row, _ = policy_table(policy)
    trunk, actor, _ = policy.parts()
    layers = layers[: len(trunk.sizes) + len(actor.sizes) - 2]
    outputs, n_outputs = first_row["actor"], actor.sizes[-1]
    log_std = parameter_offsets(policy.params).get("log_std", 0)
    return Actor(layers, outputs + n_outputs, outputs, n_outputs, choices_of(policy), log_std)


def parameter_offsets(params: ParameterRows) -> dict[str, int]:
    """Where each parameter begins in a row."""
    sizes = [math.prod(shape) for shape in params.shapes.values()]
    return dict(zip(params.shapes, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))


def rows_of(params: ParameterRows, optimizer: Adam | RMSprop) -> Rows:
    """What a step of the optimizer changes, sharing memory with it."""
    values = params.values
    unused = values.new_empty(len(values), 0)
    if isinstance(optimizer, Adam):
        each = (values, optimizer.exp_avg, optimizer.exp_avg_sq, optimizer.step_count)
    else:
        each = (values, unused, optimizer.square_avg, unused)
    return Rows._make(x.numpy() for x in each)


def rule_of(optimizer: Adam | RMSprop) -> Rule:
    """What a step of it is."""
    return Rule(isinstance(optimizer, Adam), optimizer.decay, optimizer.eps)


def array(x: Tensor) -> NDArray[Any]:
    """As machine code takes it: row by row, without a copy where it lies so already."""
    return np.ascontiguousarray(x.detach().numpy())
