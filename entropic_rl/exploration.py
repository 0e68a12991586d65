"""Exploration meters: what R runs have visited, done and found in training.

States are counted as the behaviour met them: every observation acted on and every one an episode ended in; rows in
which an environment only reset itself are not. What counts as one state is a :class:`Cells`, the same for every run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from entropic_rl.devices import brought
from entropic_rl.errors import EnvError
from entropic_rl.spaces import ActionSpec
from entropic_rl.user_modules import import_user_module
from entropic_rl.vector import Transition

__all__ = ["Cells", "ExplorationMeter", "cells_of", "grid", "load_cells"]

_MAX_CELLS = 10_000
_MAX_BINS = 50
_MAX_BOUND = 1e6
_ACTION_BINS = 32
_NEVER = torch.iinfo(torch.int64).max
_REMEMBERED = 2**22  # numbers of observations that wait to be counted


@dataclass(frozen=True, slots=True)
class Cells:
    """What counts as one state.

    Attributes:
        n: numbers that ``index`` gives lie in [0, n).
        index: from flat observations ``[..., D]`` (not normalised, one-hot if Discrete) to ``[...]`` int64.
        n_states: how many of the n can occur, of which coverage is a share; None if that is not known, then n.
        layout: ``[H, W]``, which of the n lies where in a picture; -1 for none. None if there is no such picture.
    """

    n: int
    index: Callable[[Tensor], Tensor]
    n_states: int | None = None
    layout: np.ndarray | None = None


def cells_of(space: spaces.Space[Any], n_states: int | None = None, layout: np.ndarray | None = None) -> Cells | None:
    """The default: exact states for a Discrete space or a finite environment, a grid for a Box, None for other spaces.

    Args:
        space: of single observations.
        n_states: of a finite environment that shows its state one-hot (all zeros: the end) in a Box.
        layout: of a finite environment, as :class:`Cells` has it.
    """
    if isinstance(space, spaces.Discrete):
        return Cells(int(space.n), lambda obs: obs.argmax(-1), layout=layout)
    if not isinstance(space, spaces.Box):
        return None
    if n_states is not None:
        size = math.prod(space.shape)

        def index(obs: Tensor) -> Tensor:
            return torch.nn.functional.pad(obs, (0, 1), value=0.5).argmax(-1)  # all zeros: the number after the others

        return Cells(size + 1, index, n_states, layout)
    if space.dtype == np.uint8 or math.prod(space.shape) == 0:
        return None
    return grid(space.low.reshape(-1), space.high.reshape(-1))


def grid(low: np.ndarray, high: np.ndarray, bins: int | None = None) -> Cells:
    """Equal bins between the bounds of each dimension; unbounded dimensions by ``x / (1 + |x|)`` in (-1, 1).

    It depends on the space alone, so that it is the same for every coefficient and every run. Bounds beyond a million
    only say "any number" and count as none. What lies outside the bounds falls into the outermost bin; NaN counts as 0.

    Args:
        low: ``[D]``, may hold -inf.
        high: ``[D]``, may hold inf.
        bins: per dimension; None for as many as keep the grid within 10,000 cells, at most 50 and at least 2. If
            two bins are too many, dimensions beyond the 13th are left out.
    """
    n_dims = min(len(low), int(math.log2(_MAX_CELLS)))
    n_bins = bins or max(2, min(_MAX_BINS, int(_MAX_CELLS ** (1.0 / n_dims) + 1e-9)))
    bounded = ((np.abs(low) <= _MAX_BOUND) & (np.abs(high) <= _MAX_BOUND))[:n_dims]
    first = np.where(bounded, low[:n_dims], -1.0)
    width = np.maximum(np.where(bounded, high[:n_dims], 1.0) - first, 1e-12)
    edges = [torch.as_tensor(bounded), *(torch.tensor(x, dtype=torch.float32) for x in (first, width))]

    @cache
    def on(device: torch.device) -> list[Tensor]:
        return [x.to(device) for x in (*edges, n_bins ** torch.arange(n_dims))]

    def index(obs: Tensor) -> Tensor:
        x = obs[..., :n_dims].nan_to_num()
        is_bounded, lowest, size, place = on(obs.device)
        x = torch.where(is_bounded, x, x / (1.0 + x.abs()))
        share = (x - lowest) / size
        # Bounded before it becomes an integer: those wrap around.
        bin_number = (share * n_bins).clamp(0, n_bins - 1).to(torch.int64)
        return (bin_number * place).sum(-1)

    # Two dimensions make a picture: the first one to the right, the second one upwards.
    layout = np.arange(n_bins**2).reshape(n_bins, n_bins)[::-1] if n_dims == 2 else None
    return Cells(n_bins**n_dims, index, layout=layout)


class ExplorationMeter:
    """Counts what R runs of E environments visit and do.

    Steps are remembered and counted together, at the latest by :meth:`read`, so that a step costs little but memory.

    Args:
        cells: what counts as one state; None counts actions and rewards only.
        n_runs: R.
        n_envs: E.
        action: how the agent's actions are stored.
        device: where the counting is done.

    Attributes:
        visits: ``[R, n]``, how often each state was met.
        first_reward: ``[R]``, env steps of the run at its first reward > 0; -1 before.
    """

    NO_STATE = ("cells",)

    def __init__(
        self,
        cells: Cells | None,
        n_runs: int,
        n_envs: int,
        *,
        action: ActionSpec,
        frames: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        self.cells, self._action, self._n_envs, self._frames = cells, action, n_envs, frames
        n = 0 if cells is None else cells.n
        self.visits = torch.zeros(n_runs, n, dtype=torch.int64, device=device)
        self._earliest = torch.full((n_runs, n), _NEVER, dtype=torch.int64, device=device)
        self.first_reward = torch.full((n_runs,), -1, dtype=torch.int64, device=device)
        self._n_steps = 0  # of each environment
        self._met: list[tuple[list[int], Tensor, Tensor | None]] = []  # (steps, observations [K, R, E, D], which count)
        self._n_remembered = 0  # numbers of these observations
        self._met_before = False  # whether the first cell numbers were checked
        self._rewards: list[Tensor] = []
        self._actions: list[tuple[Tensor, Tensor | None]] = []

    def begin(self, obs: Tensor) -> None:
        """The first observations ``[R, E, D]``."""
        self._meet([0], obs.unsqueeze(0), None)

    def observe(self, action: Tensor, transition: Transition) -> None:
        """One step: actions ``[R, E, *event]`` as the agent gave them, and the answer."""
        self._n_steps += 1
        valid = transition.valid
        # Copies: what others hold, too, is written over where a training goes on from a checkpoint.
        self._actions.append((action.unsqueeze(0).clone(), None if valid is None else valid.unsqueeze(0).clone()))
        reward = transition.reward  # the env may reuse its own
        self._rewards.append((reward.clone() if valid is None else reward * valid).unsqueeze(0))
        if transition.final_obs is not None:
            ended = transition.terminated | transition.truncated
            self._meet([self._n_steps], transition.final_obs.unsqueeze(0), ended.unsqueeze(0))
        next_valid = transition.next_valid  # in NEXT_STEP mode the final observation comes again as the next one
        counts = None if next_valid is None else next_valid.unsqueeze(0).clone()
        self._meet([self._n_steps], transition.next_obs.unsqueeze(0), counts)

    def observe_all(
        self, action: Tensor, reward: Tensor, next_obs: Tensor, cut_obs: Sequence[tuple[int, Tensor, Tensor]]
    ) -> None:
        """T steps at once, in none of which an environment did nothing but reset.

        Args:
            action: ``[T, R, E, *event]``.
            reward: ``[T, R, E]``, divided by a positive number or not.
            next_obs: ``[T, R, E, D]``, as the environments gave them.
            cut_obs: ``(t, ended [R, E], obs [R, E, D])`` of every step in which an episode may have ended.
        """
        first = self._n_steps
        self._n_steps += len(reward)
        self._actions.append((action.clone(), None))
        self._rewards.append(reward.clone())
        if cut_obs:
            times, ended, final_obs = zip(*cut_obs, strict=True)
            self._meet([first + t + 1 for t in times], torch.stack(final_obs), torch.stack(ended))
        self._meet([*range(first + 1, self._n_steps + 1)], next_obs, None)

    @property
    def first_visit(self) -> Tensor:
        """``[R, n]``, env steps of the run when each state was first met; -1 if it was not."""
        return self._earliest.masked_fill(self._earliest == _NEVER, -1)

    def read(self) -> dict[str, Tensor]:
        """Metrics ``[R]`` of the training so far, and of the actions since the last reading.

        - ``explore/coverage``: share of the states that were met (of the grid's cells, for a grid);
        - ``explore/n_states``: how many;
        - ``explore/visitation_entropy``: nats of the distribution of visits;
        - ``explore/action_entropy``: nats of the distribution of actions over all states (its part within states is
          ``explore/policy_entropy``); for bounded Box actions that of 32 bins, as a differential entropy in units of
          the bounds, summed over dimensions;
        - ``explore/first_reward``: env steps until the first reward > 0; NaN before.
        """
        metrics: dict[str, Tensor] = {}
        self._count_rewards()
        if self.cells is not None:
            self._count_visits()
            counts = self.visits.to(torch.float64)
            n_met = counts.clamp(max=1.0).sum(1)
            share = counts / counts.sum(1, keepdim=True).clamp(min=1.0)
            metrics["explore/coverage"] = n_met / (self.cells.n_states or self.cells.n)
            metrics["explore/n_states"] = n_met
            metrics["explore/visitation_entropy"] = -torch.xlogy(share, share).sum(1)  # exactly 0 of one state
        if self._actions and (all(self._action.bounded) or not self._action.is_continuous):
            metrics["explore/action_entropy"] = self._action_entropy()
        metrics["explore/first_reward"] = censored(self.first_reward)
        return metrics

    def _meet(self, steps: list[int], obs: Tensor, counts: Tensor | None) -> None:
        """Observations ``[K, R, E, D]`` after so many steps of each environment, and which of them count."""
        if self.cells is None:
            return
        obs = obs[..., -(obs.shape[-1] // self._frames) :]  # the latest of those side by side
        self._met.append((steps, obs.clone(), counts))
        self._n_remembered += obs.numel()
        if self._n_remembered > _REMEMBERED:
            self._count_visits()

    def _count_rewards(self) -> None:
        if not self._rewards:
            return
        rewarded = (torch.cat(self._rewards) > 0).any(2)  # [T, R]
        first = self._n_steps - len(rewarded) + 1 + rewarded.to(torch.int8).argmax(0)
        found = rewarded.any(0) & (self.first_reward < 0)
        self.first_reward = torch.where(found, first * self._n_envs, self.first_reward)
        self._rewards = []

    def _count_visits(self) -> None:
        """Add up the states met since the last reading."""
        if self.cells is None or not self._met:
            return
        seen = torch.cat([obs for _, obs, _ in self._met]).transpose(0, 1)
        cell = self.cells.index(seen).flatten(1)  # [R, T * E]
        if not self._met_before:
            self._met_before = True
            low, high = (int(bound) for bound in cell.aminmax())
            if cell.is_floating_point() or low < 0 or high >= self.cells.n:
                raise EnvError(f"--coverage: expected whole cell numbers below {self.cells.n}, got {low} to {high}")
        weight = self._weights([(len(steps), counts) for steps, _, counts in self._met], cell.device).to(torch.int64)
        steps = brought([n * self._n_envs for steps, _, _ in self._met for n in steps], cell.device)
        steps = steps.repeat_interleave(self._n_envs).expand(len(cell), -1)
        self.visits.scatter_add_(1, cell, weight)
        self._earliest.scatter_reduce_(1, cell, steps.masked_fill(weight == 0, _NEVER), "amin")
        self._met, self._n_remembered = [], 0

    def _weights(self, masks: list[tuple[int, Tensor | None]], device: torch.device) -> Tensor:
        """Boolean masks ``[K, R, E]`` with their K, None for all, as ``[R, T * E]``."""
        everything = torch.ones(len(self.first_reward), self._n_envs, dtype=torch.bool, device=device)
        parts = [everything.expand(n, -1, -1) if mask is None else mask for n, mask in masks]
        return torch.cat(parts).transpose(0, 1).flatten(1)

    def _action_entropy(self) -> Tensor:
        """Of the actions since the last reading."""
        action = torch.cat([a for a, _ in self._actions]).transpose(0, 1).flatten(1, 2)  # [R, T * E, *event]
        weight = self._weights([(len(a), valid) for a, valid in self._actions], action.device)
        self._actions = []
        kind = self._action.kind
        if kind == "categorical":
            return _entropy_of_counts(action.unsqueeze(-1), weight, self._action.n_outputs)
        if kind == "multi-discrete":
            return _entropy_of_counts(action, weight, max(self._action.nvec))
        if kind == "bernoulli":
            return _entropy_of_counts(action, weight, 2)
        unit = action.tanh() if kind == "tanh-gaussian" else action.clamp(-1.0, 1.0)
        bins = ((unit + 1.0) * (_ACTION_BINS / 2)).to(torch.int64).clamp(0, _ACTION_BINS - 1)
        width = action.shape[-1] * math.log(2.0 / _ACTION_BINS)
        return _entropy_of_counts(bins, weight, _ACTION_BINS) + width


def censored(steps: Tensor) -> Tensor:
    """Step counts as numbers, NaN for what has not happened yet."""
    return steps.to(torch.float64).masked_fill(steps < 0, torch.nan)


def _entropy_of_counts(choice: Tensor, weight: Tensor, n: int) -> Tensor:
    """Nats of the distributions of ``choice [R, N, D]`` in [0, n), each ``[R]``, summed over dimensions."""
    total = torch.zeros(len(choice), dtype=torch.float64, device=choice.device)
    for column in choice.to(torch.int64).unbind(-1):
        counts = torch.zeros(len(choice), n, dtype=torch.float64, device=choice.device)
        counts.scatter_add_(1, column, weight.to(torch.float64))
        share = counts / counts.sum(1, keepdim=True).clamp(min=1.0)
        total -= torch.xlogy(share, share).sum(1)
    return total


def load_cells(place: str) -> Cells:
    """A user's own :class:`Cells` from ``MODULE:NAME``.

    Raises:
        EnvError: it cannot be imported, or is something else.
    """
    module, _, name = place.partition(":")
    try:
        cells = getattr(import_user_module(module), name)
    except (ImportError, AttributeError) as error:
        raise EnvError(f"--coverage {place}: cannot be imported ({error}); expected MODULE:NAME of a Cells") from None
    if not isinstance(cells, Cells):
        raise EnvError(f"--coverage {place}: expected an entropic_rl.exploration.Cells, got {type(cells).__name__}")
    return cells
