"""What an environment is here: a start, a transition and an observation, as pure functions on tensors.

N copies lie side by side along the last axis, so that one program steps thousands of them on any device, can be
compiled, and needs nothing remembered between calls. Random numbers are arguments. ``single.SingleEnv`` and
``batched.BatchedEnv`` make Gymnasium environments of it.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

__all__ = ["Dynamics"]


class Dynamics(ABC):
    """An environment's rules, free of state and of randomness of their own.

    Attributes:
        observation_space: of one copy.
        action_space: of one copy, Discrete from 0 or a bounded Box.
        max_episode_steps: steps after which the rules truncate an episode; None if they do not.
        n_states: how many states there are, if they are finitely many, else None.
        layout: ``[H, W]``, which state lies where in a picture, by the place of the one in its observation (or the
            number observed); -1 for no state. None if there is no picture of all states.
        n_start_draws: uniform numbers that a start takes.
        n_step_draws: uniform numbers that a step takes.
        render_modes: which drawings there are, of ``rgb_array`` and ``ansi``.
        render_fps: steps per second at which they look natural.
    """

    render_modes: ClassVar[tuple[str, ...]] = ()
    render_fps: ClassVar[int] = 10

    observation_space: spaces.Space[Any]
    action_space: spaces.Discrete | spaces.Box
    max_episode_steps: int | None = None
    n_states: int | None = None
    layout: np.ndarray | None = None
    n_start_draws: int = 0
    n_step_draws: int = 0

    @abstractmethod
    def start(self, u: Tensor) -> Tensor:
        """First states ``[S, N]`` from uniform numbers ``[n_start_draws, N]`` in (0, 1), float64."""

    @abstractmethod
    def step(self, state: Tensor, action: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step of every copy.

        Args:
            state: ``[S, N]``.
            action: ``[N]`` int64 or ``[N, D]`` float32.
            u: ``[n_step_draws, N]``, uniform in (0, 1), float64.

        Returns:
            The next states ``[S, N]``, rewards ``[N]`` float32 and whether the episodes terminated ``[N]`` boolean.
        """

    @abstractmethod
    def observe(self, state: Tensor) -> Tensor:
        """Observations ``[N, *shape]`` of states ``[S, N]``, in the space's dtype."""

    def to(self, device: torch.device | str) -> Dynamics:
        """The same rules with their tables on another device."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        return moved

    def picture(self, state: Tensor) -> np.ndarray | None:
        """One state ``[S]`` drawn as ``[height, width, 3]`` bytes; None if there is no picture."""
        return None

    def text(self, state: Tensor) -> str | None:
        """One state ``[S]`` drawn with characters; None if there is no such drawing."""
        return None
