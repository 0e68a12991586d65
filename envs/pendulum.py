"""Pendulum, batched."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.envs.dynamics import Dynamics

__all__ = ["Pendulum", "PendulumVectorEnv"]

_MAX_SPEED, _MAX_TORQUE, _TIME_STEP = 8.0, 2.0, 0.05


class Pendulum(Dynamics):
    """Gymnasium's Pendulum-v1: swing a pendulum up and hold it; the price grows with angle, speed and torque.

    Args:
        g: gravity in m/s^2.
    """

    n_start_draws = 2

    def __init__(self, g: float = 10.0) -> None:
        high = np.array([1.0, 1.0, _MAX_SPEED], np.float32)
        self.observation_space = spaces.Box(-high, high, dtype=np.float32)
        self.action_space = spaces.Box(-_MAX_TORQUE, _MAX_TORQUE, (1,), np.float32)
        self._g = g

    def start(self, u: Tensor) -> Tensor:
        """Any angle, a velocity within 1."""
        return torch.stack((math.pi * (2.0 * u[0] - 1.0), 2.0 * u[1] - 1.0))

    def step(self, state: Tensor, action: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Apply a torque, clipped to [-2, 2], for 0.05 s."""
        theta, omega = state.unbind()
        torque = action[:, 0].clamp(-_MAX_TORQUE, _MAX_TORQUE)
        turn = (3.0 * torque).to(torch.float64)  # rounded to float32 as Gymnasium does
        angle = torch.remainder(theta + math.pi, 2 * math.pi) - math.pi
        cost = torch.addcmul(angle * angle, omega, omega, value=0.1)
        cost = torch.addcmul(cost, turn, turn, value=0.001 / 9.0)
        omega = torch.add(omega, theta.sin(), alpha=1.5 * self._g * _TIME_STEP)
        omega = torch.add(omega, turn, alpha=_TIME_STEP).clamp(-_MAX_SPEED, _MAX_SPEED)
        state = torch.stack((torch.add(theta, omega, alpha=_TIME_STEP), omega))
        return state, -cost.to(torch.float32), torch.zeros_like(theta, dtype=torch.bool)

    def observe(self, state: Tensor) -> Tensor:
        """Cosine and sine of the angle (0 = up), angular velocity."""
        return torch.stack((state[0].cos(), state[0].sin(), state[1]), 1).to(torch.float32)


PendulumVectorEnv = partial(BatchedEnv, Pendulum, max_episode_steps=200)
