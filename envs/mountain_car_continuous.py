"""MountainCar with a continuous push, batched."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.envs.dynamics import Dynamics
from entropic_rl.envs.mountain_car import drive, valley_space

__all__ = ["MountainCarContinuous", "MountainCarContinuousVectorEnv"]

_GOAL = 0.45
_POWER = 0.0015


class MountainCarContinuous(Dynamics):
    """Gymnasium's MountainCarContinuous-v0: 100 at the flag, less a tenth of the squared actions.

    The push is clipped to [-1, 1], its price is not, as in Gymnasium; the state is float32 there, and so it is here.

    Args:
        goal_velocity: the car must be at least that fast at the flag.
    """

    n_start_draws = 1

    def __init__(self, goal_velocity: float = 0.0) -> None:
        self.observation_space = valley_space()
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self._goal_velocity = goal_velocity

    def start(self, u: Tensor) -> Tensor:
        """At rest, between -0.6 and -0.4."""
        position = (0.2 * u[0] - 0.6).to(torch.float32)
        return torch.stack((position, torch.zeros_like(position)))

    def step(self, state: Tensor, action: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Push."""
        push = action[:, 0]
        state = drive(state, _POWER * push.clamp(-1.0, 1.0))
        terminated = (state[0] >= _GOAL) & (state[1] >= self._goal_velocity)
        return state, 100.0 * terminated - 0.1 * push.square(), terminated

    def observe(self, state: Tensor) -> Tensor:
        """Position and velocity."""
        return state.T.clone()


MountainCarContinuousVectorEnv = partial(BatchedEnv, MountainCarContinuous, max_episode_steps=999)
