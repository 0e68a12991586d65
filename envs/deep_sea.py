"""DeepSea: exploration that dithering cannot do."""

from __future__ import annotations

from functools import partial

import numpy as np
from torch import Tensor

from entropic_rl.envs.arguments import check_count, check_number
from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.envs.drawing import grid_picture
from entropic_rl.envs.finite import FiniteDynamics
from entropic_rl.envs.single import SingleEnv

__all__ = ["DeepSea", "DeepSeaEnv", "DeepSeaVectorEnv"]


class DeepSea(FiniteDynamics):
    """A diver sinks through an N x N grid; treasure lies where only N steps to the right, at a cost each, lead.

    ## Description
    The episode starts in the top left cell and sinks one row per step, going left or right at the agent's choice. Which
    action means "right" differs from cell to cell, so that no policy can go right without having learned where it is.
    All returns but one path's are negative or zero, and a policy that acts at random finds that path with probability
    2^-N: the first success takes 2^N episodes on average. The rules are those of the behaviour suite (bsuite).

    ## Action Space
    `Discrete(2)`. In each cell one of the two moves right, the other left, by a fixed draw from `mapping_seed`.

    ## Observation Space
    `Box(0, 1, (N * N,), float32)`: the grid row by row, 1 where the diver is, else 0; all 0 at the end.

    ## Starting State
    The top left cell.

    ## Rewards
    - -0.01 / N for each move to the right;
    - +1 for moving right in the bottom right cell;
    - `stochastic`: noise N(0, 1) in the two bottom corners.

    The best policy earns 0.99, doing nothing (left) 0. From 0.9 on an episode counts as a success; with `stochastic`
    that says nothing, as noise alone gets there.

    ## Episode End
    Terminated after N steps.

    ## Arguments
    - `size` (N, default 10): width and depth of the grid.
    - `stochastic` (default False): a move to the right fails with probability 1 / N, and rewards are noisy.
    - `move_cost` (default 0.01): cost of the whole way to the right.
    - `randomize_actions` (default True): False makes action 1 mean right everywhere, which is another, easier problem.
    - `mapping_seed` (default 42): which action means right where.

    ## Version History
    - v0: first version. Source: Osband et al. (2020), https://arxiv.org/abs/1908.03568; `mapping_seed` 42 is that of
      its experiments.
    """

    render_modes = ("rgb_array", "ansi")
    render_fps = 5

    def __init__(
        self,
        size: int = 10,
        stochastic: bool = False,
        move_cost: float = 0.01,
        randomize_actions: bool = True,
        mapping_seed: int = 42,
    ) -> None:
        check_count("size", size, minimum=2)
        check_count("mapping_seed", mapping_seed, minimum=0, maximum=2**32 - 1)
        check_number("move_cost", move_cost, minimum=0.0)
        self.size = size
        places = np.arange(size * size).reshape(size, size)
        self.layout = np.where(np.tri(size, dtype=bool), places, -1)
        rows, columns = np.tril_indices(size)  # the cells that can be reached, row by row
        n_cells = len(rows)
        number = np.full((size + 1, size + 1), n_cells)  # the state after the last row is the end
        number[rows, columns] = np.arange(n_cells)
        mapping = np.random.RandomState(mapping_seed).binomial(1, 0.5, (size, size))
        right = mapping[rows, columns] if randomize_actions else np.ones(n_cells, np.int64)

        n_outcomes = 2 if stochastic else 1
        successor = np.full((n_cells + 1, 2, n_outcomes), n_cells)
        reward = np.zeros((n_cells + 1, 2, n_outcomes))
        probability = np.zeros((n_cells + 1, 2, n_outcomes))
        probability[..., 0] = 1.0
        cell = np.arange(n_cells)
        below_right = number[rows + 1, np.minimum(columns + 1, size - 1)]
        successor[cell, 1 - right, :] = number[rows + 1, np.maximum(columns - 1, 0)][:, None]
        successor[cell, right, 0] = below_right
        reward[cell, right, :] = (columns == size - 1)[:, None] - move_cost / size
        if stochastic:
            successor[cell, right, 1] = number[rows + 1, columns]
            probability[cell, right] = 1.0 - 1.0 / size, 1.0 / size
        noisy = (rows == size - 1) & ((columns == 0) | (columns == size - 1))

        observations = np.zeros((n_cells + 1, size * size), np.float32)
        observations[cell, rows * size + columns] = 1.0
        terminal = np.arange(n_cells + 1) == n_cells
        super().__init__(
            successor,
            reward,
            probability=probability,
            start=(np.arange(n_cells + 1) == 0).astype(float),
            terminal=terminal,
            reward_std=np.append(noisy, False)[:, None] * np.ones((1, 2)) if stochastic else None,
            observations=observations,
        )

    def text(self, state: Tensor) -> str:
        """The grid: ``@`` the diver, ``$`` the treasure, ``.`` water."""
        grid = np.full((self.size, self.size), ".")
        grid[-1, -1] = "$"
        index = int(state[0])
        if index < self.n_states - 1:
            row = int((np.sqrt(8 * index + 1) - 1) / 2)
            grid[row, index - row * (row + 1) // 2] = "@"
        return "\n".join("".join(line) for line in grid) + "\n"

    def picture(self, state: Tensor) -> np.ndarray:
        """The grid in colours."""
        return grid_picture(self.text(state).splitlines(), {"$": "goal"})


DeepSeaEnv = partial(SingleEnv, DeepSea)
DeepSeaVectorEnv = partial(BatchedEnv, DeepSea)
