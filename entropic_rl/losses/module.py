"""The entropic cross-entropy as a module, for anyone's training loop."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from entropic_rl.coefficients import DualAscent
from entropic_rl.entropy import categorical_entropy
from entropic_rl.losses.supervised import entropic_cross_entropy
from entropic_rl.schedules import Schedule, TargetEntropy, parse_coefficient

__all__ = ["EntropicCrossEntropy"]

_RATE = 0.01  # of the logarithm of a steered coefficient, per training call
_INITIAL = 0.1


class EntropicCrossEntropy(nn.CrossEntropyLoss):
    """``nn.CrossEntropyLoss`` with an entropy term; with coefficient 0 the same numbers.

    A schedule moves, and a target entropy is steered to, at each call in training mode with gradients; ``state_dict``
    has what it takes to go on.

    Args:
        weight: ``[C]``, as there.
        ent_coef: the entropy weight: a number, a tensor of no axes, a schedule such as ``"linear:1:0"``, or
            ``"target:NATS[:INITIAL]"``, steered so that minibatches keep that mean entropy. The attribute holds what
            it is now, and may be set during training where it is a number.
        n_steps: training calls that a schedule takes.
        ignore_index: as there.
        reduction: ``mean`` (weighted, over the elements that count), ``sum`` or ``none``, as there.
        label_smoothing: as there.

    Raises:
        ValueError: the coefficient is none of these, or a schedule lacks ``n_steps``.
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ent_coef: float | Tensor | str = 0.0,
        n_steps: int | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"reduction must be mean, sum or none, got {reduction!r}")
        super().__init__(weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing)
        self._schedule: Schedule | None = None
        self._steering: DualAscent | None = None
        self._n_steps, self._step, self._target = n_steps, 0, 0.0
        self.ent_coef: float | Tensor = self._begin(ent_coef) if isinstance(ent_coef, str) else ent_coef
        if self._schedule is not None or self._steering is not None:
            self.register_state_dict_post_hook(_save)
            self.register_load_state_dict_pre_hook(_load)

    def _begin(self, text: str) -> float:
        spec = parse_coefficient(text)
        if isinstance(spec, TargetEntropy):
            if spec.nats is None:
                raise ValueError(f"ent_coef: expected target:NATS, for no target is everyone's, got {text!r}")
            self._target = spec.nats
            self._steering = DualAscent(torch.tensor([spec.initial or _INITIAL], dtype=torch.float64))
            return spec.initial or _INITIAL
        if spec.kind != "constant":
            if self._n_steps is None or self._n_steps < 1:
                raise ValueError(f"n_steps must say over how many training calls {text!r} moves, got {self._n_steps}")
            self._schedule = spec
        return spec.start

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits ``[B, C, ...]`` and class indices ``[B, ...]`` or probabilities ``[B, C, ...]`` -> the loss."""
        moving = self.training and torch.is_grad_enabled()
        if moving and self._schedule is not None:
            self.ent_coef = self._schedule.at(self._step / (self._n_steps or 1))
        if moving and self._steering is not None:
            self._steer(self._steering, input.detach(), target)
        self._step += moving
        loss = entropic_cross_entropy(
            input,
            target,
            ent_coef=self.ent_coef,
            weight=self.weight,
            label_smoothing=self.label_smoothing,
            ignore_index=self.ignore_index,
        )
        if self.reduction == "none":
            return loss
        if self.reduction == "sum" or target.is_floating_point():
            return loss.sum() if self.reduction == "sum" else loss.mean()
        kept = target != self.ignore_index
        if self.weight is None:
            return loss.sum() / kept.sum()
        return loss.sum() / (self.weight[target.where(kept, 0)] * kept).sum()

    def _steer(self, steering: DualAscent, logits: Tensor, target: Tensor) -> None:
        """Towards the target entropy, by what this minibatch shows."""
        entropy = categorical_entropy(logits.movedim(min(1, logits.ndim - 1), -1))
        if not target.is_floating_point():
            entropy = entropy[target != self.ignore_index]
        if entropy.numel():
            error = self._target - entropy.mean().cpu().to(torch.float64).reshape(1)
            steering.step(error, torch.full_like(error, _RATE))
        self.ent_coef = steering.log_coefficient().exp().item()

    def extra_repr(self) -> str:
        """What ``print`` shows between the parentheses."""
        return f"ent_coef={self.ent_coef}, reduction={self.reduction}"


def _save(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """How far a moving coefficient has come, beside the module's parameters."""
    own = cast(EntropicCrossEntropy, module)
    found = {"step": torch.tensor(own._step), "ent_coef": torch.as_tensor(own.ent_coef, dtype=torch.float64)}
    found |= {} if own._steering is None else own._steering.state_dict()
    state.update({f"{prefix}coefficient.{name}": tensor.clone() for name, tensor in found.items()})


def _load(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Go on from there."""
    own = cast(EntropicCrossEntropy, module)
    head = f"{prefix}coefficient."
    found = {name.removeprefix(head): state.pop(name) for name in list(state) if name.startswith(head)}
    if found:
        own._step, own.ent_coef = int(found.pop("step")), float(found.pop("ent_coef"))
        if own._steering is not None:
            own._steering.load_state_dict(found)
