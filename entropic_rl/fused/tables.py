"""Perceptrons as tables of layers, and threads that work on the runs of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from entropic_rl.fused.acting import Actor
from entropic_rl.fused.heads import HEADS
from entropic_rl.fused.layers import ACTIVATIONS, Layer
from entropic_rl.policies import ActorCritic

__all__ = ["actor_of", "choices_of", "layer_table", "on_threads", "parameter_offsets", "unfit"]


def unfit(policy: ActorCritic) -> str | None:
    """What machine code asks of a policy that is not so."""
    values, kind = policy.params.values, policy.action.kind
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return f"float32 on the CPU, got {values.dtype} on {values.device}"
    if not policy.is_dense:
        return "layers of perceptrons, got a policy with features or memory"
    if kind not in HEADS:
        return f"{', '.join(HEADS)} heads, got a {kind} one"
    return None


def choices_of(policy: ActorCritic) -> NDArray[np.int64]:
    """``[C]`` choices per component of the policy's head; none for a Gaussian one."""
    action = policy.action
    nvec = {"categorical": (action.n_outputs,), "multi-discrete": action.nvec}.get(action.kind, ())
    return np.array(nvec, dtype=np.int64)


def layer_table(policy: ActorCritic) -> tuple[NDArray[np.int64], dict[str, int], int]:
    """Layers in the order of the way forward, the first row of each part's outputs, and how many rows there are."""
    offsets, first_row, n_units = parameter_offsets(policy), {"input": 0}, policy.observation.size
    found: list[Layer] = []
    for part, before in zip(policy.parts(), ("input", "trunk", "trunk"), strict=True):
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
    layers, first_row, _ = layer_table(policy)
    trunk, actor, _ = policy.parts()
    layers = layers[: len(trunk.sizes) + len(actor.sizes) - 2]
    outputs, n_outputs = first_row["actor"], policy.action.n_outputs
    log_std = parameter_offsets(policy).get("log_std", 0)
    return Actor(layers, outputs + n_outputs, outputs, n_outputs, choices_of(policy), log_std)


def parameter_offsets(policy: ActorCritic) -> dict[str, int]:
    """Where each parameter begins in a row."""
    sizes = [math.prod(shape) for shape in policy.params.shapes.values()]
    return dict(zip(policy.params.shapes, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))


def on_threads(function: Callable[[int, int], Any], n_runs: int) -> None:
    """Call ``function(first, last)`` for runs ``first`` to ``last`` on as many threads as torch has."""
    n_threads = min(torch.get_num_threads(), n_runs)
    if n_threads == 1:
        function(0, n_runs)
        return
    parts = [_threads(n_threads).submit(function, run, run + 1) for run in range(n_runs)]
    for part in parts:
        part.result()


@cache
def _threads(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n, thread_name_prefix="fused")
