"""Environments as machine code: their rules traced, written to a file of Python, and compiled from there."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from entropic_rl.envs.dynamics import Dynamics
from entropic_rl.fused.compilation import Floats64, cache_directory
from entropic_rl.fused.tracing import Symbols, Untraceable, Writer, trace

__all__ = ["Program", "program_of"]

_SOURCE = '''"""Rules of an environment, {digest}, written out for copies side by side; made by a program."""

import math

import numpy as np
from numba import types

from entropic_rl.fused.compilation import called_by_pointer

_STATE, _OBS = types.float64[:, ::1], types.float32[:, ::1]


@called_by_pointer(types.void(_STATE, types.float64[:, ::1], _STATE, types.float64[::1], types.int64, types.int64,
                              types.float32[::1], types.boolean[::1]))
def step(state, action, u, tables, first, n, reward, terminated):
    for i in range(n):
        c = first + i
{step}


@called_by_pointer(types.void(_STATE, types.float64[::1], types.int64, types.int64, _OBS))
def observe(state, tables, first, n, obs):
    for i in range(n):
        c = first + i
{observe}
'''
_INDENT = " " * 8


@dataclass(frozen=True)
class Program:
    """An environment's rules, compiled; numbers of all kinds are float64.

    Attributes:
        step: ``(state [S, N], action [n, D], u [draws, N], tables, first, n, reward [n], terminated [n])`` moves the n
            copies from ``first`` on, in place.
        observe: ``(state [S, N], tables, first, n, obs [n, D])``.
        tables: what they look up.
    """

    step: Any
    observe: Any
    tables: Floats64


def program_of(dynamics: Dynamics) -> Program | None:
    """The rules compiled, or None if that is not possible: they use operations that cannot be written out."""
    try:
        source, tables = _source(dynamics)
    except Untraceable:
        return None
    module = _module(source)
    return Program(module.step, module.observe, tables)


def _source(dynamics: Dynamics) -> tuple[str, Floats64]:
    step, observe = Writer(), Writer()
    state = dynamics.start(torch.full((dynamics.n_start_draws, 1), 0.5, dtype=torch.float64))
    space = dynamics.action_space
    is_box = isinstance(space, spaces.Box)
    action = torch.zeros(1, *space.shape) if is_box else torch.zeros(1, dtype=torch.int64)  # type: ignore[misc]
    if action.ndim > 2:
        raise Untraceable("actions of more than one dimension")
    u = torch.full((dynamics.n_step_draws, 1), 0.5, dtype=torch.float64)
    inputs = (
        (state, _read(step, "state[{0}, c]", state)),
        (action, _read(step, "action[i, {0}]", action.reshape(-1, 1), shape=action.shape)),
        (u, _read(step, "u[{0}, c]", u)),
    )
    moved, reward, terminated = trace(step, dynamics.step, *inputs)
    _check_kind(moved, state.shape)
    lines = [*step.lines]
    lines += [f"state[{s}, c] = {name}" for s, name in enumerate(step.array(moved).names.flatten())]
    lines += [f"reward[i] = {_one(step, reward)}", f"terminated[i] = {_one(step, terminated)}"]

    def flat(state: Tensor) -> Tensor:
        return _flat_observation(dynamics, state)

    observe.tables = step.tables
    [obs] = trace(observe, lambda x: [flat(x)], (state, _read(observe, "state[{0}, c]", state)))
    looked: list[str] = []
    if obs.row is not None:
        table, index, width = obs.row
        looked = [f"for d in range({width}):", f"    obs[i, d] = tables[{table} + {index} * {width} + d]"]
    else:
        looked = [f"obs[i, {d}] = {name}" for d, name in enumerate(obs.names.flatten())]
    source = _SOURCE.replace("{step}", "\n".join(_INDENT + line for line in lines))
    source = source.replace("{observe}", "\n".join(_INDENT + line for line in [*observe.lines, *looked]))
    return source, observe.tables


def _read(writer: Writer, template: str, example: Tensor, shape: Any = None) -> Symbols:
    """Names for an input ``[rows, 1]``, read from its array."""
    names = [writer.line(template.format(row), example.dtype) for row in range(len(example))]
    return Symbols(np.array(names, dtype=object).reshape(shape or example.shape), example.dtype)


def _check_kind(moved: Symbols, shape: torch.Size) -> None:
    if moved.names.shape != tuple(shape):
        raise Untraceable("a state of another shape")


def _one(writer: Writer, x: Symbols) -> str:
    [name] = writer.array(x).names.flatten()
    return str(name)


def _flat_observation(dynamics: Dynamics, state: Tensor) -> Tensor:
    """As agents see it, ``[N, D]`` float32: one-hot where it is a number."""
    obs, space = dynamics.observe(state), dynamics.observation_space
    if isinstance(space, spaces.Discrete):
        return torch.eye(int(space.n)).index_select(0, obs - int(space.start))
    if not isinstance(space, spaces.Box) or space.dtype != np.float32:
        raise Untraceable(f"observations in {space}")
    return obs.flatten(1)


@cache
def _module(source: str) -> Any:
    """The module with this source, from a file of its own: what Numba compiles it keeps beside files."""
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    path = cache_directory() / f"environment_{digest}.py"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_text(source.replace("{digest}", digest))
        unfinished.replace(path)
    return _imported(path)


def _imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"entropic_rl_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise OSError(f"{path} cannot be imported")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # Numba looks for it there
    spec.loader.exec_module(module)
    return module
