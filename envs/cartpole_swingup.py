"""Cart-pole swing-up that pays only near the top, and charges for every push."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from entropic_rl.envs.arguments import check_count, check_number
from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.envs.cartpole import cart_and_pole
from entropic_rl.envs.drawing import cart_picture
from entropic_rl.envs.dynamics import Dynamics
from entropic_rl.envs.single import SingleEnv

__all__ = ["CartPoleSwingUp", "CartPoleSwingUpEnv", "CartPoleSwingUpVectorEnv"]

_TRACK = 3.0
_TIME_STEP = 0.01
_PUSH = 10.0 / 1.1


class CartPoleSwingUp(Dynamics):
    """Swing a hanging pole up by moving the cart, and balance it; earn only while it stands.

    ## Description
    The pole hangs; nothing is earned until it stands nearly upright, slowly, near the middle of the track. Pushing
    costs, so that a policy that has found nothing yet is taught to keep still: exploration has to pay for itself.

    ## Action Space
    `Discrete(3)`: 0 push left, 1 none, 2 push right, with 10 newtons.

    ## Observation Space
    `Box(5,)`, float32: position / 3 m, velocity / 3 m/s, cosine and sine of the angle (0 = up), angular velocity in
    rad/s.

    ## Starting State
    At rest, hanging, each of the four numbers off by up to 0.05.

    ## Rewards
    - 1 where cos(angle) > `height`, |angular velocity| < 1 and |position| < 1;
    - -`move_cost` for each push.

    An episode that earns 100 or more counts as a success.

    ## Episode End
    Terminated when the cart leaves the track of 3 m to either side; truncated after `limit` steps.

    ## Arguments
    - `height` (default 0.5): cosine from which the pole counts as standing, in [-1, 0.999].
    - `move_cost` (default 0.1): cost of a push.
    - `limit` (default 1000): steps of 0.01 s of an episode.

    ## Version History
    - v0: first version. Follows the swing-up of the behaviour suite, Osband et al. (2020),
      https://arxiv.org/abs/1908.03568, observing the state alone; the time limit truncates instead of terminating.
    """

    render_modes = ("rgb_array",)
    render_fps = 50

    n_start_draws = 4

    def __init__(self, height: float = 0.5, move_cost: float = 0.1, limit: int = 1000) -> None:
        check_number("height", height, minimum=-1.0, maximum=0.999)
        check_number("move_cost", move_cost, minimum=0.0)
        check_count("limit", limit, minimum=1)
        high = np.array([np.inf, np.inf, 1.0, 1.0, np.inf], np.float32)
        self.observation_space = spaces.Box(-high, high, dtype=np.float32)
        self.action_space = spaces.Discrete(3)
        self.max_episode_steps = limit
        self._height = height
        self._push = torch.tensor([-_PUSH, 0.0, _PUSH], dtype=torch.float64)
        self._cost = torch.tensor([move_cost, 0.0, move_cost], dtype=torch.float32)

    def start(self, u: Tensor) -> Tensor:
        """Near rest, hanging."""
        state = 0.1 * u - 0.05
        return torch.stack((state[0], state[1], state[2] + math.pi, state[3]))

    def step(self, state: Tensor, action: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Push for 0.01 s."""
        state = cart_and_pole(state, self._push.index_select(0, action), time_step=_TIME_STEP)
        position, _, theta, omega = state.unbind()
        stands = (theta.cos() > self._height) & (omega.abs() < 1.0) & (position.abs() < 1.0)
        reward = stands.to(torch.float32) - self._cost.index_select(0, action)
        return state, reward, position.abs() > _TRACK

    def observe(self, state: Tensor) -> Tensor:
        """Position and velocity scaled by the track, cosine and sine of the angle, angular velocity."""
        position, velocity, theta, omega = state.unbind()
        parts = (position / _TRACK, velocity / _TRACK, theta.cos(), theta.sin(), omega)
        return torch.stack(parts, 1).to(torch.float32)

    def picture(self, state: Tensor) -> np.ndarray:
        """Track, cart and pole."""
        return cart_picture(float(state[0]), float(state[2]), track=_TRACK, target=1.0)


CartPoleSwingUpEnv = partial(SingleEnv, CartPoleSwingUp)
CartPoleSwingUpVectorEnv = partial(BatchedEnv, CartPoleSwingUp)
