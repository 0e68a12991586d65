"""Optimizers over rows: parameters and gradients are ``[R, P]``, and a row is an independent run.

All but L-BFGS (``second_order.py``) are elementwise, so R stacked runs are R optimizers; what is ours is that gradient
norms, step counts, learning rates and the decision to step belong to each row (a run that stopped early must not coast
on its momentum). With a ``health``, rows of runs that have met a gradient that is not finite are never stepped again.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from entropic_rl.devices import answers_at_once
from entropic_rl.health import Health
from entropic_rl.networks import copy_exactly

__all__ = ["SGD", "Adam", "Optimizer", "RMSprop", "clip_grad_norm_"]


class Optimizer(Protocol):
    """What steps rows."""

    def step(self, params: Tensor, grads: Tensor, learning_rate: Tensor, active: Tensor | None = None) -> None:
        """Step ``params, grads [R, P]`` in place by ``learning_rate [R]``; rows where ``active [R]`` is False stay."""

    def preconditioner(self) -> Tensor:
        """What the last step multiplied gradients by, entry by entry, but for the learning rate, ``[R, P]``."""

    def state_dict(self) -> dict[str, Tensor]:
        """Every tensor needed to continue exactly."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave."""


def clip_grad_norm_(grads: Tensor, max_norm: float | Tensor) -> Tensor:
    """Scale each row of ``grads [R, P]`` in place to a 2-norm of at most ``max_norm``; returns the old norms ``[R]``.

    ``max_norm`` is a number or ``[R]``. Equal to ``torch.nn.utils.clip_grad_norm_`` on each run alone.
    """
    norm = torch.linalg.vector_norm(grads, dim=1)
    grads.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0).unsqueeze(1))
    return norm


class Adam:
    """Adam on rows, as ``torch.optim.Adam``; with ``weight_decay``, which is decoupled, as ``torch.optim.AdamW``.

    Source: Kingma & Ba (2015), https://arxiv.org/abs/1412.6980; Loshchilov & Hutter (2019),
    https://arxiv.org/abs/1711.05101.
    """

    def __init__(
        self,
        params: Tensor,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-5,
        weight_decay: float = 0.0,
        health: Health | None = None,
    ) -> None:
        self._health = health
        self.decay, self.eps, self._weight_decay = betas, eps, weight_decay
        self.step_count = params.new_zeros(len(params), 1)
        self.exp_avg = torch.zeros_like(params)
        self.exp_avg_sq = torch.zeros_like(params)

    @torch.no_grad()
    def step(self, params: Tensor, grads: Tensor, learning_rate: Tensor, active: Tensor | None = None) -> None:
        """Step ``params, grads [R, P]`` in place by ``learning_rate [R]``; rows where ``active [R]`` is False stay."""
        active = active if self._health is None else self._health.active(grads, active)
        if self._weight_decay:
            kept = 1.0 - self._weight_decay * learning_rate
            params.mul_((kept if active is None else kept.masked_fill(~active, 1.0)).unsqueeze(1))
        if answers_at_once(params.device):
            self._step_fused(params, grads, learning_rate, active)
        else:
            self._step_elementwise(params, grads, learning_rate, active)

    def preconditioner(self) -> Tensor:
        """What the last step multiplied its mean gradients by, but for the learning rate, ``[R, P]``."""
        corrected = self.exp_avg_sq / (1.0 - self.decay[1] ** self.step_count).clamp(min=1e-12)
        return corrected.sqrt_().add_(self.eps).reciprocal_()

    def _step_elementwise(self, params: Tensor, grads: Tensor, learning_rate: Tensor, active: Tensor | None) -> None:
        """Without asking the device for anything."""
        beta1, beta2 = self.decay
        before = _snapshot(params, self, active)
        self.step_count += 1.0
        self.exp_avg.lerp_(grads, 1.0 - beta1)
        self.exp_avg_sq.mul_(beta2).addcmul_(grads, grads, value=1.0 - beta2)
        # lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps), the bias corrections moved onto the numbers per row.
        scale = (1.0 - beta2**self.step_count).sqrt_()
        step_size = learning_rate.unsqueeze(1) * scale / (1.0 - beta1**self.step_count)
        update = (self.exp_avg * step_size).div_(self.exp_avg_sq.sqrt().add_(scale * self.eps))
        params.sub_(update)
        _restore_inactive(params, self, active, before)

    def _step_fused(self, params: Tensor, grads: Tensor, learning_rate: Tensor, active: Tensor | None) -> None:
        """In one pass over memory: the kernel of ``torch.optim.Adam(fused=True)``, which takes one rate at a time.

        It needs a third of the time on CPU, where the square root of a tensor is as slow as this whole step.
        """
        rates = learning_rate.tolist()
        rows_of: dict[float, list[int]] = {}
        for row in range(len(params)) if active is None else active.nonzero().flatten().tolist():
            rows_of.setdefault(rates[row], []).append(row)
        self.step_count += 1.0 if active is None else active.unsqueeze(1)
        each = [t.unbind() for t in (params, grads, self.exp_avg, self.exp_avg_sq, self.step_count)]
        for rate, rows in rows_of.items():
            values, gradients, first, second, step_counts = [[parts[row] for row in rows] for parts in each]
            torch._fused_adam_(
                values,
                gradients,
                first,
                second,
                [],
                step_counts,
                lr=rate,
                beta1=self.decay[0],
                beta2=self.decay[1],
                weight_decay=0.0,
                eps=self.eps,
                amsgrad=False,
                maximize=False,
            )

    def state_dict(self) -> dict[str, Tensor]:
        """Every tensor needed to continue exactly."""
        return {"step_count": self.step_count, "exp_avg": self.exp_avg, "exp_avg_sq": self.exp_avg_sq}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave."""
        copy_exactly(self.state_dict(), state)


class SGD:
    """Gradient descent on rows with momentum, as ``torch.optim.SGD``. Source: Polyak (1964), heavy ball.

    ``momentum`` is a number, or one per run, ``[R, 1]``.
    """

    def __init__(self, params: Tensor, momentum: float | Tensor = 0.9) -> None:
        self._momentum = momentum
        self.velocity = torch.zeros_like(params)

    @torch.no_grad()
    def step(self, params: Tensor, grads: Tensor, learning_rate: Tensor, active: Tensor | None = None) -> None:
        """Step ``params, grads [R, P]`` in place by ``learning_rate [R]``; rows where ``active [R]`` is False stay."""
        before = _snapshot(params, self, active)
        self.velocity.mul_(self._momentum).add_(grads)
        params.sub_(self.velocity * learning_rate.unsqueeze(1))
        _restore_inactive(params, self, active, before)

    def preconditioner(self) -> Tensor:
        """What the last step multiplied its gradients by, but for the learning rate, ``[R, P]``: 1."""
        return torch.ones_like(self.velocity)

    def state_dict(self) -> dict[str, Tensor]:
        """Every tensor needed to continue exactly."""
        return {"velocity": self.velocity}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave."""
        copy_exactly(self.state_dict(), state)


