"""Acrobot, batched."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.envs.dynamics import Dynamics

__all__ = ["Acrobot", "AcrobotVectorEnv"]

_TIME_STEP = 0.2
_MAX_VELOCITIES = (4 * math.pi, 9 * math.pi)


class Acrobot(Dynamics):
    """Gymnasium's Acrobot-v1: swing the tip of a two-link pendulum above a line with a motor between the links."""

    n_start_draws = 4

    def __init__(self) -> None:
        high = np.array([1.0, 1.0, 1.0, 1.0, *_MAX_VELOCITIES], np.float32)
        self.observation_space = spaces.Box(-high, high, dtype=np.float32)
        self.action_space = spaces.Discrete(3)
        self._torque = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
        self._bound = torch.tensor(_MAX_VELOCITIES, dtype=torch.float64).unsqueeze(1)

    def start(self, u: Tensor) -> Tensor:
        """Angles and velocities within 0.1 of hanging at rest, rounded to float32 as Gymnasium's."""
        return (0.2 * u - 0.1).to(torch.float32).to(torch.float64)

    def step(self, state: Tensor, action: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Apply a torque for 0.2 s: one Runge-Kutta step of order 4."""
        torque, h = self._torque.index_select(0, action), _TIME_STEP
        k1 = _derivative(state, torque)
        k2 = _derivative(torch.add(state, k1, alpha=h / 2), torque)
        k3 = _derivative(torch.add(state, k2, alpha=h / 2), torque)
        k4 = _derivative(torch.add(state, k3, alpha=h), torque)
        state = torch.add(state, k1 + 2.0 * (k2 + k3) + k4, alpha=h / 6)
        angles = torch.remainder(state[:2] + math.pi, 2 * math.pi) - math.pi
        velocities = state[2:].clamp(-self._bound, self._bound)
        terminated = -angles[0].cos() - (angles[0] + angles[1]).cos() > 1.0
        return torch.cat((angles, velocities)), terminated.to(torch.float32) - 1.0, terminated

    def observe(self, state: Tensor) -> Tensor:
        """Cosine and sine of both angles, and both angular velocities."""
        cos, sin = state[:2].cos(), state[:2].sin()
        return torch.stack((cos[0], sin[0], cos[1], sin[1], state[2], state[3]), 1).to(torch.float32)


def _derivative(state: Tensor, torque: Tensor) -> Tensor:
    """Velocities and accelerations ``[4, N]`` of both angles; unit masses, lengths and moments, g = 9.8.

    Source: Sutton & Barto (2018), section 11.3 of the first edition ("book" in Gymnasium's ``book_or_nips``).
    """
    theta1, theta2, omega1, omega2 = state.unbind()
    cos2, sin2 = theta2.cos(), theta2.sin()
    d1 = cos2 + 3.5
    d2 = 0.5 * cos2 + 1.25
    phi2 = 4.9 * (theta1 + theta2).sin()  # cos(x - pi/2) = sin x
    phi1 = -0.5 * omega2 * sin2 * (omega2 + 2.0 * omega1) + 14.7 * theta1.sin() + phi2
    ratio = d2 / d1
    angular2 = (torque + ratio * phi1 - 0.5 * omega1 * omega1 * sin2 - phi2) / (1.25 - d2 * ratio)
    angular1 = -(d2 * angular2 + phi1) / d1
    return torch.stack((omega1, omega2, angular1, angular2))


AcrobotVectorEnv = partial(BatchedEnv, Acrobot, max_episode_steps=500)
