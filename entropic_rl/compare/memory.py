"""How much memory a batch of runs will take; free of torch."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from entropic_rl.cell import Cell
from entropic_rl.config import FUSED_FROM
from entropic_rl.conv_layers import default_features, default_layers, map_sizes, patch_numbers
from entropic_rl.spaces import ActionSpec, ObservationSpec, image_size

__all__ = ["available_memory", "estimate_batch"]

_MIB = 2**20
_FLOAT = 4
_BARE = 285 * _MIB  # a process with torch, the agents and the pictures loaded (torch 2.13, CPU build)
_MACHINE_CODE = 110 * _MIB  # Numba, LLVM, and what they make
_FUSED = ("ppo", "a2c", "sac")  # agents that there is some for
_SB3 = 370 * _MIB  # with Stable-Baselines3
_REMEMBERED = 2**22  # numbers of observations that wait to be counted, at most
_ROWS = 500  # of a record, about
_BLOCK = 2**24  # numbers in the patches of the images that are looked at together


def estimate_batch(cells: Sequence[Cell], observation: ObservationSpec, action: ActionSpec) -> int:
    """Bytes that a process needs at most to train the cells as one batch; within a fifth of what was measured.

    What grows with the number of runs R: parameters with gradients, optimizer state and temporaries; the rollout and
    its shuffled copy; evaluating all its samples; what autograd keeps of a minibatch. The factors are measured
    (``benchmark.py memory``).
    """
    run, config, n_runs = cells[0].run, cells[0].config, len(cells)
    if cells[0].agent.startswith("sb3:"):
        transition = 2 * observation.size + action.n_outputs + 3
        return _SB3 + getattr(config, "buffer_size", 0) * transition * _FLOAT
    if hasattr(config, "buffer_size"):
        own = n_runs * _off_policy(config, run.total_timesteps, observation, action)
        return _bare(cells[0]) + own + _meter(cells, observation)
    samples = config.n_steps * run.n_envs
    batch = min(getattr(config, "batch_size", samples), samples)
    extra = _extra(config, observation)
    widths = [*config.net_arch, action.n_outputs]
    params = extra.params + 2 * sum(a * b + b for a, b in zip([extra.n_outputs, *widths], widths, strict=False))
    event = action.n_outputs if action.is_continuous else 1
    numbers = {
        "parameters, gradients, optimizer, temporaries": 9 * params,
        "rollout": samples * (observation.size + event + action.n_outputs + 8),
        "its samples, twice": 2 * samples * (observation.size + event + 6),
        "values and log-probabilities of all samples": int(4.5 * samples * max(widths)),
        "activations of a minibatch and their gradients": 4 * 2 * batch * sum(widths) + 2 * batch * extra.activations,
        "features of all samples": samples * extra.n_outputs + min(_BLOCK, samples * extra.activations),
    }
    return _bare(cells[0]) + n_runs * sum(numbers.values()) * _FLOAT + _meter(cells, observation)


def _bare(cell: Cell) -> int:
    """Bytes of a process before it trains."""
    is_long = cell.run.kernel == "auto" and cell.run.total_timesteps >= FUSED_FROM
    is_fused = cell.agent in _FUSED and (cell.run.kernel == "fused" or is_long)
    return _BARE + (_MACHINE_CODE if is_fused else 0)


def _off_policy(config: Any, total_timesteps: int, observation: ObservationSpec, action: ActionSpec) -> int:
    """Bytes of an off-policy run: its memory as far as it will be filled, two critics with targets, an actor."""
    seen = 2 * observation.size * (1 if observation.image else _FLOAT)  # images are kept as bytes
    remembered = min(config.buffer_size, total_timesteps) * (seen + (action.n_outputs + 2) * _FLOAT)
    extra = _extra(config, observation)
    widths = [extra.n_outputs + action.n_outputs, *config.net_arch, 2 * action.n_outputs]
    params = extra.params + sum(a * b + b for a, b in pairwise(widths))
    activations = config.batch_size * (4 * 2 * 3 * sum(widths) + 2 * 5 * extra.activations)
    return remembered + (9 * 4 * params + activations) * _FLOAT


class _Extra(NamedTuple):
    """What lies before the hidden layers: numbers it gives, parameters, numbers that a sample leaves for gradients."""

    n_outputs: int
    params: int
    activations: int


def _extra(config: Any, observation: ObservationSpec) -> _Extra:
    """What is computed before the hidden layers: convolutions, attention, memory."""
    kind, frames = getattr(config, "features", "flat"), observation.frames
    found = _Extra(observation.size, 0, 0)
    if observation.image is not None and kind != "flat":
        height, width, channels = image_size(observation.image)
        stacked = (channels * frames, height, width)
        layers = default_layers(stacked)
        n = config.features_dim or default_features(stacked)
        maps = [math.prod(size) for size in map_sizes(stacked, layers)]
        found = _Extra(n, maps[-1] * n, patch_numbers(stacked, layers) + 2 * sum(maps[1:]))
    elif kind == "attention":
        n = config.features_dim or 32
        found = _Extra(n, 24 * n * n, 40 * n * frames)
    if getattr(config, "recurrent", "none") != "none":
        n, gates = config.recurrent_size, 4 if config.recurrent == "lstm" else 3
        weights = gates * n * (found.n_outputs + n)
        found = _Extra(n, found.params + weights, found.activations + 4 * gates * n)
    return found


def _meter(cells: Sequence[Cell], observation: ObservationSpec) -> int:
    """Observations that wait to be counted between two rows of the record, with the copies made to count them."""
    run = cells[0].run
    if run.coverage == "off":
        return 0
    waiting = (
        max(run.total_timesteps / _ROWS, _steps_per_update(cells[0].config) * run.n_envs)
        * len(cells)
        * observation.size
        // observation.frames
    )
    return int(3 * min(waiting, _REMEMBERED) * _FLOAT)


def _steps_per_update(config: Any) -> int:
    """Off-policy agents may have n_steps, too, but with them it is no length of a rollout."""
    return int(getattr(config, "train_freq", config.n_steps))


def available_memory() -> int:
    """Bytes that new processes may take here: what the machine has left, or this container's limit."""
    free = int(psutil.virtual_memory().available)
    limit, used = (_cgroup(name) for name in ("memory.max", "memory.current"))
    return free if limit is None or used is None else min(free, limit - used)


def _cgroup(name: str) -> int | None:
    """A number of the control group this process is in; None if there is no limit, or no such thing."""
    path = Path("/sys/fs/cgroup") / name
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def n_cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
