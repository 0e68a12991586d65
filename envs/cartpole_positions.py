"""CartPole without velocities: what moves where has to be remembered."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from entropic_rl.envs.arguments import check_count
from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.envs.cartpole import THETA_LIMIT, X_LIMIT, CartPole
from entropic_rl.envs.drawing import cart_picture
from entropic_rl.envs.single import SingleEnv

__all__ = ["CartPolePositions", "CartPolePositionsEnv", "CartPolePositionsVectorEnv"]


class CartPolePositions(CartPole):
    """Balance a pole on a cart, seeing where both are but not how fast they move.

    ## Description
    The rules of Gymnasium's CartPole-v1 with half of its observation. The same position and angle ask for a push to the
    left or to the right, depending on how they were reached: a policy without memory cannot tell, one that sees the
    observation before, too, can.

    ## Action Space
    `Discrete(2)`: 0 push left, 1 push right.

    ## Observation Space
    `Box([-4.8, -0.419], [4.8, 0.419], (2,), float32)`: position of the cart in m and angle of the pole in rad (0 = up).

    ## Starting State
    Position, angle and their velocities each within 0.05 of the upright rest.

    ## Rewards
    1 per step. An episode that earns 475 or more counts as a success.

    ## Episode End
    Terminated when the cart is more than 2.4 m from the middle or the pole leans by more than 12 degrees; truncated
    after `limit` steps.

    ## Arguments
    - `limit` (default 500): steps of an episode.

    ## Version History
    - v1: first version, of the rules of CartPole-v1. Follows PositionOnlyCartPole of Morad et al. (2023),
      https://arxiv.org/abs/2303.01859.
    """

    render_modes = ("rgb_array",)
    render_fps = 50

    def __init__(self, limit: int = 500) -> None:
        check_count("limit", limit, minimum=1)
        super().__init__()
        high = np.array([2 * X_LIMIT, 2 * THETA_LIMIT], np.float32)
        self.observation_space = spaces.Box(-high, high, dtype=np.float32)
        self.max_episode_steps = limit

    def observe(self, state: Tensor) -> Tensor:
        """Position and angle."""
        return state[::2].T.to(torch.float32)

    def picture(self, state: Tensor) -> np.ndarray:
        """Track, cart and pole."""
        return cart_picture(float(state[0]), float(state[2]), track=X_LIMIT)


CartPolePositionsEnv = partial(SingleEnv, CartPolePositions)
CartPolePositionsVectorEnv = partial(BatchedEnv, CartPolePositions)
