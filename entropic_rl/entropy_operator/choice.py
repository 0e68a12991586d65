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

_INT64 = torch.int64


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

    Beside the results and the gradient nothing is as large as the logits, if their leading axes lie in memory like one:
    rows are read once on the way forward and once on the way back. The CPU has machine code for it where Numba is
    installed (``entropic-rl[fast]``), GPUs where Triton is; torch's own operations do it elsewhere, in float64, and
    where derivatives are carried forward. Under compilers and function transforms it is
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
    shape = logits.shape
    if mask is not None or not shape or not shape[-1]:
        mask = check_mask(logits, mask)
    if not logits.is_floating_point():
        raise ValueError(f"logits must be of a floating point format, got {logits.dtype}")
    if index.shape != shape[:-1] or index.dtype != _INT64:
        raise ValueError(
            f"index must be int64 of shape {tuple(shape[:-1])} for logits {tuple(shape)}, got "
            f"{index.dtype} of shape {tuple(index.shape)}"
        )
    return Choice._make(apply(logits, index, mask, float(temperature)))


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
        return _apply(logits, (index, mask, temperature))
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
        ctx: Any, logits: Tensor, rest: tuple[Tensor | None, Tensor | None, float]
    ) -> tuple[Tensor, Tensor, Tensor]:
        index, mask, ctx.temperature = rest
        log_prob, entropy, log_partition, stats = library.run(logits, *rest)
        ctx.save_for_backward(logits, index, mask, stats)
        ctx.set_materialize_grads(False)
        return log_prob, entropy, log_partition

    @staticmethod
    def backward(
        ctx: Any, by_log_prob: Tensor | None, by_entropy: Tensor | None, by_log_partition: Tensor | None
    ) -> tuple[Tensor, None]:
        logits, index, mask, stats = ctx.saved_tensors
        by = None if index is None else by_log_prob, by_entropy, by_log_partition
        if torch.is_grad_enabled():  # a second derivative is wanted
            mask = None if mask is None else mask.expand(logits.shape)
            stats = stats.view(3, *logits.shape[:-1])
            return library.choice_backward(*by, logits, index, mask, ctx.temperature, stats), None
        return library.run_backward(by, logits, index, mask, ctx.temperature, stats), None


# Function.apply would look for function transforms once more, which takes a third of the time of a small call.
_apply: Any = super(torch.autograd.Function, _Choice).apply
