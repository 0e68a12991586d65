"""Where a gradient step can be watched: learners announce their steps, and whoever listens may look, not touch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

from torch import Tensor

from entropic_rl.networks import ParameterRows
from entropic_rl.optimizers import Optimizer

__all__ = ["UNWATCHED", "Terms", "Watcher"]


class Terms(NamedTuple):
    """The two terms of a loss, ``[R]`` each, differentiable from one forward pass; the loss is their sum.

    Attributes:
        task: what is to be learned.
        entropy: minus the weighted entropy; None where the loss has none.
    """

    task: Tensor
    entropy: Tensor | None


class Watcher(Protocol):
    """Who listens to a learner."""

    def step(
        self, network: str, params: ParameterRows, optimizer: Optimizer, terms: Callable[[], Terms]
    ) -> AbstractContextManager[None]:
        """A context around one step of ``optimizer`` on ``params``, which the learner calls ``network``.

        ``terms`` computes the loss of this step once more, as often as it is called, and changes nothing.
        """


class _Nobody:
    def step(
        self, network: str, params: ParameterRows, optimizer: Optimizer, terms: Callable[[], Terms]
    ) -> AbstractContextManager[None]:
        return nullcontext()


UNWATCHED: Watcher = _Nobody()
"""Nobody listens."""
