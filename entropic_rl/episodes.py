"""Returns and lengths of finished episodes, per run, counted where the rewards are."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Episodes"]


class Episodes:
    """Statistics of R x E environments' training episodes.

    Args:
        n_runs: R.
        n_envs: E.
        window: how many finished episodes of each run are remembered.
        success_return: return from which an episode counts as a success; None if none does.
        device: where the counting is done.

    Attributes:
        success_return: the same.
        n_finished: ``[R]``, finished episodes.
        n_succeeded: ``[R]``, those of them that were successes.
        first_success: ``[R]``, env steps of the run at the end of its first success; -1 before.
    """

    def __init__(
        self,
        n_runs: int,
        n_envs: int,
        *,
        window: int = 100,
        success_return: float | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.success_return, self._n_envs = success_return, n_envs
        self._n_steps = torch.zeros((), dtype=torch.int64, device=device)
        self._return = torch.zeros(n_runs, n_envs, dtype=torch.float64, device=device)
        self._length = torch.zeros(n_runs, n_envs, dtype=torch.int64, device=device)
        # One place more than the window: what is not kept is written there.
        self._returns = torch.zeros(n_runs, window + 1, dtype=torch.float64, device=device)
        self._lengths = torch.zeros(n_runs, window + 1, dtype=torch.int64, device=device)
        self.n_finished = torch.zeros(n_runs, dtype=torch.int64, device=device)
        self.n_succeeded = torch.zeros_like(self.n_finished)
        self.first_success = torch.full((n_runs,), -1, dtype=torch.int64, device=device)

    @property
    def n_steps(self) -> int:
        """Env steps of each run so far."""
        return int(self._n_steps)

    def restart(self) -> None:
        """All environments begin anew; what is finished stays counted."""
        self._return.zero_()
        self._length.zero_()

    def add(self, reward: Tensor, ended: Tensor | None, valid: Tensor | None) -> None:
        """Count one step of every environment, ``[R, E]`` each.

        Args:
            reward: raw.
            ended: boolean; None if no episode ended.
            valid: boolean, False where nothing was done but a reset; None if all are True.
        """
        self._n_steps += self._n_envs
        self._return += reward if valid is None else reward * valid
        self._length += 1 if valid is None else valid
        if ended is None:
            return
        if self.success_return is not None:
            successes = (ended & (self._return >= self.success_return)).sum(1)
            self.n_succeeded += successes
            is_first = (successes > 0) & (self.first_success < 0)
            self.first_success.copy_(torch.where(is_first, self._n_steps, self.first_success))
        window = self._returns.shape[1] - 1
        rank = ended.cumsum(1)  # among the episodes that ended now, from 1
        kept = ended & (rank > rank[:, -1:] - window)
        place = ((self.n_finished.unsqueeze(1) + rank - 1) % window).masked_fill_(~kept, window)
        self._returns.scatter_(1, place, self._return)
        self._lengths.scatter_(1, place, self._length)
        self.n_finished += rank[:, -1]
        self._return.masked_fill_(ended, 0.0)
        self._length.masked_fill_(ended, 0)

    def counters(self) -> tuple[Tensor, ...]:
        """What a step changes, to be changed in place by whoever makes steps elsewhere; :meth:`moved` comes next.

        Returns:
            Return and length so far ``[R, E]``; those of finished episodes ``[R, window + 1]``, the n-th at place
            n modulo ``window``; ``n_finished``, ``n_succeeded`` and ``first_success``.
        """
        finished = (self._returns, self._lengths, self.n_finished, self.n_succeeded, self.first_success)
        return self._return, self._length, *finished

    def moved(self, n_steps: int) -> None:
        """So many steps of every environment were made elsewhere."""
        self._n_steps += n_steps * self._n_envs

    def recent(self) -> list[tuple[list[float], list[int]]]:
        """Per run the returns and lengths of its latest finished episodes, oldest first."""
        window = self._returns.shape[1] - 1
        recent = []
        for finished, returns, lengths in zip(
            self.n_finished.tolist(), self._returns.tolist(), self._lengths.tolist(), strict=True
        ):
            places = [i % window for i in range(max(0, finished - window), finished)]
            recent.append(([returns[i] for i in places], [lengths[i] for i in places]))
        return recent
