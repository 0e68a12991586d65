"""The operator as torch knows it: ``torch.ops.entropic_rl.choice`` and its gradient, for all that asks for more.

Fake tensors, autograd of any order, vmap, and compilers find here what they need; eager tensors on the CPU go past it
(:mod:`entropic_rl.entropy_operator.choice`), for its way through Python takes longer than small rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from entropic_rl.entropy_operator import cpu, formulas, gpu
from entropic_rl.entropy_operator.formulas import By

__all__ = ["choice", "run", "run_backward"]


def run(
    logits: Tensor, index: Tensor | None, mask: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-probability, entropy, log-partition ``[...]`` and stats ``[3 N]`` of N rows by whichever kernel there is.

    Args:
        logits: ``[..., K]``.
        index: int64 ``[...]``, or None, for log-probabilities of 0.
        mask: boolean, broadcastable to the logits.
        temperature: T > 0.
    """
    mask = None if mask is None else mask.expand(logits.shape)
    if _is_for_cpu(logits):
        return cpu.forward(logits, index, mask, temperature)
    lead = logits.shape[:-1]
    flat = (None if x is None else x.reshape(-1, *x.shape[len(lead) :]) for x in (logits, index, mask))
    log_prob, entropy, log_partition, stats = _kernel(logits).forward(*flat, temperature)
    return log_prob.view(lead), entropy.view(lead), log_partition.view(lead), stats.view(-1)


def run_backward(
    by: By, logits: Tensor, index: Tensor | None, mask: Tensor | None, temperature: float, stats: Tensor
) -> Tensor:
    """The gradient by the logits, ``[..., K]``."""
    mask = None if mask is None else mask.expand(logits.shape)
    if _is_for_cpu(logits):
        return cpu.backward(by, logits, index, mask, temperature, stats)
    n_lead = logits.ndim - 1
    flat = (None if x is None else x.reshape(-1, *x.shape[n_lead:]) for x in (logits, index, mask))
    given: Any = tuple(None if g is None else g.reshape(-1) for g in by)
    grad: Tensor = _kernel(logits).backward(given, *flat, temperature, stats.reshape(3, -1))
    return grad.view(logits.shape)


def _is_for_cpu(logits: Tensor) -> bool:
    return logits.is_cpu and _is_for_kernels(logits) and cpu.has_machine_code()


def _kernel(logits: Tensor) -> Any:
    """The module with ``forward`` and ``backward`` of rows for tensors that are not :mod:`.cpu`'s."""
    return gpu if logits.is_cuda and _is_for_kernels(logits) and gpu.is_available() else formulas


def _is_for_kernels(logits: Tensor) -> bool:
    """Not if they may carry derivatives forward, which the formulas in torch hand on."""
    return logits.dtype != torch.float64 and forward_ad._current_level < 0


@torch.library.custom_op("entropic_rl::choice", mutates_args=())
def choice(
    logits: Tensor, index: Tensor | None, mask: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See :func:`run`; the mask has the shape of the logits, and stats are ``[3, ...]``."""
    *said, stats = run(logits, index, mask, temperature)
    return said[0], said[1], said[2], stats.view(3, *logits.shape[:-1])


@torch.library.custom_op("entropic_rl::choice_backward", mutates_args=())
def choice_backward(
    by_log_prob: Tensor | None,
    by_entropy: Tensor | None,
    by_log_partition: Tensor | None,
    logits: Tensor,
    index: Tensor | None,
    mask: Tensor | None,
    temperature: float,
    stats: Tensor,
) -> Tensor:
    """See :func:`run_backward`."""
    return run_backward((by_log_prob, by_entropy, by_log_partition), logits, index, mask, temperature, stats)


@choice.register_fake
def _(logits: Tensor, index: Tensor | None, mask: Tensor | None, temperature: float) -> tuple[Tensor, ...]:
    shape, dtype = logits.shape[:-1], formulas.wide_dtype(logits.dtype)
    said = [logits.new_empty(shape, dtype=dtype) for _ in range(3)]
    return (*said, logits.new_empty((3, *shape), dtype=torch.float64))


@choice_backward.register_fake
def _(by_log_prob: Any, by_entropy: Any, by_log_partition: Any, logits: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(logits, memory_format=torch.contiguous_format)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits, index, mask, ctx.temperature = inputs
    ctx.save_for_backward(logits, index, mask, output[3])
    ctx.mark_non_differentiable(output[3])
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, *by: Tensor | None) -> tuple[Tensor | None, None, None, None]:
    logits, index, mask, stats = ctx.saved_tensors
    by_log_prob = None if index is None else by[0]
    return choice_backward(by_log_prob, by[1], by[2], logits, index, mask, ctx.temperature, stats), None, None, None


choice.register_autograd(_gradient, setup_context=_keep)


def _keep_for_second(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.temperature, _ = inputs
    ctx.save_for_backward(*tensors)


def _second_gradient(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
    *by, logits, index, mask = ctx.saved_tensors
    found = formulas.second_backward(v, tuple(by), logits, index, mask, ctx.temperature)
    slopes = [None if g is None else slope for g, slope in zip(by, found[:3], strict=True)]
    return (*slopes, found[3], None, None, None, None)


choice_backward.register_autograd(_second_gradient, setup_context=_keep_for_second)


def _in_front(info: Any, x: Tensor | None, dim: int | None, to: int = 0) -> Tensor | None:
    """A tensor with the batch as its axis ``to``, expanded if it has none."""
    if x is None:
        return None
    if dim is not None:
        return x.movedim(dim, to)
    return x.unsqueeze(to).expand(*x.shape[:to], info.batch_size, *x.shape[to:])


@choice.register_vmap
def _(
    info: Any, in_dims: tuple[Any, ...], logits: Tensor, index: Tensor | None, mask: Tensor | None, temperature: float
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    tensors = [_in_front(info, x, dim) for x, dim in zip((logits, index, mask), in_dims, strict=False)]
    return choice(*tensors, temperature), (0, 0, 0, 1)


@choice_backward.register_vmap
def _(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
    *tensors, temperature, stats = inputs
    moved = [_in_front(info, x, dim) for x, dim in zip(tensors, in_dims, strict=False)]
    return choice_backward(*moved, temperature, _in_front(info, stats, in_dims[-1], 1)), 0
