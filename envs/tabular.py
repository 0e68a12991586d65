"""Finite Markov decision processes as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["TabularMDP"]


@dataclass(frozen=True, slots=True, eq=False)
class TabularMDP:
    """A finite MDP, in float64.

    Attributes:
        transition: ``[S, A, S]``, the probability of going from s by a to s'; rows sum to 1.
        reward: ``[S, A]``, the expected reward of taking a in s.
        start: ``[S]``, the distribution of first states.
        terminal: ``[S]`` boolean, states whose arrival ends the episode: nothing is earned in or after them.

    Raises:
        ValueError: shapes disagree, or probabilities are negative or do not sum to 1.
    """

    transition: Tensor
    reward: Tensor
    start: Tensor
    terminal: Tensor

    def __post_init__(self) -> None:
        n_states, n_actions = self.reward.shape
        expected = {
            "transition": (n_states, n_actions, n_states),
            "start": (n_states,),
            "terminal": (n_states,),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(
                    f"{name} must have shape {shape} for reward of shape {(n_states, n_actions)}, "
                    f"got {tuple(getattr(self, name).shape)}"
                )
        for name in ("transition", "reward", "start"):
            object.__setattr__(self, name, getattr(self, name).to(torch.float64))
        object.__setattr__(self, "terminal", self.terminal.to(torch.bool))
        for name in ("transition", "start"):
            table = getattr(self, name)
            if bool((table < 0).any()) or not torch.allclose(table.sum(-1), torch.ones((), dtype=torch.float64)):
                raise ValueError(f"{name} must hold probabilities that sum to 1 along its last axis")

    @property
    def n_states(self) -> int:
        """S."""
        return self.reward.shape[0]

    @property
    def n_actions(self) -> int:
        """A."""
        return self.reward.shape[1]

    @property
    def continuation(self) -> Tensor:
        """``[S, A, S]``, the probability of going to s' and on from there: 0 into and out of terminal states."""
        going_on = (~self.terminal).to(torch.float64)
        return self.transition * going_on * going_on[:, None, None]

    @property
    def earned(self) -> Tensor:
        """``[S, A]``, the reward where the episode is not over yet, 0 in terminal states."""
        return self.reward.masked_fill(self.terminal.unsqueeze(1), 0.0)