class RMSprop:
    """RMSprop on rows, as ``torch.optim.RMSprop`` without momentum; ``eps`` outside the root.

    Source: Tieleman & Hinton (2012), Coursera lecture 6.5.
    """

    def __init__(self, params: Tensor, *, alpha: float = 0.99, eps: float = 1e-5, health: Health | None = None) -> None:
        self._health = health
        self.decay, self.eps = (0.0, alpha), eps
        self.square_avg = torch.zeros_like(params)

    @torch.no_grad()
    def step(self, params: Tensor, grads: Tensor, learning_rate: Tensor, active: Tensor | None = None) -> None:
        """Step ``params, grads [R, P]`` in place by ``learning_rate [R]``; rows where ``active [R]`` is False stay."""
        active = active if self._health is None else self._health.active(grads, active)
        before = _snapshot(params, self, active)
        self.square_avg.mul_(self.decay[1]).addcmul_(grads, grads, value=1.0 - self.decay[1])
        root = self.square_avg.rsqrt().reciprocal_()  # on CPU in a sixth of the time of sqrt, 0 included
        update = grads * learning_rate.unsqueeze(1) / root.add_(self.eps)
        params.sub_(update)
        _restore_inactive(params, self, active, before)

    def preconditioner(self) -> Tensor:
        """What the last step multiplied its gradients by, but for the learning rate, ``[R, P]``."""
        return self.square_avg.sqrt().add_(self.eps).reciprocal_()

    def state_dict(self) -> dict[str, Tensor]:
        """Every tensor needed to continue exactly."""
        return {"square_avg": self.square_avg}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave."""
        copy_exactly(self.state_dict(), state)


def _snapshot(params: Tensor, optimizer: Optimizer, active: Tensor | None) -> list[Tensor]:
    """Copies of everything a step changes, if some rows are to stay."""
    return [] if active is None else [t.clone() for t in (params, *optimizer.state_dict().values())]


def _restore_inactive(params: Tensor, optimizer: Optimizer, active: Tensor | None, before: list[Tensor]) -> None:
    if active is not None:
        for now, old in zip((params, *optimizer.state_dict().values()), before, strict=True):
            now.copy_(torch.where(active.unsqueeze(1), now, old))
