"""Finite environments: the tables that are stepped are the tables whose exact optimum the oracle finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from entropic_rl.envs.dynamics import Dynamics
from entropic_rl.envs.tabular import TabularMDP

__all__ = ["FiniteDynamics"]


class FiniteDynamics(Dynamics):
    """Rules of an environment with S states, A actions and at most K outcomes of each; the state is one integer.

    Args:
        successor: ``[S, A, K]``, state that each outcome leads to.
        reward: ``[S, A, K]``, what it pays.
        probability: ``[S, A, K]``; None for certain outcomes (K = 1).
        start: ``[S]``, distribution of first states.
        terminal: ``[S]`` boolean.
        reward_std: ``[S, A]``, standard deviation of Gaussian noise on the reward; None for none.
        observations: ``[S, ...]``, what each state looks like: a one of its own among zeros, or (one state at most)
            zeros alone; None shows its number.
        limit: steps after which an episode is truncated; None for no limit.

    Attributes:
        mdp: the environment as a :class:`TabularMDP`, expected rewards in place of noisy ones.
    """

    def __init__(
        self,
        successor: np.ndarray,
        reward: np.ndarray,
        *,
        start: np.ndarray,
        terminal: np.ndarray,
        probability: np.ndarray | None = None,
        reward_std: np.ndarray | None = None,
        observations: np.ndarray | None = None,
        limit: int | None = None,
    ) -> None:
        n_states, n_actions, self._n_outcomes = successor.shape
        if observations is not None:
            flat = observations.reshape(n_states, -1)
            if not np.isin(flat, (0.0, 1.0)).all() or flat.sum(1).max() > 1 or len(np.unique(flat, axis=0)) < n_states:
                raise ValueError("observations must be one-hot and different for every state; one may be all zeros")
        self.n_states: int = n_states
        self.n_actions, self.max_episode_steps = n_actions, limit
        self.action_space = spaces.Discrete(n_actions)
        self.observation_space: spaces.Space[Any] = (
            spaces.Discrete(n_states)
            if observations is None
            else spaces.Box(float(observations.min()), float(observations.max()), observations.shape[1:], np.float32)
        )
        self._probability = torch.from_numpy(np.ones(successor.shape) if probability is None else probability)
        self._successor = torch.from_numpy(successor.reshape(-1).astype(np.int64))
        self._reward = torch.from_numpy(reward.astype(np.float64))
        self._flat_reward = self._reward.reshape(-1).to(torch.float32)
        self._start, self._terminal = torch.from_numpy(start.astype(np.float64)), torch.from_numpy(terminal)
        self._reward_std = None if reward_std is None else torch.from_numpy(reward_std.reshape(-1).astype(np.float32))
        self._observations = None if observations is None else torch.from_numpy(observations.astype(np.float32))
        cumulative = self._probability.cumsum(-1).reshape(-1, self._n_outcomes)
        self._thresholds = cumulative[:, :-1].contiguous()  # [S * A, K - 1]
        self._start_thresholds = self._start.cumsum(0)[:-1].contiguous()
        self.n_start_draws = int((start > 0).sum() > 1)
        self.n_step_draws = int(self._n_outcomes > 1) + int(reward_std is not None)

    @property
    def mdp(self) -> TabularMDP:
        """The environment for the oracle; ``max_episode_steps`` is no part of it, as truncation is of no problem."""
        shape = (self.n_states, self.n_actions, self.n_states)
        successor = self._successor.view(self._probability.shape).cpu()
        transition = torch.zeros(shape, dtype=torch.float64).scatter_add_(2, successor, self._probability.cpu())
        expected = (self._probability * self._reward).sum(-1)
        return TabularMDP(transition, expected.cpu(), self._start.cpu(), self._terminal.cpu())

    def start(self, u: Tensor) -> Tensor:
        """A state of the start distribution, ``[1, N]`` int64."""
        if self.n_start_draws == 0:
            return self._start.argmax().expand(1, u.shape[1]).clone()
        return torch.searchsorted(self._start_thresholds, u[0].contiguous(), right=True).unsqueeze(0)

    def step(self, state: Tensor, action: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draw an outcome of the action and look it up."""
        pair = state[0] * self.n_actions + action
        outcome = pair
        if self._n_outcomes > 1:
            chosen = (u[0].unsqueeze(1) > self._thresholds.index_select(0, pair)).sum(1)
            outcome = pair * self._n_outcomes + chosen
        successor = self._successor.index_select(0, outcome)
        reward = self._flat_reward.index_select(0, outcome)
        if self._reward_std is not None:
            noise = torch.special.ndtri(u[-1]).to(torch.float32)
            reward = torch.addcmul(reward, self._reward_std.index_select(0, pair), noise)
        return successor.unsqueeze(0), reward, self._terminal.index_select(0, successor)

    def observe(self, state: Tensor) -> Tensor:
        """The number of the state, or what it looks like."""
        return state[0].clone() if self._observations is None else self._observations.index_select(0, state[0])
