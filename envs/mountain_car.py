"""MountainCar with discrete pushes, batched; its physics also serve the sparse variant."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.envs.dynamics import Dynamics

__all__ = ["MAX_POSITION", "MIN_POSITION", "MountainCar", "MountainCarVectorEnv", "drive", "valley_space"]

MIN_POSITION, MAX_POSITION, MAX_SPEED = -1.2, 0.6, 0.07
_GOAL = 0.5


def valley_space() -> spaces.Box:
    """Position and velocity."""
    low = np.array([MIN_POSITION, -MAX_SPEED], np.float32)
    high = np.array([MAX_POSITION, MAX_SPEED], np.float32)
    return spaces.Box(low, high, dtype=np.float32)


def drive(state: Tensor, push: Tensor) -> Tensor:
    """One step of position and velocity ``[2, N]`` in the valley under ``push [N]``, in velocity per step.

    Source: Moore (1990), https://www.cl.cam.ac.uk/techreports/UCAM-CL-TR-209.pdf, with Gymnasium's constants.
    """
    position, velocity = state.unbind()
    velocity = (velocity + push - 0.0025 * (3.0 * position).cos()).clamp(-MAX_SPEED, MAX_SPEED)
    position = (position + velocity).clamp(MIN_POSITION, MAX_POSITION)
    stuck = (position == MIN_POSITION) & (velocity < 0)
    return torch.stack((position, velocity.masked_fill(stuck, 0.0)))


class MountainCar(Dynamics):
    """Gymnasium's MountainCar-v0: rock an underpowered car out of a valley; -1 per step until the flag.

    Args:
        goal_velocity: the car must be at least that fast at the flag.
    """

    n_start_draws = 1

    def __init__(self, goal_velocity: float = 0.0) -> None:
        self.observation_space = valley_space()
        self.action_space = spaces.Discrete(3)
        self._goal_velocity = goal_velocity
        self._push = torch.tensor([-0.001, 0.0, 0.001], dtype=torch.float64)

    def start(self, u: Tensor) -> Tensor:
        """At rest, between -0.6 and -0.4."""
        position = 0.2 * u[0] - 0.6
        return torch.stack((position, torch.zeros_like(position)))

    def step(self, state: Tensor, action: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Push left, not at all, or right."""
        state = drive(state, self._push.index_select(0, action))
        terminated = (state[0] >= _GOAL) & (state[1] >= self._goal_velocity)
        return state, torch.full_like(terminated, -1.0, dtype=torch.float32), terminated

    def observe(self, state: Tensor) -> Tensor:
        """Position and velocity."""
        return state.T.to(torch.float32)


MountainCarVectorEnv = partial(BatchedEnv, MountainCar, max_episode_steps=200)
