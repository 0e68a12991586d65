"""The entropic cross-entropy as a module, for anyone's training loop."""

from __future__ import annotations

from torch import Tensor, nn

from entropic_rl.losses.supervised import entropic_cross_entropy

__all__ = ["EntropicCrossEntropy"]


class EntropicCrossEntropy(nn.CrossEntropyLoss):
    """``nn.CrossEntropyLoss`` with an entropy term; with coefficient 0 the same numbers.

    Args:
        weight: ``[C]``, as there.
        ent_coef: the entropy weight, a number or a tensor of no axes; the attribute may be set during training.
        ignore_index: as there.
        reduction: ``mean`` (weighted, over the elements that count), ``sum`` or ``none``, as there.
        label_smoothing: as there.
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ent_coef: float | Tensor = 0.0,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"reduction must be mean, sum or none, got {reduction!r}")
        super().__init__(weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing)
        self.ent_coef = ent_coef

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits ``[B, C, ...]`` and class indices ``[B, ...]`` or probabilities ``[B, C, ...]`` -> the loss."""
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

    def extra_repr(self) -> str:
        """What ``print`` shows between the parentheses."""
        return f"ent_coef={self.ent_coef}, reduction={self.reduction}"
