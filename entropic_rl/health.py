"""Numbers that are not finite, noticed before they spread: the run that they belong to is frozen, the others go on.

Whatever was not finite on the way to it, an observation, a reward, a logit or the loss, makes a gradient that is not:
a sum over each run's is all that has to be looked at before a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from entropic_rl.devices import answers_at_once

__all__ = ["Evidence", "Health", "NumberWatch", "broken_metrics"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a run broke on, copied for whoever wants to know why.

    Attributes:
        kind: ``batch``, of a gradient step that was refused, or ``step``, of environments.
        tensors: by name; of a batch ``[1, ...]`` (``[K, ...]`` of its K critics), of a step ``[E, ...]``.
        notes: where it was, as plain values.
    """

    kind: str
    tensors: dict[str, Tensor]
    notes: dict[str, Any] = field(default_factory=dict)


class Health:
    """Which of R runs are to learn no more, because a gradient of theirs was not finite or somebody else said so.

    Args:
        n_runs: R.
        device: where the parameters are.

    Attributes:
        stopped: ``[R]`` boolean, for good.
        n_steps: gradient steps since somebody last set it to 0.
        kept: what runs were frozen on, until somebody takes it; of those on the CPU alone.
    """

    NO_STATE = ("n_steps", "kept", "_found")  # of one update

    def __init__(self, n_runs: int, *, device: torch.device | str = "cpu") -> None:
        self.stopped = torch.zeros(n_runs, dtype=torch.bool, device=device)
        self._any = False  # known on the CPU alone; a GPU is not asked
        self.n_steps, self.kept = 0, dict[int, Evidence]()
        self._found: list[int] = []  # runs that the last step froze

    def stop(self, run: int) -> None:
        """Freeze a run."""
        self.stopped[run] = True
        self._any = True

    def freeze(self, run: int, gradient_step: int) -> None:
        """Freeze a run whose gradient was not finite in the step of this number; :meth:`look` comes next."""
        self.stop(run)
        self._found.append(run)
        self.n_steps = gradient_step

    @torch.no_grad()
    def active(self, grads: Tensor, active: Tensor | None = None) -> Tensor | None:
        """Which rows may be stepped, ``[rows]`` boolean; None if all may.

        Args:
            grads: ``[rows, P]``, as many rows for each run; runs in which one is not finite are frozen.
            active: ``[rows]`` boolean, which rows are to be stepped at all.
        """
        total = grads.sum(1)
        may_ask = answers_at_once(grads.device)
        if may_ask and not self._any and math.isfinite(float(total.sum())):
            return active
        finite = total.isfinite().view(len(self.stopped), -1)
        broken = ~finite.all(1)
        if may_ask:
            self._found += (broken & ~self.stopped).nonzero().flatten().tolist()
        self.stopped |= broken
        if may_ask:
            self._any = bool(self.stopped.any())
            if not self._any:  # the sum of the sums alone was too large
                return active
        may = (~self.stopped).unsqueeze(1).expand_as(finite).flatten()
        return may if active is None else may & active

    def look(self, network: str, inputs: Callable[[], Mapping[str, Tensor]]) -> None:
        """After a gradient step of ``network``: if it froze a run, keep what that run was to learn from.

        Args:
            network: name of the agent's attribute that was stepped.
            inputs: gives all that the loss was computed from, ``[R, ...]`` or ``[R K, ...]`` each; asked only then.
        """
        self.n_steps += 1
        if self._found:
            everything, n_runs = inputs(), len(self.stopped)
            for run in self._found:
                own = {name: _rows(x, run, n_runs) for name, x in everything.items()}
                self.kept[run] = Evidence("batch", own, {"network": network, "gradient_step": self.n_steps})
            self._found.clear()


class NumberWatch:
    """Finds observations and rewards of NumPy that are not finite, and keeps them from whoever learns.

    Args:
        n_runs: R.
        n_envs: E.

    Attributes:
        broken: which runs have met such a number, and where.
        kept: what came in the env step in which they did, until somebody takes it.
    """

    NO_STATE = ("kept",)  # of one env step

    def __init__(self, n_runs: int, n_envs: int) -> None:
        self._n_runs, self._n_envs, self._n_steps = n_runs, n_envs, 0
        self._seeds: list[int] = []
        self.broken: dict[int, str] = {}
        self.kept: dict[int, Evidence] = {}

    def restart(self, seeds: Sequence[int], obs: Any) -> Any:
        """Environments were reset with ``seeds [R * E]``; returns ``obs [R * E, D]``, as :meth:`__call__` does."""
        self._seeds, self._n_steps = list(seeds), 0
        if not self.broken and _are_finite(obs):
            return obs
        before = set(self.broken)
        cleaned = self._clean("observation", obs)
        self._keep(before, {"obs": obs})
        return cleaned

    def __call__(self, obs: Any, reward: Any, final_obs: Any, **beside: Any) -> tuple[Any, Any, Any]:
        """``obs [R * E, D]``, ``reward [R * E]`` and ``final_obs [R * E, D]``, with 0 for all of a broken run.

        ``beside``: what else there was of this step, ``[R * E, ...]`` each, to be kept where a number is not finite.
        """
        if _is_left_alone(obs):
            return obs, reward, final_obs
        self._n_steps += 1
        if not self.broken and _are_finite(obs, reward, final_obs):
            return obs, reward, final_obs
        before = set(self.broken)
        cleaned_final = self._clean("observation", final_obs)
        cleaned = self._clean("observation", obs), self._clean("reward", reward), cleaned_final
        self._keep(before, {"next_obs": obs, "reward": reward, "final_obs": final_obs, **beside})
        return cleaned

    def _keep(self, before: set[int], numbers: Mapping[str, Any]) -> None:
        """Copies of what runs that have just broken saw."""
        for run in self.broken.keys() - before:
            own = {name: _rows(x, run, self._n_runs) for name, x in numbers.items() if x is not None}
            self.kept[run] = Evidence("step", own, {"steps_since_reset": self._n_steps})

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


def _rows(x: Tensor | np.ndarray, run: int, n_runs: int) -> Tensor:
    """A copy of what is of one run, on the CPU; every run has as many rows."""
    each = len(x) // n_runs
    own = x[run * each : (run + 1) * each]
    return own.detach().clone().cpu() if isinstance(own, Tensor) else torch.from_numpy(np.array(own))


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
