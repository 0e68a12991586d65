"""N-way K-shot tasks: a few rows of each of some classes to learn from, others of the same classes to be judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from entropic_rl.errors import ConfigError
from entropic_rl.streams import Stream

__all__ = ["EpisodeSampler", "Episodes"]


@dataclass(frozen=True, slots=True)
class Episodes:
    """T tasks of each of R runs.

    Attributes:
        classes: ``[R, T, N]``, labels in the order of their ways.
        support: ``[R, T, N, K]``, rows with labels.
        query: ``[R, T, N, Q]``, other rows of the same classes.
    """

    classes: Tensor
    support: Tensor
    query: Tensor

    def ways(self, rows: Tensor) -> Tensor:
        """Which of the N ways each of ``rows [R, T, N, K]`` belongs to, ``[N * K]``, the same in all tasks."""
        return torch.arange(rows.shape[-2], device=rows.device).repeat_interleave(rows.shape[-1])


class EpisodeSampler:
    """Draws tasks from the classes that each run may use; classes and rows without replacement.

    Args:
        labels: ``[n]``, integers >= 0.
        classes: ``[R, M]``, labels that each run draws from.
        n_way: N, classes of a task.
        n_shot: K, rows of each class to learn from.
        n_query: Q, rows of each class to be judged by.
        seeds: R.

    Raises:
        ConfigError: a task has more classes than there are, or more rows of a class than it has; a number is below 1.
    """

    def __init__(
        self, labels: Tensor, classes: Tensor, *, n_way: int, n_shot: int, n_query: int, seeds: Sequence[int]
    ) -> None:
        if min(n_way - 1, n_shot, n_query) < 1:
            raise ConfigError(
                f"expected n_way of at least 2, n_shot and n_query of at least 1, got {n_way}, {n_shot} and {n_query}"
            )
        if n_way > classes.shape[1]:
            raise ConfigError(
                f"n_way: expected at most {classes.shape[1]}, as many classes as there are to draw from, got {n_way}"
            )
        sizes = torch.bincount(labels, minlength=int(classes.max()) + 1)
        scarce = classes.flatten()[sizes[classes.flatten()].argmin()]
        if n_shot + n_query > sizes[scarce]:
            raise ConfigError(
                f"n_shot + n_query: expected at most {int(sizes[scarce])} rows, which class {int(scarce)} has, "
                f"got {n_shot} + {n_query}"
            )
        self._classes, self._shape = classes, (n_way, n_shot, n_query)
        self._sizes, by_class = sizes, labels.argsort(stable=True)
        self._first, self._by_class = sizes.cumsum(0) - sizes, by_class
        self._class_order, self._row_order = (Stream(seeds, f"episodes: {part}") for part in ("classes", "rows"))

    def draw(self, n_episodes: int) -> Episodes:
        """The next ``n_episodes`` tasks of every run."""
        n_way, n_shot, n_query = self._shape
        keys = self._class_order.uniform(n_episodes, self._classes.shape[1])
        picked = keys.argsort(-1)[..., :n_way]
        classes = self._classes.unsqueeze(1).expand(-1, n_episodes, -1).gather(2, picked)
        sizes = self._sizes[classes].unsqueeze(-1)  # [R, T, N, 1]
        longest = int(self._sizes.max())
        order = self._row_order.uniform(n_episodes, n_way, longest)
        order = order.masked_fill(torch.arange(longest) >= sizes, 2.0).argsort(-1)[..., : n_shot + n_query]
        rows = self._by_class[self._first[classes].unsqueeze(-1) + order]
        support, query = rows.split([n_shot, n_query], -1)
        return Episodes(classes, support, query)
