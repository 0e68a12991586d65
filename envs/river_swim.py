"""RiverSwim: a small certain prize against a large one upstream."""

from __future__ import annotations

from functools import partial

import numpy as np
from torch import Tensor

from entropic_rl.envs.arguments import check_count, check_number
from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.envs.drawing import line_picture, line_text
from entropic_rl.envs.finite import FiniteDynamics
from entropic_rl.envs.single import SingleEnv

__all__ = ["RiverSwim", "RiverSwimEnv", "RiverSwimVectorEnv"]


class RiverSwim(FiniteDynamics):
    """A swimmer earns a little by resting downstream and much upstream, against the current.

    ## Description
    A chain of states. Swimming left always succeeds; swimming right often does not and sometimes carries back. Pinned
    variant: six states, episodes of 20 steps and the probabilities of Osband, Russo & Van Roy (2013), "(More) efficient
    reinforcement learning via posterior sampling", figure 1; other papers use others.

    ## Action Space
    `Discrete(2)`: 0 left (with the current), 1 right (against it).

    ## Observation Space
    `Discrete(6)`: the state, 0 downstream.

    ## Starting State
    State 0.

    ## Rewards
    - 0.005 for left in state 0;
    - 1 for right in the last state;
    - 0 otherwise.

    An episode that earns 1 or more counts as a success.

    ## Episode End
    Never terminated; truncated after `limit` steps. Right moves on with probability 0.35 (0.6 in state 0), stays with
    0.6 (0.4 in state 0), and falls back with 0.05; in the last state it stays with 0.6 and falls back with 0.4.

    ## Arguments
    - `length` (default 6): number of states.
    - `limit` (default 20): steps of an episode.
    - `small` (default 0.005): the prize downstream.

    ## Version History
    - v0: first version. Idea: Strehl & Littman (2008), https://doi.org/10.1016/j.jcss.2007.08.009; numbers:
      https://arxiv.org/abs/1306.0940.
    """

    render_modes = ("rgb_array", "ansi")
    render_fps = 5

    def __init__(self, length: int = 6, limit: int = 20, small: float = 0.005) -> None:
        check_count("length", length, minimum=2)
        check_count("limit", limit, minimum=1)
        check_number("small", small, minimum=0.0)
        state = np.arange(length)
        back, on = np.maximum(state - 1, 0), np.minimum(state + 1, length - 1)
        successor = np.stack([np.stack([back] * 3, 1), np.stack([back, state, on], 1)], 1)  # [S, A, K]
        probability = np.tile([[1.0, 0.0, 0.0], [0.05, 0.6, 0.35]], (length, 1, 1))
        probability[0, 1] = 0.0, 0.4, 0.6
        probability[-1, 1] = 0.4, 0.6, 0.0
        reward = np.zeros(successor.shape)
        reward[0, 0], reward[-1, 1] = small, 1.0
        self.layout = state[None]
        super().__init__(
            successor,
            reward,
            probability=probability,
            start=(state == 0).astype(float),
            terminal=np.zeros(length, bool),
            limit=limit,
        )

    def text(self, state: Tensor) -> str:
        """The river: ``@`` the swimmer, ``$`` the prizes' places."""
        return line_text(self.n_states, int(state[0]), "~")

    def picture(self, state: Tensor) -> np.ndarray:
        """The river in colours, the small prize orange, the large one green."""
        return line_picture(self.text(state))


RiverSwimEnv = partial(SingleEnv, RiverSwim)
RiverSwimVectorEnv = partial(BatchedEnv, RiverSwim)
