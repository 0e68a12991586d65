"""What networks are fitted to: labels by a softmax, numbers by Gaussians; a data loss and an entropy each."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from entropic_rl.entropy import categorical_entropy, gaussian_entropy
from entropic_rl.losses.supervised import entropic_cross_entropy, entropic_gaussian_nll

__all__ = ["Classification", "Regression", "Task"]

_LOWEST, _HIGHEST = -10.0, 5.0  # of log standard deviations, in those of the targets


class Task(Protocol):
    """How outputs are judged."""

    def loss(self, outputs: Tensor, target: Tensor, ent_coef: Tensor) -> Tensor:
        """The entropic loss per row, ``[R, B]``, of ``outputs [R, B, out]``; ``ent_coef`` is ``[R, 1]``."""

    def entropy(self, outputs: Tensor) -> Tensor:
        """Nats per row, ``[R, B]``."""


class Classification:
    """Logits ``[R, B, C]`` and class indices ``[R, B]``.

    Args:
        label_smoothing: share of each label that is spread over all.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self._label_smoothing = label_smoothing

    def loss(self, outputs: Tensor, target: Tensor, ent_coef: Tensor) -> Tensor:
        """Entropic cross-entropy, ``[R, B]``."""
        return entropic_cross_entropy(outputs, target, ent_coef=ent_coef, label_smoothing=self._label_smoothing, dim=-1)

    def entropy(self, outputs: Tensor) -> Tensor:
        """Of the softmax, ``[R, B]``."""
        return categorical_entropy(outputs)


class Regression:
    """Means and log standard deviations side by side, ``[R, B, 2 D]``, and numbers ``[R, B, D]``."""

    def loss(self, outputs: Tensor, target: Tensor, ent_coef: Tensor) -> Tensor:
        """Entropic likelihood of Gaussians, ``[R, B]``."""
        mean, log_std = self.split(outputs)
        return entropic_gaussian_nll(mean, log_std, target, ent_coef=ent_coef)

    def entropy(self, outputs: Tensor) -> Tensor:
        """Of the Gaussians, ``[R, B]``."""
        return gaussian_entropy(self.split(outputs)[1])

    @staticmethod
    def split(outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation, ``[..., D]`` each."""
        mean, log_std = outputs.chunk(2, -1)
        return mean, log_std.clamp(_LOWEST, _HIGHEST)
