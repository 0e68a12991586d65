"""The operator in torch alone: its definition, for any device and precision, and the derivatives of its gradient.

Notation: ``u = z / T``, p = softmax(u), gaps ``d = max u - u``, centred gaps ``c = d - E_p d``. Rows go in blocks, so
that what is in between is never as large as the logits.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["By", "backward", "bad_class", "forward", "second_backward", "staged", "wide_dtype"]

By = tuple[Tensor | None, Tensor | None, Tensor | None]

_BLOCK = 2**18  # elements, of 8 bytes
_LOWEST = torch.finfo(torch.float64).min
_GAP_OF_NOTHING = 800.0  # exp(-800) is 0 in every format, and 0 * 800 is 0 where 0 * inf is not


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """Of what is said of logits of this format: at least float32."""
    return torch.promote_types(dtype, torch.float32)


def staged(z: Tensor, mask: Tensor | None, dtype: torch.dtype) -> Tensor:
    """A block of rows in another format, with ``-inf`` where the mask is False; contiguous."""
    z = z.to(dtype)
    return (z if mask is None else z.masked_fill(~mask, -torch.inf)).contiguous()


def bad_class(index: Tensor, row: int, n_classes: int) -> ValueError:
    """What to say of an index that is no class."""
    return ValueError(
        f"index must hold classes from 0 to {n_classes - 1}, but that of row {row} is {int(index.reshape(-1)[row])}"
    )


def forward(
    z: Tensor, index: Tensor | None, mask: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of rows ``[N, K]``: log-probabilities, entropies and log-partitions ``[N]``, and ``stats [3, N]`` (float64).

    Stats are the largest logit, the weights of the rest, and the mean gap ``T E_p d``; 0 where nothing is possible.
    """
    n, dtype = len(z), wide_dtype(z.dtype)
    log_prob, entropy, log_partition = (torch.empty(n, dtype=dtype, device=z.device) for _ in range(3))
    stats = torch.empty(3, n, dtype=torch.float64, device=z.device)
    if index is not None and z.is_cpu and ((index < 0) | (index >= z.shape[1])).any():  # a GPU says so by itself
        raise bad_class(index, int(((index < 0) | (index >= z.shape[1])).nonzero()[0]), z.shape[1])
    for rows in _blocks(z):
        wide = staged(z[rows], None if mask is None else mask[rows], torch.float64)
        top, best = wide.max(-1, keepdim=True)
        gaps = (top.clamp(min=_LOWEST) - wide).clamp_(max=_GAP_OF_NOTHING * temperature)
        weights = (gaps / -temperature).exp_()
        is_empty = (top == -torch.inf).squeeze(-1)
        rest = weights.scatter(-1, best, 0.0).sum(-1).masked_fill_(is_empty, 0.0)
        mean_gap = ((weights * gaps).sum(-1) / (1.0 + rest)).masked_fill_(is_empty, 0.0)
        log_total, top = rest.log1p(), top.squeeze(-1)
        entropy[rows] = (log_total + mean_gap / temperature).to(dtype)
        log_partition[rows] = (top / temperature + log_total).to(dtype)
        top = top.masked_fill(is_empty, 0.0)
        if index is None:
            log_prob[rows] = 0.0
        else:
            gap = top - wide.gather(-1, index[rows].unsqueeze(-1)).squeeze(-1)
            log_prob[rows] = (gap / -temperature - log_total).to(dtype)
        stats[:, rows] = torch.stack([top, rest, mean_gap])
    return log_prob, entropy, log_partition, stats


