"""The latest observations of each environment, side by side."""

from __future__ import annotations

import torch
from torch import Tensor

from entropic_rl.spaces import ObservationSpec

__all__ = ["FrameStack"]


class FrameStack:
    """Windows of the latest K observations, oldest first: ``[..., D / K] -> [..., D]``; with K = 1 nothing changes.

    A window does not reach back over the start of its episode: what would lie there is NaN, or black in images, and
    the networks take it for zeros, or do not attend to it.

    Args:
        observation: what the agent sees, with K = ``observation.frames``.
    """

    def __init__(self, observation: ObservationSpec) -> None:
        self._frames = observation.frames
        self._blank = torch.nan if observation.image is None else 0.0

    def begin(self, obs: Tensor) -> Tensor:
        """Windows at the first observations of new episodes everywhere."""
        self._window = torch.full_like(obs, self._blank).repeat_interleave(self._frames, -1)
        return self.push(obs)

    def push(self, obs: Tensor, starts: Tensor | None = None) -> Tensor:
        """Windows at the next observations; ``starts [...]`` says which of them begin an episode, None that none do."""
        if self._frames == 1:
            return obs
        if starts is not None:
            self._window = self._window.masked_fill(starts.unsqueeze(-1), self._blank)
        self._window = self.peek(obs)
        return self._window

    def peek(self, obs: Tensor) -> Tensor:
        """Windows if these were the next observations; nothing is remembered."""
        if self._frames == 1:
            return obs
        return torch.cat([self._window[..., obs.shape[-1] :], obs], -1)
