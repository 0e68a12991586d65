"""L-BFGS over rows: curvature from the last steps, each run from its own."""

from __future__ import annotations

import torch
from torch import Tensor

from entropic_rl.networks import copy_exactly

__all__ = ["LBFGS"]

_LEAST_CURVATURE = 1e-10  # s'y from which a pair is remembered
_FLAT = 1e-7  # largest gradient at which a run is at its minimum
_LEVEL = 1e-9  # slope along the direction from which on it does not descend


class LBFGS:
    """Limited-memory BFGS on rows, as ``torch.optim.LBFGS(max_iter=1)`` without line search.

    One evaluation of the gradient per step, as the other optimizers have; the first step is ``min(1, 1 / |g|_1)`` times
    the rate. Gradients have to be of all rows of the data: the noise of minibatches would pass for curvature.
    Source: Liu & Nocedal (1989), https://doi.org/10.1007/BF01589116.

    Args:
        params: ``[R, P]``.
        history_size: M, steps that are remembered; memory grows with ``2 M R P``.
    """

    def __init__(self, params: Tensor, *, history_size: int = 10) -> None:
        n_runs, n_params = params.shape
        self.step_count = params.new_zeros(n_runs, 1)
        self.scale = params.new_ones(n_runs, 1)
        self.inverse = params.new_zeros(n_runs, history_size)
        self.steps = params.new_zeros(n_runs, history_size, n_params)
        self.changes = torch.zeros_like(self.steps)
        self.last_grads, self.last_step = torch.zeros_like(params), torch.zeros_like(params)

    @torch.no_grad()
    def step(self, params: Tensor, grads: Tensor, learning_rate: Tensor, active: Tensor | None = None) -> None:
        """Step ``params, grads [R, P]`` in place by ``learning_rate [R]``; rows where ``active [R]`` is False stay."""
        moves = grads.abs().amax(1, keepdim=True) > _FLAT
        if active is not None:
            moves &= active.unsqueeze(1)
        self._remember(grads, moves & (self.step_count > 0.0))
        direction = self._direction(grads)
        first = (1.0 / grads.abs().sum(1, keepdim=True)).clamp(max=1.0)
        step = direction * (learning_rate.unsqueeze(1) * torch.where(self.step_count > 0.0, 1.0, first))
        descends = moves & ((direction * grads).sum(1, keepdim=True) <= -_LEVEL)
        params.copy_(torch.where(descends, params + step, params))
        self.last_step.copy_(torch.where(moves, step, self.last_step))
        self.last_grads.copy_(torch.where(moves, grads, self.last_grads))
        self.step_count += moves

    def _remember(self, grads: Tensor, due: Tensor) -> None:
        """Take in what the last step did to the gradient, where that is curvature of a minimum."""
        change = grads - self.last_grads
        product = (change * self.last_step).sum(1, keepdim=True)
        due = due & (product > _LEAST_CURVATURE)
        for kept, new in (
            (self.steps, self.last_step.unsqueeze(1)),
            (self.changes, change.unsqueeze(1)),
            (self.inverse, 1.0 / product),
        ):
            rows = due.view(-1, *[1] * (kept.ndim - 1))
            kept.copy_(torch.where(rows, torch.cat([kept[:, 1:], new], 1), kept))
        self.scale.copy_(torch.where(due, product / change.square().sum(1, keepdim=True), self.scale))

    def _direction(self, grads: Tensor) -> Tensor:
        """The two-loop recursion, ``[R, P]``; places without a pair hold zeros and change nothing."""
        q, shares = -grads, []
        for i in reversed(range(self.steps.shape[1])):
            shares.append(self.inverse[:, i : i + 1] * (self.steps[:, i] * q).sum(1, keepdim=True))
            q = q - shares[-1] * self.changes[:, i]
        q = q * self.scale
        for i in range(self.steps.shape[1]):
            back = self.inverse[:, i : i + 1] * (self.changes[:, i] * q).sum(1, keepdim=True)
            q = q + (shares.pop() - back) * self.steps[:, i]
        return q

    def preconditioner(self) -> Tensor:
        """Unknown, ``[R, P]`` of NaN: entries are not scaled one by one."""
        return torch.full_like(self.last_grads, torch.nan)

    def state_dict(self) -> dict[str, Tensor]:
        """Every tensor needed to continue exactly."""
        names = ("step_count", "scale", "inverse", "steps", "changes", "last_grads", "last_step")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave."""
        copy_exactly(self.state_dict(), state)
