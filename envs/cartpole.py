"""CartPole, batched."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.envs.dynamics import Dynamics

__all__ = ["THETA_LIMIT", "X_LIMIT", "CartPole", "CartPoleVectorEnv", "cart_and_pole"]

X_LIMIT = 2.4
THETA_LIMIT = 12 * 2 * math.pi / 360
_TIME_STEP = 0.02
_PUSH = 10.0 / 1.1


def cart_and_pole(state: Tensor, push: Tensor, *, time_step: float) -> Tensor:
    """One Euler step of position, velocity, angle (0 = up) and angular velocity, ``[4, N]``.

    ``push [N]`` is the force over the mass of cart (1 kg) and pole (0.1 kg, 1 m), in m/s^2. The equations are written
    for few tensor operations, whose number is what a step costs; with k = 0.05 / 1.1 and f = push + k omega^2 sin::

        angular acceleration = (9.8 sin - f cos) / (2/3 - k cos^2)
        linear acceleration = f - k * angular * cos

    Source: Florian (2005), https://coneural.org/florian/papers/05_cart_pole.pdf, with Gymnasium's constants.
    """
    k = 0.05 / 1.1
    _, velocity, theta, omega = state.unbind()
    cos, sin = theta.cos(), theta.sin()
    f = torch.addcmul(push, omega * omega, sin, value=k)
    angular = torch.addcmul(sin * (-9.8 / k), cos, f, value=1.0 / k) / (cos * cos - 2.0 / 3.0 / k)
    linear = torch.addcmul(f, angular, cos, value=-k)
    return torch.add(state, torch.stack((velocity, linear, omega, angular)), alpha=time_step)


class CartPole(Dynamics):
    """Gymnasium's CartPole-v1: balance a pole on a cart by pushing left or right.

    Args:
        sutton_barto_reward: pay 0 per step and -1 for the fall instead of 1 per step.
    """

    n_start_draws = 4

    def __init__(self, sutton_barto_reward: bool = False) -> None:
        high = np.array([2 * X_LIMIT, np.inf, 2 * THETA_LIMIT, np.inf], np.float32)
        self.observation_space = spaces.Box(-high, high, dtype=np.float32)
        self.action_space = spaces.Discrete(2)
        self._push = torch.tensor([-_PUSH, _PUSH], dtype=torch.float64)
        self._limits = torch.tensor([[X_LIMIT], [THETA_LIMIT]], dtype=torch.float64)
        self._sutton_barto_reward = sutton_barto_reward

    def start(self, u: Tensor) -> Tensor:
        """Each of the four within 0.05 of the upright rest."""
        return 0.1 * u - 0.05

    def step(self, state: Tensor, action: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Push for 0.02 s."""
        state = cart_and_pole(state, self._push.index_select(0, action), time_step=_TIME_STEP)
        terminated = (state[::2].abs() > self._limits).any(0)
        if self._sutton_barto_reward:
            return state, -terminated.to(torch.float32), terminated
        return state, torch.ones_like(terminated, dtype=torch.float32), terminated

    def observe(self, state: Tensor) -> Tensor:
        """Position, velocity, angle, angular velocity."""
        return state.T.to(torch.float32)


CartPoleVectorEnv = partial(BatchedEnv, CartPole, max_episode_steps=500)
