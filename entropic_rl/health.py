"""Numbers that are not finite, noticed before they spread: the run that they belong to is frozen, the others go on.

Whatever was not finite on the way to it, an observation, a reward, a logit or the loss, makes a gradient that is not:
a sum over each run's is all that has to be looked at before a step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Health", "NumberWatch", "broken_metrics"]


class Health:
    """Which of R runs are to learn no more, because a gradient of theirs was not finite or somebody else said so.

    Args:
        n_runs: R.
        device: where the parameters are.

    Attributes:
        stopped: ``[R]`` boolean, for good.
    """

    def __init__(self, n_runs: int, *, device: torch.device | str = "cpu") -> None:
        self.stopped = torch.zeros(n_runs, dtype=torch.bool, device=device)
        self._any = False  # known on the CPU alone; a GPU is not asked

    def stop(self, run: int) -> None:
        """Freeze a run."""
        self.stopped[run] = True
        self._any = True

    @torch.no_grad()
    def active(self, grads: Tensor, active: Tensor | None = None) -> Tensor | None:
        """Which rows may be stepped, ``[rows]`` boolean; None if all may.

        Args:
            grads: ``[rows, P]``, as many rows for each run; runs in which one is not finite are frozen.
            active: ``[rows]`` boolean, which rows are to be stepped at all.
        """
        total = grads.sum(1)
        on_cpu = grads.device.type == "cpu"
        if on_cpu and not self._any and math.isfinite(float(total.sum())):
            return active
        finite = total.isfinite().view(len(self.stopped), -1)
        self.stopped |= ~finite.all(1)
        if on_cpu:
            self._any = bool(self.stopped.any())
            if not self._any:  # the sum of the sums alone was too large
                return active
        may = (~self.stopped).unsqueeze(1).expand_as(finite).flatten()
        return may if active is None else may & active


class NumberWatch:
    """Finds observations and rewards of NumPy that are not finite, and keeps them from whoever learns.

    Args:
        n_runs: R.
        n_envs: E.

    Attributes:
        broken: which runs have met such a number, and where.
    """

    def __init__(self, n_runs: int, n_envs: int) -> None:
        self._n_runs, self._n_envs, self._n_steps = n_runs, n_envs, 0
        self._seeds: list[int] = []
        self.broken: dict[int, str] = {}

    def restart(self, seeds: Sequence[int], obs: Any) -> Any:
        """Environments were reset with ``seeds [R * E]``; returns ``obs [R * E, D]``, as :meth:`__call__` does."""
        self._seeds, self._n_steps = list(seeds), 0
        return obs if not self.broken and _are_finite(obs) else self._clean("observation", obs)

    def __call__(self, obs: Any, reward: Any, final_obs: Any) -> tuple[Any, Any, Any]:
        """``obs [R * E, D]``, ``reward [R * E]`` and ``final_obs [R * E, D]``, with 0 for all of a broken run."""
        self._n_steps += 1
        if not self.broken and _are_finite(obs, reward, final_obs):
            return obs, reward, final_obs
        final_obs = self._clean("observation", final_obs)
        return self._clean("observation", obs), self._clean("reward", reward), final_obs

    def _clean(self, name: str, numbers: Any) -> Any:
        if numbers is None or _is_left_alone(numbers):
            return numbers
        array = np.asarray(numbers)
        finite = np.isfinite(array).reshape(len(array), -1).all(1)
        for index in np.flatnonzero(~finite).tolist():
            self.broken.setdefault(index // self._n_envs, self._where(name, index, array[index]))
        if not self.broken:  # numbers whose sum alone is too large
            return numbers
        kept = np.repeat([run not in self.broken for run in range(self._n_runs)], self._n_envs)
        return np.where(kept.reshape(-1, *[1] * (array.ndim - 1)), array, 0).astype(array.dtype)

    def _where(self, name: str, index: int, numbers: Any) -> str:
        values = np.atleast_1d(numbers).ravel()
        first = values[~np.isfinite(values)][0]
        return (
            f"environment {index % self._n_envs}, step {self._n_steps} after its reset with seed {self._seeds[index]}: "
            f"expected finite numbers, got {first} as {name}; mend the environment, or wrap it with --env-wrappers"
        )


def _are_finite(*arrays: Any) -> bool:
    """Whether a sum over all of them is a number: no proof of the contrary, but cheap; None counts as finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        total = sum(float(numbers.sum()) for numbers in arrays if numbers is not None and not _is_left_alone(numbers))
    return math.isfinite(total)


def _is_left_alone(numbers: Any) -> bool:
    """Whether it is a tensor, of an environment that steps all copies at once: gradients tell, and cost less."""
    return isinstance(numbers, Tensor)


def broken_metrics(metrics: dict[str, Tensor], run: int) -> str:
    """Names of the metrics ``[R]`` that are not finite for a run, for a sentence."""
    names = [name for name, values in metrics.items() if not math.isfinite(float(values[run]))]
    return f", with {', '.join(names)}" if names else ""
