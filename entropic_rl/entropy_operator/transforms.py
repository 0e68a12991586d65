"""The operator under ``torch.func``, which cannot take derivatives of operators made by ``torch.library``.

Both functions call the registered operators, whose batching rules are then used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from entropic_rl.entropy_operator import formulas, library

__all__ = ["transformed"]


class _Choice(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        logits: Tensor, index: Tensor | None, mask: Tensor | None, temperature: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return library.choice(logits, index, mask, temperature)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        logits, index, mask, ctx.temperature = inputs
        ctx.save_for_backward(logits, index, mask, output[3])
        ctx.mark_non_differentiable(output[3])
        ctx.has_index = index is not None

    @staticmethod
    def backward(ctx: Any, *by: Tensor) -> tuple[Tensor, None, None, None]:
        logits, index, mask, stats = ctx.saved_tensors
        by_log_prob = by[0] if ctx.has_index else None
        tensors = (by_log_prob, by[1], by[2], logits, index, mask)
        grad: Tensor = _Gradient.apply(*tensors, ctx.temperature, stats)  # type: ignore[no-untyped-call]
        return grad, None, None, None


class _Gradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        return library.choice_backward(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.temperature, _ = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        *by, logits, index, mask = ctx.saved_tensors
        found = formulas.second_backward(v, tuple(by), logits, index, mask, ctx.temperature)
        slopes = [None if g is None else slope for g, slope in zip(by, found[:3], strict=True)]
        return (*slopes, found[3], None, None, None, None)


def transformed(
    logits: Tensor, index: Tensor | None, mask: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability, entropy and log-partition, ``[...]``; the mask has the shape of the logits."""
    return _Choice.apply(logits, index, mask, temperature)[:3]  # type: ignore[no-untyped-call]
