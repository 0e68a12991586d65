"""FourRooms: a goal two doors away."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
from torch import Tensor

from entropic_rl.envs.arguments import check_count, check_number
from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.envs.drawing import grid_picture
from entropic_rl.envs.finite import FiniteDynamics
from entropic_rl.envs.single import SingleEnv
from entropic_rl.errors import EnvError

__all__ = ["FourRooms", "FourRoomsEnv", "FourRoomsVectorEnv"]

_MAP = (
    "#############",
    "#     #     #",
    "#     #     #",
    "#           #",
    "#     #     #",
    "#     #     #",
    "## ####     #",
    "#     ### ###",
    "#     #     #",
    "#     #     #",
    "#           #",
    "#     #     #",
    "#############",
)
_MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))


class FourRooms(FiniteDynamics):
    """Four rooms joined by four doors, and one rewarded cell.

    ## Description
    Cells of a 13 x 13 grid with walls between four rooms. The goal lies diagonally across: two doors have to be found
    before anything is earned, and a random walk seldom does that in time. The path is not unique, so that the optimal
    regularised policy keeps real choice.

    ## Action Space
    `Discrete(4)`: 0 up, 1 right, 2 down, 3 left. Against a wall the agent stays.

    ## Observation Space
    `Discrete(104)`: the number of the cell, row by row.

    ## Starting State
    The top left cell, or any cell but the goal.

    ## Rewards
    1 for reaching the goal, else 0.

    ## Episode End
    Terminated at the goal; truncated after `limit` steps.

    ## Arguments
    - `goal` (default 11, 11): row and column of the goal in the grid, from 0.
    - `start` (default "corner"): "corner" or "uniform".
    - `slip` (default 0.0): probability of moving in one of the other three directions; 1/3 in the original.
    - `limit` (default 200): steps of an episode.

    ## Version History
    - v0: first version. Source of the map: Sutton, Precup & Singh (1999),
      https://doi.org/10.1016/S0004-3702(99)00052-1.
    """

    render_modes = ("rgb_array", "ansi")

    def __init__(
        self,
        goal: Sequence[int] = (11, 11),
        start: Literal["corner", "uniform"] = "corner",
        slip: float = 0.0,
        limit: int = 200,
    ) -> None:
        check_count("limit", limit, minimum=1)
        check_number("slip", slip, minimum=0.0, maximum=1.0)
        if start not in ("corner", "uniform"):
            raise EnvError(f"start: expected 'corner' or 'uniform', got {start!r}")
        self._cells = [(r, c) for r, line in enumerate(_MAP) for c, character in enumerate(line) if character == " "]
        if not isinstance(goal, Sequence) or tuple(goal) not in self._cells[1:]:
            raise EnvError(f"goal: expected row and column of a free cell other than the corner (1, 1), got {goal!r}")
        number = {cell: i for i, cell in enumerate(self._cells)}
        n = len(number)
        self.layout = np.array([[number.get((r, c), -1) for c in range(len(_MAP[0]))] for r in range(len(_MAP))])
        self._goal = number[(goal[0], goal[1])]
        landing = np.array([[number.get((r + dr, c + dc), i) for dr, dc in _MOVES] for i, (r, c) in enumerate(number)])
        n_outcomes = 4 if slip else 1
        turns = (np.arange(4)[:, None] + np.arange(n_outcomes)) % 4  # [A, K], outcome 0 is the direction meant
        successor = landing[:, turns]
        successor[self._goal] = self._goal
        probability = np.full(successor.shape, slip / 3.0)
        probability[..., 0] = 1.0 - slip
        reward = (successor == self._goal).astype(float)
        reward[self._goal] = 0.0
        cell = np.arange(n)
        away = (cell != self._goal) / (n - 1.0)
        super().__init__(
            successor,
            reward,
            probability=probability,
            start=away if start == "uniform" else (cell == 0).astype(float),
            terminal=cell == self._goal,
            limit=limit,
        )

    def text(self, state: Tensor) -> str:
        """The map: ``@`` the agent, ``G`` the goal, ``#`` walls."""
        rows = [list(line) for line in _MAP]
        for index, character in ((self._goal, "G"), (int(state[0]), "@")):
            row, column = self._cells[index]
            rows[row][column] = character
        return "\n".join("".join(row) for row in rows) + "\n"

    def picture(self, state: Tensor) -> np.ndarray:
        """The map in colours."""
        return grid_picture(self.text(state).splitlines(), {"#": "wall", "G": "goal"})


FourRoomsEnv = partial(SingleEnv, FourRooms)
FourRoomsVectorEnv = partial(BatchedEnv, FourRooms)
