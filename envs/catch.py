"""Catch: the smallest task that is played from pixels."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from entropic_rl.envs.arguments import check_count
from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.envs.drawing import grid_picture
from entropic_rl.envs.dynamics import Dynamics
from entropic_rl.envs.single import SingleEnv
from entropic_rl.errors import EnvError

__all__ = ["Catch", "CatchEnv", "CatchVectorEnv"]


class Catch(Dynamics):
    """Balls fall one after the other; a paddle at the bottom has to be where they land.

    ## Description
    The paddle, one cell wide, moves along the bottom row of a board of cells while a ball falls by one row per step.
    Each ball also drifts: by one cell to the left, not at all, or by one to the right per step, bouncing at the walls.
    One picture shows where the ball is, but not where it goes: that takes two in a row, or memory. In the step after a
    ball has landed the next one appears in the top row.

    ## Action Space
    `Discrete(3)`: 0 left, 1 stay, 2 right. Against a wall the paddle stays.

    ## Observation Space
    `Box(0, 255, (rows, columns, 1), uint8)`: 255 where the ball and the paddle are, else 0.

    ## Starting State
    The paddle in the middle, the ball in any cell of the top row, with any of its drifts.

    ## Rewards
    When a ball reaches the bottom row: 1 if the paddle is there, else -1. An episode that earns 4 or more counts as a
    success: all of the default 5 balls, since one miss already costs 2.

    ## Episode End
    Terminated when the last ball has landed, after `rows * balls - 1` steps.

    ## Arguments
    - `rows` (default 10): height of the board, at least 2.
    - `columns` (default 10): width of the board, at least 2; with more than `rows`, some balls are out of reach.
    - `drift` (default True): False lets all balls fall straight down, so that one picture is enough.
    - `balls` (default 5): balls of an episode.

    ## Version History
    - v0: first version. Source of the idea: Mnih et al. (2014), https://arxiv.org/abs/1406.6247; rewards and the
      paddle's start are those of Osband et al. (2020), https://arxiv.org/abs/1908.03568, where an episode is one ball
      that falls straight down, in 5 columns.
    """

    render_modes = ("rgb_array", "ansi")

    def __init__(self, rows: int = 10, columns: int = 10, drift: bool = True, balls: int = 5) -> None:
        check_count("rows", rows, minimum=2)
        check_count("columns", columns, minimum=2)
        check_count("balls", balls, minimum=1)
        if not isinstance(drift, bool):
            raise EnvError(f"drift: expected True or False, got {drift!r}")
        self.rows, self.columns, self.balls, self.drift = rows, columns, balls, drift
        self.observation_space = spaces.Box(0, 255, (rows, columns, 1), np.uint8)
        self.action_space = spaces.Discrete(3)
        self.n_start_draws = self.n_step_draws = 2 if drift else 1

    def start(self, u: Tensor) -> Tensor:
        """Row, column and drift of the ball, column of the paddle, balls that have landed before: ``[5, N]`` int64."""
        column, drift = self._ball(u)
        zero = torch.zeros_like(column)
        return torch.stack((zero, column, drift, zero + self.columns // 2, zero))

    def step(self, state: Tensor, action: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Move the paddle, then the ball; one that lies at the bottom is replaced by the next."""
        row, column, drift, paddle, before = state.unbind()
        paddle = (paddle + action - 1).clamp(0, self.columns - 1)
        beyond = column + drift
        drift = torch.where((beyond < 0) | (beyond >= self.columns), -drift, drift)
        row, column = (row + 1) % self.rows, column + drift
        appears = row == 0
        next_column, next_drift = self._ball(u)
        column, drift = torch.where(appears, next_column, column), torch.where(appears, next_drift, drift)
        before = before + appears
        lands = row == self.rows - 1
        caught = (column == paddle).to(torch.float32)
        reward = (2.0 * caught - 1.0).masked_fill(~lands, 0.0)
        return torch.stack((row, column, drift, paddle, before)), reward, lands & (before == self.balls - 1)

    def observe(self, state: Tensor) -> Tensor:
        """The board, ``[N, rows, columns, 1]`` bytes."""
        row, column, _, paddle, _ = state.unbind()
        lit = torch.stack((row * self.columns + column, paddle + (self.rows - 1) * self.columns), 1)  # [N, 2]
        board = torch.zeros(len(lit), self.rows * self.columns, dtype=torch.uint8, device=state.device)
        return board.scatter(1, lit, 255).view(-1, self.rows, self.columns, 1)

    def text(self, state: Tensor) -> str:
        """The board: ``@`` the paddle (with the ball, if it is caught), ``o`` the ball."""
        row, column, _, paddle, _ = state.tolist()
        board = np.full((self.rows, self.columns), ".")
        board[row, column] = "o"
        board[-1, paddle] = "@"
        return "\n".join("".join(line) for line in board) + "\n"

    def picture(self, state: Tensor) -> np.ndarray:
        """The board in colours."""
        return grid_picture(self.text(state).splitlines(), {"o": "lure"})

    def _ball(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Column and drift of a new ball, each ``[N]``."""
        column = (u[0] * self.columns).to(torch.int64)
        return column, (u[1] * 3).to(torch.int64) - 1 if self.drift else torch.zeros_like(column)


CatchEnv = partial(SingleEnv, Catch)
CatchVectorEnv = partial(BatchedEnv, Catch)
