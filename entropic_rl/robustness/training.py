"""Adversarial training: each minibatch is moved to where the loss is larger before its gradient is taken."""

from __future__ import annotations

import torch
from torch import Tensor

from entropic_rl.robustness.balls import Ball, Box, check_eps, check_norm
from entropic_rl.robustness.losses import cross_entropy
from entropic_rl.streams import Stream
from entropic_rl.supervised.networks import Network

__all__ = ["AdversarialRows"]


class AdversarialRows:
    """PGD on the cross-entropy inside each minibatch, for all runs at once; give it to ``Fitting`` as ``perturb``.

    The last iterate is what is learned from, as published. Networks answer it as in prediction: batches are normalised
    by running statistics, and nothing drops out.

    Args:
        network: that is trained.
        seeds: R, of the random starts.
        eps: ``[R]``, radius of each run >= 0, in the units of the features; 0 leaves a run's rows as they are.
        norm: ``linf`` or ``l2``.
        n_steps: of each minibatch; each has a length of ``2.5 eps / n_steps``.
        box: least and largest value of the features.

    Raises:
        ConfigError: a radius is negative or not finite, or the norm unknown.

    Source: Madry et al. (2018), https://arxiv.org/abs/1706.06083.
    """

    def __init__(
        self, network: Network, seeds: list[int], eps: list[float], *, norm: str = "linf", n_steps: int = 7, box: Box
    ) -> None:
        self._network, self._n_steps = network, n_steps
        radii = network.values.new_tensor([check_eps(value) for value in eps]).view(-1, 1, 1)
        self._ball = Ball(radii, check_norm(norm), box)
        self._stream = Stream(seeds, "adversarial training", device=network.values.device)

    def __call__(self, x: Tensor, labels: Tensor) -> Tensor:
        """Rows ``[R, B, D]`` of classes ``[R, B]``, moved."""
        moved = self._ball.random_point(x, self._stream)
        for _ in range(self._n_steps):
            moved = moved.detach().requires_grad_()
            loss = cross_entropy(self._network(moved), labels).sum()
            (gradient,) = torch.autograd.grad(loss, moved)
            step = 2.5 / self._n_steps * self._ball.eps * self._ball.steepest(gradient)
            moved = self._ball.project(moved.detach() + step, x)
        return moved.detach()
