"""The random numbers of many copies of an environment: those of each are a function of its own seed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from entropic_rl.devices import answers_at_once
from entropic_rl.envs.dynamics import Dynamics
from entropic_rl.streams import Stream

__all__ = ["Ahead", "Draws"]

_EPISODES_AHEAD = 64
_STEPS_AHEAD = 64


class Ahead(NamedTuple):
    """Random numbers of N copies that are made already.

    Attributes:
        starts: ``[S, N * K]``, first states of the next K episodes of each copy.
        next: ``[N]``, which of them comes next; moved on in place where an episode begins.
        last: ``[N]``, the last one of the copy's own, which may not be begun with; -1 if all episodes begin alike.
        u: ``[T, n_step_draws, N]``, uniform numbers of the next T steps.
    """

    starts: Tensor
    next: Tensor
    last: Tensor
    u: Tensor


class Draws:
    """Starts by episode and draws by step, both made some time ahead of their use.

    Numbers come from the counters (seed, episode) and (seed, step), so how far ahead they are made changes none.

    Args:
        dynamics: the environment's rules.
        seeds: N.
        look_ahead: whether to make many at once; not where single copies are given new seeds all the time.
        device: where they are made.

    Attributes:
        fresh: ``[S, N]``, the first state of every copy's next episode.
    """

    fresh: Tensor
    _table: Tensor  # [S, N * ahead], the next starts of every copy, copy by copy
    _next: Tensor  # [N], the column of ``fresh`` in it
    _n_sure: int  # how many more times every copy can begin an episode from it
    _episode: Tensor  # [N], number of the first episode in the table
    _step: Tensor  # [N], number of the first step in the drawn numbers
    _drawn: Tensor  # [T, n_step_draws, N]
    _n_used: int  # how many of the T were used

    NO_STATE = ("_dynamics", "_first", "_none")

    def __init__(
        self, dynamics: Dynamics, seeds: list[int], *, look_ahead: bool, device: torch.device | str = "cpu"
    ) -> None:
        self._dynamics, self.seeds, self._look_ahead, self._device = dynamics, seeds, look_ahead, device
        self._episodes_ahead, self._steps_ahead = (_EPISODES_AHEAD, _STEPS_AHEAD) if look_ahead else (1, 1)
        self._start_stream = Stream(seeds, "start", device=device)
        self._step_stream = Stream(seeds, "step", device=device)
        n = len(seeds)
        self._first = torch.arange(n, device=device) * (self._episodes_ahead if dynamics.n_start_draws else 1)
        self._none = torch.empty(0, n, dtype=torch.float64, device=device)
        zero = torch.zeros(n, dtype=torch.int64, device=device)
        self._go_to(zero, zero)

    def reseeded(self, mask: Tensor, seeds: list[int]) -> Draws:
        """The same for all copies but those in ``mask``, which begin anew from their ``seeds``."""
        merged = [new if masked else old for masked, new, old in zip(mask.tolist(), seeds, self.seeds, strict=True)]
        other = Draws(self._dynamics, merged, look_ahead=self._look_ahead, device=self._device)
        episode = self._episode + self._next - self._first
        other._go_to(episode.masked_fill(mask, 0), (self._step + self._n_used).masked_fill(mask, 0))
        return other

    def begin(self, mask: Tensor, which: Tensor | None = None) -> None:
        """The copies in ``mask`` begin the episodes of ``fresh``, which goes on to the ones after.

        Args:
            mask: ``[N]`` boolean.
            which: its indices, if they are known: fewer numbers are touched then.
        """
        if self._dynamics.n_start_draws == 0:
            return
        if self._n_sure == 0:  # at the earliest now some copy can have used up its starts
            if answers_at_once(mask.device):
                self._n_sure = self._episodes_ahead - 1 - int((self._next - self._first).max())
            if self._n_sure == 0:
                self._episode = self._episode + (self._next - self._first) + mask
                self._fill_table()
                return
        self._n_sure -= 1
        if which is None:
            self._next = self._next + mask
            self.fresh = self._table.gather(1, self._next.expand(len(self._table), -1))
        else:
            column = self._next.index_select(0, which) + 1
            self._next.index_copy_(0, which, column)
            self.fresh.index_copy_(1, which, self._table.index_select(1, column))

    def refill(self) -> None:
        """Make first states ahead of every copy's episode again."""
        self._episode = self._episode + (self._next - self._first)
        self._fill_table()

    def restock(self) -> None:
        """Make all numbers ahead again: how many are left does not depend, from there on, on what was before."""
        self.refill()
        if self._dynamics.n_step_draws:
            self._step = self._step + self._n_used
            self._n_used, self._drawn = 0, self._none

    def ahead(self) -> Ahead:
        """What is made already, for whoever steps the copies; :meth:`used` tells what became of it."""
        if self._dynamics.n_step_draws and self._n_used == len(self._drawn):
            self.step_numbers()
            self._n_used = 0
        last = self._first + (self._episodes_ahead - 1)
        if self._dynamics.n_start_draws == 0:
            last = torch.full_like(last, -1)
        return Ahead(self._table, self._next, last, self._drawn[self._n_used :])

    def used(self, n_steps: int) -> None:
        """Copies were stepped ``n_steps`` times, and begun with the states before ``next``."""
        self._n_used += n_steps if self._dynamics.n_step_draws else 0
        if self._dynamics.n_start_draws:
            self._n_sure = self._episodes_ahead - 1 - int((self._next - self._first).max())
            self.fresh = self._table.gather(1, self._next.expand(len(self._table), -1))

    def step_numbers(self) -> Tensor:
        """Uniform numbers ``[n_step_draws, N]`` of the step to come."""
        n = self._dynamics.n_step_draws
        if n == 0:
            return self._none
        if self._n_used == len(self._drawn):
            self._step = self._step + self._n_used
            self._step_stream.position, self._n_used = self._step, 0
            self._drawn = self._step_stream.ahead(self._steps_ahead, n).permute(1, 2, 0).contiguous()  # [T, n, N]
        self._n_used += 1
        return self._drawn[self._n_used - 1]

    def _go_to(self, episode: Tensor, step: Tensor) -> None:
        """Every copy ``[N]`` stands before its episode and its step of these numbers."""
        self._episode, self._step = episode, step
        self._n_used, self._drawn = 0, self._none
        self._fill_table()

    def _fill_table(self) -> None:
        """Draw the next episodes' starts of every copy."""
        n = self._dynamics.n_start_draws
        ahead = self._episodes_ahead if n else 1
        self._start_stream.position = self._episode
        u = self._start_stream.ahead(ahead, n)  # [N, ahead, n]
        self._table = self._dynamics.start(u.flatten(0, 1).T.contiguous())
        self._next, self._n_sure = self._first.clone(), ahead - 1
        self.fresh = self._table[:, self._first]
