"""What machine code says of rows of logits, and their gradient; formulas are those of :mod:`entropic_rl.entropy`.

With gaps ``d = max z - z`` and weights ``w = exp(-d / T)``, a row is known by its largest logit, by the weights of the
rest (one largest left out, so that nothing is lost beside its 1) and by the mean gap.
"""

from __future__ import annotations

import numpy as np

from entropic_rl.entropy_operator.arithmetic import scales_of
from entropic_rl.entropy_operator.long_rows import slope_row, sum_row
from entropic_rl.entropy_operator.short_rows import slope_tile, sum_tile
from entropic_rl.fused.compilation import (
    Floats,
    Floats64,
    compiled,
    floats64_at,
    floats_at,
    integers_at,
)
from entropic_rl.fused.elementary import log1p

__all__ = ["backward", "forward"]

_SHORT = 48  # classes up to which rows are taken side by side
_TILE = 4096  # elements of them


@compiled
def forward(
    z_at: int,
    base: int,
    index_at: int,
    n: int,
    n_classes: int,
    temperature: float,
    log_prob_at: int,
    entropy_at: int,
    log_partition_at: int,
    stats_at: int,
    start: int,
    stop: int,
) -> int:
    """Fill what is said of rows from ``start`` to ``stop``; tensors are given by the addresses of their numbers.

    Args:
        z_at: logits ``[N, K]``, or those from row ``base`` on; ``-inf`` is impossible.
        base: the first row that is there.
        index_at: ``[N]``, the classes whose log-probabilities are asked for; 0 if none are.
        n: N.
        n_classes: K.
        temperature: T > 0.
        log_prob_at: ``[N]``; left alone if there is no index.
        entropy_at: ``[N]``, nats.
        log_partition_at: ``[N]``, ``lse(z / T)``.
        stats_at: ``[3, N]``: the largest logit, the weights of the rest and the mean gap, for :func:`backward`.
        start: the first row.
        stop: the row after the last.

    Returns:
        A row whose index is no class, or -1.
    """
    z, stats = floats_at(z_at, (n, n_classes)), floats64_at(stats_at, (3, n))
    scales = scales_of(temperature)
    if n_classes <= _SHORT:
        n_rows = max(min(_TILE // n_classes, stop - start), 1)
        spare = np.empty((n_classes + 4, n_rows), np.float32)
        for first in range(start, stop, n_rows):
            last = min(first + n_rows, stop)
            tile = z[first - base : last - base]
            sum_tile(tile, scales, spare, stats[0, first:last], stats[1, first:last], stats[2, first:last])
    else:
        for row in range(start, stop):
            stats[0, row], stats[1, row], stats[2, row] = sum_row(z[row - base], temperature, scales)
    if index_at:
        index, log_prob = integers_at(index_at, (n,)), floats_at(log_prob_at, (n,))
        for row in range(start, stop):
            if index[row] < 0 or index[row] >= n_classes:
                return row
            log_prob[row] = z[row - base, index[row]]
        _log_probs(temperature, stats[0, start:stop], stats[1, start:stop], log_prob[start:stop])
    entropy, log_partition = floats_at(entropy_at, (n,)), floats_at(log_partition_at, (n,))
    own = slice(start, stop)
    _entropies(temperature, stats[0, own], stats[1, own], stats[2, own], entropy[own], log_partition[own])
    return -1


@compiled
def _log_probs(temperature: float, tops: Floats64, rests: Floats64, log_prob: Floats) -> None:
    """Logits of chosen classes to their log-probabilities, in place."""
    inverse = 1.0 / temperature
    for i in range(len(log_prob)):
        value = (np.float64(log_prob[i]) - tops[i]) * inverse - log1p(rests[i])
        log_prob[i] = -np.inf if tops[i] == -np.inf else value


@compiled
def _entropies(
    temperature: float, tops: Floats64, rests: Floats64, mean_gaps: Floats64, entropy: Floats, log_partition: Floats
) -> None:
    """What is left to say; rows in which nothing is possible get entropy 0."""
    inverse = 1.0 / temperature
    for i in range(len(tops)):
        is_empty = tops[i] == -np.inf
        rest, mean_gap = 0.0 if is_empty else rests[i], 0.0 if is_empty else mean_gaps[i]
        log_total = log1p(rest)
        entropy[i] = log_total + mean_gap * inverse
        log_partition[i] = tops[i] * inverse + log_total
        rests[i], mean_gaps[i] = rest, mean_gap
        tops[i] = 0.0 if is_empty else tops[i]


@compiled
def backward(
    z_at: int,
    base: int,
    index_at: int,
    n: int,
    n_classes: int,
    temperature: float,
    stats_at: int,
    log_prob_at: int,
    log_prob_step: int,
    entropy_at: int,
    entropy_step: int,
    log_partition_at: int,
    log_partition_step: int,
    grad_at: int,
    grad_base: int,
    start: int,
    stop: int,
) -> None:
    """Fill the gradient by the logits, each element once, given those by the results.

    Args:
        z_at: as in :func:`forward`.
        base: as there.
        index_at: as there.
        n: as there.
        n_classes: as there.
        temperature: as there.
        stats_at: as left there.
        log_prob_at: gradients of the loss by what was filled there, 0 if there are none.
        log_prob_step: from one row to the next: 0 or 1.
        entropy_at: the same.
        entropy_step: the same.
        log_partition_at: the same.
        log_partition_step: the same.
        grad_at: ``[N, K]``, or the rows from ``grad_base`` on.
        grad_base: the first row that is there.
        start: the first row.
        stop: the row after the last.
    """
    z, stats, grad = floats_at(z_at, (n, n_classes)), floats64_at(stats_at, (3, n)), floats_at(grad_at, (n, n_classes))
    by_log_prob = floats_at(log_prob_at, (n,))
    by_entropy, by_log_partition = floats_at(entropy_at, (n,)), floats_at(log_partition_at, (n,))
    scales, inverse, is_short = scales_of(temperature), 1.0 / temperature, n_classes <= _SHORT
    n_rows = max(min(_TILE // n_classes, stop - start), 1) if is_short else 1
    spare, weights = np.empty((n_classes if is_short else 0, n_rows), np.float32), np.empty((4, n_rows), np.float32)
    given = np.zeros((3, n_rows))  # gradients by results over T
    for first in range(start, stop, n_rows):
        last = min(first + n_rows, stop)
        for row in range(first, last):
            i, share = row - first, 1.0 / (1.0 + stats[1, row])
            if log_prob_at:
                given[0, i] = inverse * by_log_prob[row * log_prob_step]
            if entropy_at:
                given[1, i] = inverse * inverse * by_entropy[row * entropy_step]
            if log_partition_at:
                given[2, i] = inverse * by_log_partition[row * log_partition_step]
            weights[0, i], weights[1, i] = stats[0, row], share * given[1, i]
            weights[2, i], weights[3, i] = share * (given[2, i] - given[0, i]), stats[2, row]
        if is_short:
            slope_tile(
                z[first - base : last - base], scales, weights, spare, grad[first - grad_base : last - grad_base]
            )
        else:
            own = grad[first - grad_base]
            slope_row(z[first - base], weights[0, 0], scales, weights[1, 0], weights[2, 0], weights[3, 0], own)
        if log_prob_at:
            index = integers_at(index_at, (n,))
            for row in range(first, last):
                if index[row] < 0 or index[row] >= n_classes:  # refused on the way forward
                    continue
                i, value, own = row - first, z[row - base, index[row]], grad[row - grad_base]
                if np.float64(value) == stats[0, row]:  # 1 - p as what the rest weighs: p may round to 1
                    slope = given[0, i] * stats[1, row] - given[1, i] * stats[2, row] + given[2, i]
                    own[index[row]] = slope / (1.0 + stats[1, row])
                elif value > -np.inf:
                    own[index[row]] += given[0, i]
