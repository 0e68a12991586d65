"""MountainCar that pays only at the flag."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from entropic_rl.envs.arguments import check_count
from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.envs.drawing import COLOURS, Canvas
from entropic_rl.envs.mountain_car import MAX_POSITION, MIN_POSITION, MountainCar
from entropic_rl.envs.single import SingleEnv

__all__ = ["MountainCarSparse", "MountainCarSparseEnv", "MountainCarSparseVectorEnv"]


class MountainCarSparse(MountainCar):
    """Rock an underpowered car out of a valley; nothing is earned before the flag.

    ## Description
    The physics of Gymnasium's MountainCar-v0. There each step costs 1, which drives even a value estimate of zero to
    try what it has not tried; here there is no signal at all until the flag has been reached by chance.

    ## Action Space
    `Discrete(3)`: 0 push left, 1 none, 2 push right.

    ## Observation Space
    `Box([-1.2, -0.07], [0.6, 0.07], (2,), float32)`: position and velocity per step.

    ## Starting State
    At rest, position uniform in [-0.6, -0.4].

    ## Rewards
    1 at the flag, else 0.

    ## Episode End
    Terminated at position 0.5; truncated after `limit` steps.

    ## Arguments
    - `limit` (default 500): steps of an episode.

    ## Version History
    - v0: first version. Source of the idea: Houthooft et al. (2016), https://arxiv.org/abs/1605.09674, with a
      continuous push.
    """

    render_modes = ("rgb_array",)
    render_fps = 30

    def __init__(self, limit: int = 500) -> None:
        check_count("limit", limit, minimum=1)
        super().__init__()
        self.max_episode_steps = limit

    def step(self, state: Tensor, action: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Push left, not at all, or right."""
        state, _, terminated = super().step(state, action, u)
        return state, terminated.to(torch.float32), terminated

    def picture(self, state: Tensor) -> np.ndarray:
        """The valley, the car and the flag."""
        width, height, margin = 480, 260, 20
        canvas = Canvas(width, height)

        def place(position: float) -> tuple[float, float]:
            along = (position - MIN_POSITION) / (MAX_POSITION - MIN_POSITION)
            return margin + along * (width - 2 * margin), height - margin - (math.sin(3 * position) + 1.0) * 90

        track = [place(x) for x in np.linspace(MIN_POSITION, MAX_POSITION, 40)]
        for here, there in pairwise(track):
            canvas.line(here, there, 3, COLOURS["wall"])
        x, y = place(0.5)
        canvas.line((x, y), (x, y - 40), 2, COLOURS["ink"])
        canvas.box(x, y - 40, x + 20, y - 27, COLOURS["goal"])
        x, y = place(float(state[0]))
        canvas.disc(x, y - 12, 12, COLOURS["agent"])
        return canvas.pixels()


MountainCarSparseEnv = partial(SingleEnv, MountainCarSparse)
MountainCarSparseVectorEnv = partial(BatchedEnv, MountainCarSparse)
