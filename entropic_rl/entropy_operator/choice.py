"""One choice of K: what is asked of logits most often, in one operator."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from entropic_rl.entropy_operator import library
from entropic_rl.entropy_operator.masks import check_mask
from entropic_rl.entropy_operator.transforms import transformed

__all__ = ["Choice", "log_prob_and_entropy"]


class Choice(NamedTuple):
    """What :func:`log_prob_and_entropy` says of rows of logits.

    Attributes:
        log_prob: ``[...]`` of the chosen classes, nats.
        entropy: ``[...]``, Shannon's, nats.
        log_partition: ``[...]``, ``logsumexp(logits / temperature)`` over what is allowed.
    """

    log_prob: Tensor
    entropy: Tensor
    log_partition: Tensor


def log_prob_and_entropy(
    logits: Tensor, index: Tensor, *, mask: Tensor | None = None, temperature: float = 1.0
) -> Choice:
    """``log p_index``, ``H(p)`` and ``logsumexp(z / T)`` of p = softmax(z / T) in one pass, ``[..., K] -> [...]`` each.

    Beside the results and the gradient nothing is as large as the logits: rows are read once on the way forward and
    once on the way back. The CPU has machine code for it where Numba is installed (``entropic-rl[fast]``), GPUs where
    Triton is; torch's own operations do it elsewhere and in float64. Under compilers and function transforms it is
    ``torch.ops.entropic_rl.choice``. Gradients, with c the surprise of a class beyond the mean one, are
    ``(1[j = index] - p) / T``, ``p c / T`` and ``p / T``; derivatives of any order are exact.

    Args:
        logits: ``[..., K]``, K >= 1, of any floating point format; ``-inf`` means impossible and gets gradient 0.
        index: int64 ``[...]``, chosen classes. One that is impossible has log-probability ``-inf``.
        mask: boolean, broadcastable to ``logits``; True = allowed.
        temperature: T > 0, a number.

    Returns:
        In the precision of the logits, float32 at least: sums are taken in float32 or better, autocast or not.

    Raises:
        ValueError: a shape or a format does not fit, a row of ``mask`` allows nothing, a class is not there, or the
            temperature is not a positive number.
    """
    if not 0.0 < temperature < math.inf:
        raise ValueError(f"temperature must be a positive number, got {temperature}")
    if mask is not None or logits.ndim == 0 or logits.shape[-1] == 0:
        mask = check_mask(logits, mask)
    if not logits.is_floating_point():
        raise ValueError(f"logits must be of a floating point format, got {logits.dtype}")
    if index.shape != logits.shape[:-1] or index.dtype != torch.int64:
        raise ValueError(
            f"index must be int64 of shape {tuple(logits.shape[:-1])} for logits {tuple(logits.shape)}, got "
            f"{index.dtype} of shape {tuple(index.shape)}"
        )
    return Choice(*apply(logits, index, mask, float(temperature)))


def apply(
    logits: Tensor, index: Tensor | None, mask: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The same without any check, and without log-probabilities (but zeros) if there is no index."""
    if not _is_eager(logits):
        if mask is not None:
            mask = mask.expand(logits.shape)
        if torch._C._are_functorch_transforms_active() and not torch.compiler.is_compiling():
            return transformed(logits, index, mask, temperature)
        return library.choice(logits, index, mask, temperature)[:3]
    if logits.requires_grad and torch.is_grad_enabled():
        return _apply(logits, index, mask, temperature)
    return library.run(logits, index, mask, temperature)[:3]


def _is_eager(logits: Tensor) -> bool:
    """Whether nobody looks at operators as they pass: no compiler, no transform, no tensor of another kind."""
    return (
        not torch.compiler.is_compiling()
        and type(logits) in (Tensor, nn.Parameter)
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_dispatch_stack()
    )


class _Choice(torch.autograd.Function):
    """The operator without its way through torch's dispatcher."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, index: Tensor | None, mask: Tensor | None, temperature: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        log_prob, entropy, log_partition, stats = library.run(logits, index, mask, temperature)
        ctx.save_for_backward(logits, index, mask, stats)
        ctx.temperature = temperature
        ctx.set_materialize_grads(False)
        return log_prob, entropy, log_partition

    @staticmethod
    def backward(ctx: Any, *by: Tensor | None) -> tuple[Tensor, None, None, None]:
        logits, index, mask, stats = ctx.saved_tensors
        by_log_prob = None if index is None else by[0]
        if torch.is_grad_enabled():  # a second derivative is wanted
            mask = None if mask is None else mask.expand(logits.shape)
            stats = stats.view(3, *logits.shape[:-1])
            grad = library.choice_backward(by_log_prob, by[1], by[2], logits, index, mask, ctx.temperature, stats)
        else:
            grad = library.run_backward((by_log_prob, by[1], by[2]), logits, index, mask, ctx.temperature, stats)
        return grad, None, None, None


# Function.apply would look for function transforms once more, which takes a third of the time of a small call.
_apply: Any = super(torch.autograd.Function, _Choice).apply
