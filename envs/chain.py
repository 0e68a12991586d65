"""Chain: a prize at each end, the nearer one smaller."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
from torch import Tensor

from entropic_rl.envs.arguments import check_count, check_number
from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.envs.drawing import line_picture, line_text
from entropic_rl.envs.finite import FiniteDynamics
from entropic_rl.envs.single import SingleEnv
from entropic_rl.errors import EnvError

__all__ = ["Chain", "ChainEnv", "ChainVectorEnv"]


class Chain(FiniteDynamics):
    """States in a row with a prize for pushing against either end.

    ## Description
    The agent steps left or right; against an end it stays where it is and earns that end's prize, again and again. The
    temperature decides between the prizes and how firmly; from the near end, leaving for the far one has to be worth
    the way. With entropy in the loss only and with entropy in the reward different policies are optimal here.

    ## Action Space
    `Discrete(2)`: 0 left, 1 right.

    ## Observation Space
    `Discrete(length)`: the state, 0 at the near end.

    ## Starting State
    Uniform over the states, or a fixed one.

    ## Rewards
    - `prizes[0]` for left in state 0;
    - `prizes[1]` for right in the last state;
    - 0 otherwise.

    ## Episode End
    Never terminated; truncated after `limit` steps.

    ## Arguments
    - `length` (default 5): number of states.
    - `prizes` (default 0.3, 0.4): near and far prize.
    - `start` (default "uniform"): "uniform" or the number of a state; 0 is a hard start, in the lap of the near prize.
    - `limit` (default 10): steps of an episode.

    ## Version History
    - v0: first version.
    """

    render_modes = ("rgb_array", "ansi")
    render_fps = 5

    def __init__(
        self,
        length: int = 5,
        prizes: Sequence[float] = (0.3, 0.4),
        start: Literal["uniform"] | int = "uniform",
        limit: int = 10,
    ) -> None:
        check_count("length", length, minimum=2)
        check_count("limit", limit, minimum=1)
        if isinstance(prizes, str) or not isinstance(prizes, Sequence) or len(prizes) != 2:
            raise EnvError(f"prizes: expected two numbers, near and far, got {prizes!r}")
        for prize in prizes:
            check_number("prizes", prize)
        if not (isinstance(start, str) and start == "uniform") and (type(start) is not int or not 0 <= start < length):
            raise EnvError(f"start: expected 'uniform' or a state from 0 to {length - 1}, got {start!r}")
        state = np.arange(length)
        successor = np.stack([np.maximum(state - 1, 0), np.minimum(state + 1, length - 1)], 1)[..., None]
        reward = np.zeros(successor.shape)
        reward[0, 0], reward[-1, 1] = prizes
        self.layout = state[None]
        super().__init__(
            successor,
            reward,
            start=np.full(length, 1.0 / length) if start == "uniform" else (state == start).astype(float),
            terminal=np.zeros(length, bool),
            limit=limit,
        )

    def text(self, state: Tensor) -> str:
        """The chain: ``@`` the agent, ``$`` the ends."""
        return line_text(self.n_states, int(state[0]), ".")

    def picture(self, state: Tensor) -> np.ndarray:
        """The chain in colours, the near prize orange, the far one green."""
        return line_picture(self.text(state))


ChainEnv = partial(SingleEnv, Chain)
ChainVectorEnv = partial(BatchedEnv, Chain)
