"""The operator on the CPU by machine code, on as many threads as torch has.

Tensors are handed over by address: for a few hundred numbers, every call of torch takes longer than the arithmetic.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from entropic_rl.entropy_operator.formulas import By, bad_class, staged

__all__ = ["backward", "forward", "has_machine_code", "kernels"]

_PART = 2**16  # elements that a thread is worth
_empty = partial(torch.empty, dtype=torch.float32, device="cpu")  # whatever the defaults are
_BLOCK = 2**15  # elements brought into another format at a time, few enough for torch to take one thread


@cache
def kernels() -> Any:
    """The module of compiled functions, or None without Numba."""
    try:
        from entropic_rl.entropy_operator import rows
    except ImportError:
        return None
    return rows


def has_machine_code() -> bool:
    """Whether there is Numba."""
    return kernels() is not None


def forward(
    logits: Tensor, index: Tensor | None, mask: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-probabilities (zeros without an index), entropies, log-partitions ``[...]`` and stats ``[3 N]`` of N rows.

    Args:
        logits: ``[..., K]``, float32 or half as wide.
        index: int64 ``[...]``.
        mask: ``[..., K]``.
        temperature: T > 0.

    Raises:
        ValueError: an index is no class.
    """
    *lead, n_classes = logits.shape
    shape: Any = lead if len(lead) != 1 else lead[0]  # torch reads numbers faster than lists of them
    entropy, log_partition = _empty(shape), _empty(shape)
    log_prob = torch.zeros_like(entropy) if index is None else _empty(shape)
    n = entropy.numel()
    stats = _empty(3 * n, dtype=torch.float64)
    classes = None if index is None else _addressable(index, n)
    index_at, compute = 0 if classes is None else classes.data_ptr(), kernels().forward
    found = (log_prob.data_ptr(), entropy.data_ptr(), log_partition.data_ptr(), stats.data_ptr())
    if _lies_ready(logits, mask) and logits.numel() < 2 * _PART:
        bad = compute(logits.data_ptr(), 0, index_at, n, n_classes, temperature, *found, 0, n)
    else:

        def fill(block: Tensor, base: int, start: int, stop: int) -> int:
            return compute(block.data_ptr(), base, index_at, n, n_classes, temperature, *found, start, stop)

        bad = _in_parts(fill, logits, mask, n)
    if bad >= 0 and classes is not None:
        raise bad_class(classes, bad, n_classes)
    return log_prob, entropy, log_partition, stats


def backward(
    by: By, logits: Tensor, index: Tensor | None, mask: Tensor | None, temperature: float, stats: Tensor
) -> Tensor:
    """The gradient ``[..., K]``, given those by the results, ``[...]`` each."""
    n_classes = logits.shape[-1]
    n = logits.numel() // n_classes
    kept: list[Tensor | None] = []
    given: list[int] = []
    for g in by:
        row = None if g is None else _by_row(g)
        kept.append(row)  # as long as its address is used
        given += (0, 0) if row is None else (row.data_ptr(), row.stride(0))
    classes, stats = None if index is None else _addressable(index, n), stats.contiguous()
    index_at, stats_at = 0 if classes is None else classes.data_ptr(), stats.data_ptr()
    compute, is_ready = kernels().backward, _lies_ready(logits, mask)
    if is_ready and logits.numel() < 2 * _PART:
        grad = torch.empty_like(logits)
        compute(
            logits.data_ptr(), 0, index_at, n, n_classes, temperature, stats_at, *given, grad.data_ptr(), 0, 0, n
        )  # fmt: skip
        return grad
    grad = torch.empty_like(logits, memory_format=torch.contiguous_format)
    is_float32 = grad.dtype == torch.float32

    def fill(block: Tensor, base: int, start: int, stop: int) -> int:
        found = grad if is_float32 else torch.empty_like(block)
        tensors = (block.data_ptr(), base, index_at, n, n_classes, temperature, stats_at, *given, found.data_ptr())
        compute(*tensors, 0 if is_float32 else base, start, stop)
        if not is_float32:
            grad.view(n, n_classes)[start:stop] = found
        return -1

    _in_parts(fill, logits, mask, n)
    return grad


def _lies_ready(logits: Tensor, mask: Tensor | None) -> bool:
    """Whether logits are taken as they lie in memory."""
    return mask is None and logits.dtype == torch.float32 and logits.is_contiguous()


def _addressable(index: Tensor, n: int) -> Tensor:
    """``[N]`` of int64 on the CPU; what is read by address has to be what it is taken for."""
    if index.dtype != torch.int64 or not index.is_cpu or index.numel() != n:
        raise ValueError(
            f"index: expected {n} of int64 on the CPU, got {index.numel()} of {index.dtype} on {index.device}"
        )
    return index.contiguous()


def _by_row(g: Tensor) -> Tensor:
    """``[N]`` of float32, not copied if the rows share one number."""
    g = g.reshape(-1) if g.ndim != 1 else g
    return g if g.dtype == torch.float32 and g.stride(0) in (0, 1) else g.to(torch.float32).contiguous()


def _in_parts(fill: Callable[[Tensor, int, int, int], int], logits: Tensor, mask: Tensor | None, n: int) -> int:
    """``fill(block, base, start, stop)`` for all rows, in as many parts as there are threads and work for them.

    Blocks are the logits as they lie, or some rows of them, from ``base`` on, made contiguous float32 with ``-inf``
    where the mask is False.

    Returns:
        The largest of what is returned.
    """
    if _lies_ready(logits, mask):
        work: Callable[[int, int], int] = lambda start, stop: fill(logits, 0, start, stop)  # noqa: E731
    else:
        rows = logits.detach().reshape(n, -1)
        allowed = None if mask is None else mask.reshape(n, -1)

        def work(start: int, stop: int) -> int:
            bad, n_rows = -1, max(_BLOCK // rows.shape[1], 1)
            for first in range(start, stop, n_rows):
                own = slice(first, min(first + n_rows, stop))
                block = staged(rows[own], None if allowed is None else allowed[own], torch.float32)
                bad = max(bad, fill(block, first, own.start, own.stop))
            return bad

    size = logits.numel()
    if size < 2 * _PART:
        return work(0, n)
    n_parts = min(torch.get_num_threads(), n, size // _PART)
    edges = [n * part // n_parts for part in range(n_parts + 1)]
    others = [_threads(n_parts - 1).submit(work, edges[i], edges[i + 1]) for i in range(1, n_parts)]
    return max(work(0, edges[1]), *(other.result() for other in others)) if others else work(0, n)


@cache
def _threads(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n, thread_name_prefix="entropy")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # a child has none of them
