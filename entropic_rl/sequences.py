"""Memory of a policy: recurrent layers, and samples in sequences to train them on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from entropic_rl.recurrence import GRU, LSTM

__all__ = ["Chunks", "Recurrent", "Sequences", "make_memory"]

Recurrent = Literal["none", "gru", "lstm"]


def make_memory(kind: Recurrent, n_inputs: int, n_outputs: int, *, name: str = "memory") -> GRU | LSTM | None:
    """A recurrent layer; None for a policy that acts on what it sees alone."""
    if kind == "none":
        return None
    return GRU(name, n_inputs, n_outputs) if kind == "gru" else LSTM(name, n_inputs, n_outputs)


@dataclass(frozen=True, slots=True)
class Sequences:
    """Says of L x S samples, ordered by step, that they are S sequences of L steps each.

    Attributes:
        state: ``[R, S, n_state]``, of the memory before the first steps.
        starts: ``[R, L * S]`` boolean, the samples at which an episode begins and the memory is empty.
    """

    state: Tensor
    starts: Tensor

    @property
    def n_steps(self) -> int:
        """L."""
        return self.starts.shape[1] // self.state.shape[1]

    def by_step(self, x: Tensor) -> Tensor:
        """``[R, L * S, ...] -> [R, L, S, ...]``."""
        return x.unflatten(1, (self.n_steps, -1))

    def samples_of(self, index: Tensor) -> Tensor:
        """Samples ``[R, L * B]`` of the sequences ``index [R, B]``, again ordered by step."""
        first = torch.arange(self.n_steps, device=index.device) * self.state.shape[1]
        return (first.unsqueeze(-1) + index.unsqueeze(1)).flatten(1)


@dataclass(frozen=True, slots=True)
class Chunks:
    """How rollouts of T steps of E environments are cut into sequences of L steps; what is left over is padded.

    Attributes:
        n_steps: T.
        n_envs: E.
        length: L, of a sequence.
    """

    n_steps: int
    n_envs: int
    length: int

    @property
    def n_chunks(self) -> int:
        """Sequences that each environment's steps are cut into."""
        return -(-self.n_steps // self.length)

    def cut(self, x: Tensor) -> Tensor:
        """Samples ``[R, T * E, ...]`` in sequences, ``[R, L * S, ...]`` with S = chunks x E; zero where padded."""
        x = x.unflatten(1, (self.n_steps, self.n_envs))
        missing = self.n_chunks * self.length - self.n_steps
        if missing:
            x = torch.cat([x, torch.zeros_like(x[:, :1]).expand(-1, missing, *x.shape[2:])], 1)
        return x.unflatten(1, (self.n_chunks, self.length)).transpose(1, 2).flatten(1, 3)

    def first_states(self, state: Tensor, states: Tensor) -> Tensor:
        """States before each sequence ``[R, S, n_state]``, of that before the rollout and those after its steps.

        Args:
            state: ``[R, E, n_state]``.
            states: ``[R, T or more, E, n_state]``.
        """
        later = states[:, self.length - 1 : self.n_steps - 1 : self.length]
        return torch.cat([state.unsqueeze(1), later], 1).flatten(1, 2)