def backward(by: By, z: Tensor, index: Tensor | None, mask: Tensor | None, temperature: float, stats: Tensor) -> Tensor:
    """Gradient ``[N, K]`` by the logits, given those ``by`` the results, ``[N]`` each."""
    grad = torch.empty_like(z, memory_format=torch.contiguous_format)
    zero = torch.zeros(len(z), dtype=torch.float64, device=z.device)
    g_log_prob, g_entropy, g_log_partition = (zero if g is None else g.to(torch.float64) for g in by)
    for rows in _blocks(z):
        wide = staged(z[rows], None if mask is None else mask[rows], torch.float64)
        top, rest, mean_gap = (stat.unsqueeze(-1) for stat in stats[:, rows])
        gaps = (top - wide).clamp_(max=_GAP_OF_NOTHING * temperature)
        g_p = g_log_partition[rows] - (0.0 if index is None else g_log_prob[rows])
        slope = (gaps - mean_gap) * (g_entropy[rows] / temperature).unsqueeze(-1) + g_p.unsqueeze(-1)
        slope *= (gaps / -temperature).exp_() / (1.0 + rest)
        if index is not None:
            at, own = index[rows].unsqueeze(-1), g_log_prob[rows].unsqueeze(-1)
            at_top = own * rest + g_log_partition[rows].unsqueeze(-1)  # 1 - p as what the rest weighs
            at_top = (at_top - mean_gap * (g_entropy[rows] / temperature).unsqueeze(-1)) / (1.0 + rest)
            chosen, reached = wide.gather(-1, at), slope.gather(-1, at)
            reached = torch.where(chosen == top, at_top, reached + own.masked_fill(chosen == -torch.inf, 0.0))
            slope.scatter_(-1, at, reached)
        grad[rows] = (slope / temperature).to(z.dtype)
    return grad


def second_backward(
    v: Tensor,
    by: By,
    logits: Tensor,
    index: Tensor | None,
    mask: Tensor | None,
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Products of ``v [..., K]`` with the derivatives of the gradient, by the three ``by [...]`` and by the logits.

    The Hessian of the entropy times v is ``p [(v - E v)(c - 1) - E(c v)]``, that of the log-partition ``p (v - E v)``,
    that of a log-probability minus that. Made of differentiable functions, so that there are derivatives of any order.
    """
    wide = logits.to(torch.float64) / temperature
    possible = wide != -torch.inf if mask is None else (wide != -torch.inf) & mask
    u = wide.masked_fill(~possible, 0.0)
    # Rows in which nothing is possible have weights 0: exp of what lies below all of them, over at least 1.
    top = u.detach().masked_fill(~possible, -torch.inf).amax(-1, keepdim=True).clamp(min=_LOWEST)
    gaps = (top - u).masked_fill(~possible, 0.0)
    weights = (-gaps).exp().masked_fill(~possible, 0.0)
    p = weights / weights.sum(-1, keepdim=True).clamp(min=1.0)
    centred = gaps - (p * gaps).sum(-1, keepdim=True)
    wide_v = v.to(torch.float64)
    mean = (p * wide_v).sum(-1, keepdim=True)
    drift = wide_v - mean
    mean_product = (p * centred * wide_v).sum(-1, keepdim=True)
    g_log_prob, g_entropy, g_log_partition = (None if g is None else g.to(torch.float64).unsqueeze(-1) for g in by)
    by_logits = torch.zeros_like(p)
    if g_entropy is not None:
        by_logits = by_logits + g_entropy * p * (drift * (centred - 1.0) - mean_product)
    if g_log_partition is not None:
        by_logits = by_logits + g_log_partition * p * drift
    by_log_prob = torch.zeros_like(mean)
    if index is not None:
        at = index.unsqueeze(-1)
        by_log_prob = wide_v.masked_fill(~possible, 0.0).gather(-1, at) - mean
        if g_log_prob is not None:
            by_logits = by_logits - g_log_prob * p * drift
    dtype = wide_dtype(logits.dtype)
    first = tuple((g.squeeze(-1) / temperature).to(dtype) for g in (by_log_prob, mean_product, mean))
    return (*first, (by_logits / temperature**2).to(logits.dtype))  # type: ignore[return-value] # three and one


def _blocks(z: Tensor) -> Iterator[slice]:
    n_rows = max(_BLOCK // max(z.shape[1], 1), 1)
    for start in range(0, len(z), n_rows):
        yield slice(start, start + n_rows)
