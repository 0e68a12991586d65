"""PointMaze: deep exploration with continuous actions."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from entropic_rl.envs.arguments import check_count, check_number
from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.envs.drawing import COLOURS, Canvas
from entropic_rl.envs.dynamics import Dynamics
from entropic_rl.envs.single import SingleEnv

__all__ = ["PointMaze", "PointMazeEnv", "PointMazeVectorEnv"]

_MAP = ("#####", "#S  #", "### #", "#G  #", "#####")


class PointMaze(Dynamics):
    """A point finds its way around a wall by steps of any direction and length.

    ## Description
    A U-shaped corridor of cells of side 1: the goal lies behind a wall, right below the start, and the way leads
    around. Small steps in random directions diffuse slowly: how far they reach depends on the standard deviation of the
    policy, which is what an entropy coefficient moves, and on whether consecutive steps agree, which it does not.

    ## Action Space
    `Box(-1, 1, (2,), float32)`: step along x and y in units of `stride`; larger numbers are clipped.

    ## Observation Space
    `Box(-1, 1, (2,), float32)`: x and y in the maze, scaled from the middle to the inner walls.

    ## Starting State
    The middle of the start's cell, each coordinate off by up to 0.1.

    ## Rewards
    1 for reaching the goal, else 0.

    ## Episode End
    Terminated within 0.5 of the middle of the goal's cell; truncated after `limit` steps.

    ## Arguments
    - `stride` (default 0.25): longest step along an axis, in cells, from 0.001 to 0.9.
    - `limit` (default 150): steps of an episode.

    ## Version History
    - v0: first version. The shape is the U-maze of Duan et al. (2016), https://arxiv.org/abs/1604.06778.
    """

    render_modes = ("rgb_array",)
    render_fps = 20

    n_start_draws = 2

    def __init__(self, stride: float = 0.25, limit: int = 150) -> None:
        check_number("stride", stride, minimum=0.001, maximum=0.9)
        check_count("limit", limit, minimum=1)
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.max_episode_steps = limit
        self._stride = stride
        self._wall = torch.tensor([[character == "#" for character in line] for line in _MAP]).flatten()
        self._start, self._goal = (
            torch.tensor([[c + 0.5 for line in _MAP for c, x in enumerate(line) if x == letter],
                          [r + 0.5 for r, line in enumerate(_MAP) if letter in line]], dtype=torch.float64)
            for letter in "SG"
        )  # fmt: skip

    def start(self, u: Tensor) -> Tensor:
        """Near the middle of the start's cell."""
        return self._start + 0.2 * u - 0.1

    def step(self, state: Tensor, action: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Move along x, then along y; a move that would end in a wall is not made."""
        x, y = state.unbind()
        dx, dy = (self._stride * action.clamp(-1.0, 1.0)).to(torch.float64).unbind(1)
        x = torch.where(self._in_wall(x + dx, y), x, x + dx)
        y = torch.where(self._in_wall(x, y + dy), y, y + dy)
        state = torch.stack((x, y))
        reached = (state - self._goal).square().sum(0) < 0.25
        return state, reached.to(torch.float32), reached

    def observe(self, state: Tensor) -> Tensor:
        """x and y, from -1 to 1 between the inner walls."""
        half = len(_MAP) / 2
        return ((state - half) / (half - 1.0)).T.to(torch.float32)

    def picture(self, state: Tensor) -> np.ndarray:
        """The maze, the goal and the point."""
        scale, size = 72, len(_MAP)
        canvas = Canvas(scale * size, scale * size, COLOURS["floor"])
        goal_x, goal_y = (scale * float(v) for v in self._goal.flatten())
        canvas.disc(goal_x, goal_y, 0.5 * scale, COLOURS["goal"])
        for row, line in enumerate(_MAP):
            for column, character in enumerate(line):
                if character == "#":
                    canvas.box(column * scale, row * scale, (column + 1) * scale, (row + 1) * scale, COLOURS["wall"])
        canvas.disc(scale * float(state[0]), scale * float(state[1]), 0.12 * scale, COLOURS["agent"])
        return canvas.pixels()

    def _in_wall(self, x: Tensor, y: Tensor) -> Tensor:
        cell = y.floor().to(torch.int64) * len(_MAP) + x.floor().to(torch.int64)
        return self._wall.index_select(0, cell)


PointMazeEnv = partial(SingleEnv, PointMaze)
PointMazeVectorEnv = partial(BatchedEnv, PointMaze)
