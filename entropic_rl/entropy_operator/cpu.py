"""The operator on the CPU by machine code, on as many threads as torch has.

Tensors are handed over by address: for a few hundred numbers, every call of torch takes longer than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from entropic_rl.entropy_operator.formulas import By, bad_class, staged
from entropic_rl.fused.threads import on_threads

__all__ = ["backward", "forward", "has_machine_code", "kernels"]

_PART = 2**16  # elements that a thread is worth
_PARTS = 16  # at most: a thread that comes late takes fewer of them
_FLOAT32, _INT64 = torch.float32, torch.int64
_empty = partial(torch.empty, dtype=_FLOAT32, device=torch.device("cpu"))  # whatever the defaults are
_BLOCK = 2**15  # elements brought into another format at a time, few enough for torch to take one thread, or a row


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
    shape = logits.shape
    n_classes = shape[-1]
    n = logits.numel() // n_classes
    entropy = _empty(n if len(shape) == 2 else shape[:-1])  # torch reads a number faster than a list of them
    log_partition = torch.empty_like(entropy)
    log_prob = torch.zeros_like(entropy) if index is None else torch.empty_like(entropy)
    stats = _empty(3 * n, dtype=torch.float64)
    classes = None if index is None else _addressable(index, n)
    index_at = 0 if classes is None else classes.data_ptr()
    compute, found = kernels().forward, (log_prob.data_ptr(), entropy.data_ptr(), log_partition.data_ptr())
    rest = (index_at, n, n_classes, temperature, stats.data_ptr(), *found)
    if _is_small(logits) and _lies_ready(logits, mask):
        bad = compute(logits.data_ptr(), 0, 0, n, *rest)
    else:
        bad = _in_parts(partial(_say, compute, rest), logits, mask, n)
    if bad >= 0 and classes is not None:
        raise bad_class(classes, bad, n_classes)
    return log_prob, entropy, log_partition, stats


def _say(compute: Any, rest: tuple[float, ...], block: Tensor, base: int, start: int, stop: int) -> int:
    bad: int = compute(block.data_ptr(), base, start, stop, *rest)
    return bad


def backward(
    by: By, logits: Tensor, index: Tensor | None, mask: Tensor | None, temperature: float, stats: Tensor
) -> Tensor:
    """The gradient ``[..., K]``, given those by the results, ``[...]`` each."""
    n_classes = logits.shape[-1]
    n = logits.numel() // n_classes
    classes, stats = None if index is None else _addressable(index, n), stats.contiguous()
    index_at = 0 if classes is None else classes.data_ptr()
    a, b, c = _by_row(by[0]), _by_row(by[1]), _by_row(by[2])  # kept as long as their addresses are used
    compute, given = kernels().backward, (a[1], a[2], b[1], b[2], c[1], c[2])
    rest = (index_at, n, n_classes, temperature, stats.data_ptr(), *given)
    if _is_small(logits) and _lies_ready(logits, mask):
        grad = torch.empty_like(logits)
        compute(logits.data_ptr(), 0, grad.data_ptr(), 0, 0, n, *rest)
    else:
        grad = torch.empty_like(logits, memory_format=torch.contiguous_format)
        _in_parts(partial(_slope, compute, rest, grad.view(n, n_classes)), logits, mask, n)
    return grad


def _slope(compute: Any, rest: tuple[float, ...], grad: Tensor, block: Tensor, base: int, start: int, stop: int) -> int:
    is_float32 = grad.dtype == torch.float32
    found = grad if is_float32 else torch.empty_like(block)
    compute(block.data_ptr(), base, found.data_ptr(), 0 if is_float32 else base, start, stop, *rest)
    if not is_float32:
        grad[start:stop] = found
    return -1


def _is_small(logits: Tensor) -> bool:
    """Whether one thread takes all of them at once."""
    return logits.numel() < 2 * _PART


def _lies_ready(logits: Tensor, mask: Tensor | None) -> bool:
    """Whether logits are taken as they lie in memory."""
    return mask is None and logits.dtype == _FLOAT32 and logits.is_contiguous()


def _addressable(index: Tensor, n: int) -> Tensor:
    """``[N]`` of int64 on the CPU; what is read by address has to be what it is taken for."""
    if index.dtype != _INT64 or not index.is_cpu or index.numel() != n:
        raise ValueError(
            f"index: expected {n} of int64 on the CPU, got {index.numel()} of {index.dtype} on {index.device}"
        )
    return index.contiguous()


def _by_row(g: Tensor | None) -> tuple[Tensor | None, int, int]:
    """Numbers of rows in float32, their address, and the step from one to the next: 0 where they share one."""
    if g is None:
        return None, 0, 0
    if g.dtype == _FLOAT32 and g.is_contiguous():
        return g, g.data_ptr(), 1
    g = g.reshape(-1).to(_FLOAT32)
    g = g if g.stride(0) == 0 else g.contiguous()
    return g, g.data_ptr(), g.stride(0)


def _in_parts(fill: Callable[[Tensor, int, int, int], int], logits: Tensor, mask: Tensor | None, n: int) -> int:
    """``fill(block, base, start, stop)`` for all rows, in parts that threads take one after another.

    Blocks are the logits as they lie, or some rows of them, from ``base`` on, made contiguous float32 with ``-inf``
    where the mask is False.

    Returns:
        The largest of what is returned.
    """
    if _lies_ready(logits, mask):
        work: Callable[[int, int], int] = lambda start, stop: fill(logits, 0, start, stop)  # noqa: E731
    else:
        n_classes = logits.shape[-1]
        rows = logits.detach().reshape(n, n_classes)
        allowed = None if mask is None else mask.reshape(n, n_classes)

        def work(start: int, stop: int) -> int:
            bad, n_rows = -1, max(_BLOCK // rows.shape[1], 1)
            for first in range(start, stop, n_rows):
                own = slice(first, min(first + n_rows, stop))
                block = staged(rows[own], None if allowed is None else allowed[own], torch.float32)
                bad = max(bad, fill(block, first, own.start, own.stop))
            return bad

    size, found = logits.numel(), []
    n_parts = 1 if _is_small(logits) else min(n, size // _PART, _PARTS)

    def compute(first: int, last: int) -> None:
        found.append(work(n * first // n_parts, n * last // n_parts))

    on_threads(compute, n_parts)
    return max(found)
