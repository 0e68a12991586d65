"""Bandit: the smallest problem with an exact answer for every coefficient."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from torch import Tensor

from entropic_rl.envs.arguments import check_number
from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.envs.drawing import COLOURS, Canvas
from entropic_rl.envs.finite import FiniteDynamics
from entropic_rl.envs.single import SingleEnv
from entropic_rl.errors import EnvError

__all__ = ["Bandit", "BanditEnv", "BanditVectorEnv"]


class Bandit(FiniteDynamics):
    """One choice among arms, then the end.

    ## Description
    A single decision. With entropy weight t in reward units the optimal policy is softmax(rewards / t) in closed form,
    so that what a coefficient does can be read off to the last digit.

    ## Action Space
    `Discrete(A)`: the arm.

    ## Observation Space
    `Discrete(2)`: 0 before the choice, 1 after it.

    ## Starting State
    State 0.

    ## Rewards
    The arm's mean, with Gaussian noise of standard deviation `noise`.

    ## Episode End
    Terminated after one step.

    ## Arguments
    - `rewards` (default 0, 0.5, 1): mean of each arm, at least two.
    - `noise` (default 0.0): standard deviation of every reward.

    ## Version History
    - v0: first version.
    """

    render_modes = ("rgb_array",)

    def __init__(self, rewards: Sequence[float] = (0.0, 0.5, 1.0), noise: float = 0.0) -> None:
        if isinstance(rewards, str) or not isinstance(rewards, Sequence) or len(rewards) < 2:
            raise EnvError(f"rewards: expected at least two numbers, one per arm, got {rewards!r}")
        for mean in rewards:
            check_number("rewards", mean)
        check_number("noise", noise, minimum=0.0)
        self._means, n_arms = tuple(rewards), len(rewards)
        reward = np.zeros((2, n_arms, 1))
        reward[0, :, 0] = rewards
        super().__init__(
            np.ones((2, n_arms, 1), np.int64),
            reward,
            start=np.array([1.0, 0.0]),
            terminal=np.array([False, True]),
            reward_std=np.array([[noise], [0.0]]) * np.ones((1, n_arms)) if noise else None,
        )

    def picture(self, state: Tensor) -> np.ndarray:
        """A bar per arm, from the worst to the best."""
        width, height = 48, 220
        canvas = Canvas(width * len(self._means), height)
        low, high = min(*self._means, 0.0), max(*self._means, 0.0)
        scale = (height - 40) / max(high - low, 1e-12)
        zero = 20 + high * scale
        for arm, mean in enumerate(self._means):
            best = COLOURS["goal" if mean == max(self._means) else "lure"]
            top, bottom = sorted((zero - mean * scale, zero))
            canvas.box(arm * width + 8, top - 1, (arm + 1) * width - 8, bottom + 1, best)
        canvas.line((4, zero), (width * len(self._means) - 4, zero), 2, COLOURS["ink"])
        return canvas.pixels()


BanditEnv = partial(SingleEnv, Bandit)
BanditVectorEnv = partial(BatchedEnv, Bandit)
