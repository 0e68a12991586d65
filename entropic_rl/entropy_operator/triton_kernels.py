"""Rows of logits by Triton: a program per row on the way forward, one per chunk of a row on the way back.

Logits may be float32, bfloat16 or float16; everything is summed in float32. The formulas are those of
:mod:`entropic_rl.entropy_operator.rows`.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"
# Arguments are pointers and blocks, for which Python has no types, and Triton itself may be missing.

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["backward_kernel", "forward_kernel"]


@triton.jit
def _logits_of(z, mask, row, z_step, mask_step, mask_inner, columns, n_classes, HAS_MASK: tl.constexpr):
    """A chunk of a row in float32, ``-inf`` where nothing is possible or nothing is left."""
    inside = columns < n_classes
    x = tl.load(z + row * z_step + columns, mask=inside, other=float("-inf")).to(tl.float32)
    if HAS_MASK:
        allowed = tl.load(mask + row * mask_step + columns * mask_inner, mask=inside, other=0)
        x = tl.where(allowed != 0, x, float("-inf"))
    return x


@triton.jit
def _weigh(x, top, inverse):
    """Gaps below a finite ``top``, 0 where impossible, and ``exp(-gap / T)`` with what rounding took from the gap."""
    possible = x != float("-inf")
    safe = tl.where(possible, x, top)
    gap = top - safe
    back = gap - top
    lost = (top - (gap - back)) - (safe + back)
    weight = tl.exp(-gap * inverse) * (1.0 - lost * inverse)
    return gap, tl.where(possible, weight, 0.0)


@triton.jit
def _log_one_plus(x):
    """``log(1 + x)``; the quotient takes back the rounding of the sum."""
    total = 1.0 + x
    is_lost = total == 1.0
    return tl.where(is_lost, x, tl.log(total) * (x / tl.where(is_lost, 1.0, total - 1.0)))


@triton.jit
def forward_kernel(
    z,
    index,
    mask,
    log_prob,
    entropy,
    log_partition,
    stats,
    n,
    n_classes,
    z_step,
    mask_step,
    mask_inner,
    inverse,
    HAS_INDEX: tl.constexpr,
    HAS_MASK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One row in one pass: a chunk with a new largest logit scales down what was summed before it."""
    row = tl.program_id(0).to(tl.int64)
    top, rest, tops, weighted = float("-inf"), 0.0, 0.0, 0.0
    for start in range(0, n_classes, BLOCK):
        x = _logits_of(z, mask, row, z_step, mask_step, mask_inner, start + tl.arange(0, BLOCK), n_classes, HAS_MASK)
        found = tl.maximum(top, tl.max(x, 0))  # whether it sees what is not a number or not: the sums do
        is_new = (top > float("-inf")) & (found > top)
        drop = tl.where(is_new, found, 0.0) - tl.where(is_new, top, 0.0)
        scale = tl.exp(-drop * inverse)
        weighted = scale * (weighted + drop * (rest + tops))
        rest = tl.where(is_new, scale * (rest + tops), rest)
        tops = tl.where(is_new, 0.0, tops)
        top = found
        gap, weight = _weigh(x, tl.where(top == float("-inf"), 0.0, top), inverse)
        is_top = (gap == 0.0) & (x != float("-inf"))
        rest += tl.sum(tl.where(is_top, 0.0, weight), 0)
        tops += tl.sum(tl.where(is_top, 1.0, 0.0), 0)
        weighted += tl.sum(weight * gap, 0)
    is_empty = (top == float("-inf")) & (rest == 0.0)
    rest = tl.where(is_empty, 0.0, rest + (tops - 1.0))
    mean_gap = tl.where(is_empty, 0.0, weighted / (1.0 + rest))
    log_total = _log_one_plus(rest)
    tl.store(entropy + row, log_total + mean_gap * inverse)
    tl.store(log_partition + row, top * inverse + log_total)
    tl.store(stats + row, tl.where(is_empty, 0.0, top))
    tl.store(stats + n + row, rest)
    tl.store(stats + 2 * n + row, mean_gap)
    if HAS_INDEX:
        chosen = tl.load(index + row)
        is_class = (chosen >= 0) & (chosen < n_classes)
        value = tl.load(z + row * z_step + chosen, mask=is_class, other=float("nan")).to(tl.float32)
        if HAS_MASK:
            allowed = tl.load(mask + row * mask_step + chosen * mask_inner, mask=is_class, other=1)
            value = tl.where(allowed != 0, value, float("-inf"))
        said = (value - tl.where(is_empty, 0.0, top)) * inverse - log_total
        tl.store(log_prob + row, tl.where(is_empty, float("-inf"), said))


@triton.jit
def backward_kernel(
    z,
    index,
    mask,
    stats,
    by_log_prob,
    by_entropy,
    by_log_partition,
    grad,
    n,
    n_classes,
    z_step,
    mask_step,
    mask_inner,
    inverse,
    HAS_INDEX: tl.constexpr,
    HAS_MASK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A chunk of the gradient of one row."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = _logits_of(z, mask, row, z_step, mask_step, mask_inner, columns, n_classes, HAS_MASK)
    top, rest = tl.load(stats + row).to(tl.float32), tl.load(stats + n + row).to(tl.float32)
    mean_gap = tl.load(stats + 2 * n + row).to(tl.float32)
    g_log_prob = tl.load(by_log_prob + row) * inverse
    g_entropy = tl.load(by_entropy + row) * inverse * inverse
    g_log_partition = tl.load(by_log_partition + row) * inverse
    share = 1.0 / (1.0 + rest)
    gap, weight = _weigh(x, top, inverse)
    slope = weight * share * (g_entropy * (gap - mean_gap) + g_log_partition - g_log_prob)
    if HAS_INDEX:
        is_chosen = (columns == tl.load(index + row)) & (x != float("-inf"))
        at_top = share * (g_log_prob * rest - g_entropy * mean_gap + g_log_partition)
        slope = tl.where(is_chosen, tl.where(gap == 0.0, at_top, slope + g_log_prob), slope)
    tl.store(grad + row * n_classes + columns, slope.to(grad.dtype.element_ty), mask=columns < n_classes)
