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
    start: int,
    stop: int,
    index_at: int,
    n: int,
    n_classes: int,
    temperature: float,
    stats_at: int,
    log_prob_at: int,
    entropy_at: int,
    log_partition_at: int,
) -> int:
    """Fill what is said of rows from ``start`` to ``stop``; tensors are given by the addresses of their numbers.

    Args:
        z_at: logits ``[N, K]``, or those from row ``base`` on; ``-inf`` is impossible.
        base: the first row that is there.
        start: the first row.
        stop: the row after the last.
        index_at: ``[N]``, the classes whose log-probabilities are asked for; 0 if none are.
        n: N.
        n_classes: K.
        temperature: T > 0.
        stats_at: ``[3, N]``: the largest logit, the weights of the rest and the mean gap, for :func:`backward`.
        log_prob_at: ``[N]``; left alone if there is no index.
        entropy_at: ``[N]``, nats.
        log_partition_at: ``[N]``, ``lse(z / T)``.

    Returns:
        A row whose index is no class, or -1.
    """
    z, stats = floats_at(z_at, (n, n_classes)), floats64_at(stats_at, (3, n))
    entropy, log_partition = floats_at(entropy_at, (n,)), floats_at(log_partition_at, (n,))
    scales, is_short, n_rows = scales_of(temperature), n_classes <= _SHORT, _rows_at_once(n_classes, stop - start)
    spare, log_totals = np.empty((n_classes + 4 if is_short else 0, n_rows), np.float32), np.empty(n_rows)
    for first in range(start, stop, n_rows):
        last = min(first + n_rows, stop)
        tops, rests, mean_gaps = stats[0, first:last], stats[1, first:last], stats[2, first:last]
        if is_short:
            sum_tile(z[first - base : last - base], scales, spare, tops, rests, mean_gaps)
        else:
            for i in range(last - first):
                tops[i], rests[i], mean_gaps[i] = sum_row(z[first - base + i], temperature, scales)
        _log_totals(tops, rests, mean_gaps, log_totals)
        if index_at:
            index, log_prob = integers_at(index_at, (n,)), floats_at(log_prob_at, (n,))
            for row in range(first, last):
                if index[row] < 0 or index[row] >= n_classes:
                    return row
                log_prob[row] = z[row - base, index[row]]
            _log_probs(temperature, tops, log_totals, log_prob[first:last])
        _entropies(temperature, tops, mean_gaps, log_totals, entropy[first:last], log_partition[first:last])
    return -1


@compiled
def _rows_at_once(n_classes: int, n: int) -> int:
    return max(min(_TILE // n_classes, n), 1)


@compiled
def _log_totals(tops: Floats64, rests: Floats64, mean_gaps: Floats64, log_totals: Floats64) -> None:
    """Logarithms of all weights; rows in which nothing is possible get none and no gap."""
    for i in range(len(tops)):
        is_empty = tops[i] == -np.inf
        rests[i], mean_gaps[i] = 0.0 if is_empty else rests[i], 0.0 if is_empty else mean_gaps[i]
        log_totals[i] = log1p(rests[i])


@compiled
def _log_probs(temperature: float, tops: Floats64, log_totals: Floats64, log_prob: Floats) -> None:
    """Logits of chosen classes to their log-probabilities, in place."""
    inverse = 1.0 / temperature
    for i in range(len(log_prob)):
        value = (np.float64(log_prob[i]) - tops[i]) * inverse - log_totals[i]
        log_prob[i] = -np.inf if tops[i] == -np.inf else value


@compiled
def _entropies(
    temperature: float,
    tops: Floats64,
    mean_gaps: Floats64,
    log_totals: Floats64,
    entropy: Floats,
    log_partition: Floats,
) -> None:
    """What is left to say; the largest logit of a row in which nothing is possible is 0 from here on."""
    inverse = 1.0 / temperature
    for i in range(len(tops)):
        entropy[i] = log_totals[i] + mean_gaps[i] * inverse
        log_partition[i] = tops[i] * inverse + log_totals[i]
        tops[i] = 0.0 if tops[i] == -np.inf else tops[i]


@compiled
def backward(
    z_at: int,
    base: int,
    grad_at: int,
    grad_base: int,
    start: int,
    stop: int,
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
) -> None:
    """Fill the gradient by the logits, each element once, given those by the results.

    Args:
        z_at: as in :func:`forward`.
        base: as there.
        grad_at: ``[N, K]``, or the rows from ``grad_base`` on.
        grad_base: the first row that is there.
        start: the first row.
        stop: the row after the last.
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
    """
    z, stats, grad = floats_at(z_at, (n, n_classes)), floats64_at(stats_at, (3, n)), floats_at(grad_at, (n, n_classes))
    scales, is_short, n_rows = scales_of(temperature), n_classes <= _SHORT, _rows_at_once(n_classes, stop - start)
    spare, by_row = np.empty((n_classes if is_short else 0, n_rows), np.float32), np.empty((5, n_rows), np.float32)
    given, inverse = np.zeros((3, n_rows)), 1.0 / temperature  # gradients by results over T
    for first in range(start, stop, n_rows):
        last = min(first + n_rows, stop)
        n_own = last - first
        _read(log_prob_at, log_prob_step, first, inverse, given[0, :n_own])
        _read(entropy_at, entropy_step, first, inverse * inverse, given[1, :n_own])
        _read(log_partition_at, log_partition_step, first, inverse, given[2, :n_own])
        _slopes(stats[0, first:last], stats[1, first:last], stats[2, first:last], given, by_row)
        tile, slope = z[first - base : last - base], grad[first - grad_base : last - grad_base]
        if is_short:
            slope_tile(tile, scales, by_row, spare, slope)
        else:
            for i in range(n_own):
                slope_row(tile[i], by_row[0, i], scales, by_row[1, i], by_row[2, i], by_row[3, i], slope[i])
        if log_prob_at:
            index = integers_at(index_at, (n,))
            for i in range(n_own):
                chosen = index[first + i]
                if chosen < 0 or chosen >= n_classes:  # refused on the way forward
                    continue
                value, others = tile[i, chosen], slope[i, chosen] + np.float32(given[0, i])
                if value > -np.inf:
                    slope[i, chosen] = by_row[4, i] if value == by_row[0, i] else others


@compiled
def _read(address: int, step: int, first: int, scale: float, found: Floats64) -> None:
    """Gradients by a result from row ``first`` on, times ``scale``; left alone if there are none."""
    if address:
        given = floats_at(address, (step * (first + len(found) - 1) + 1,))
        if step:
            for i in range(len(found)):
                found[i] = scale * given[first + i]
        else:
            found[:] = scale * given[0]


@compiled
def _slopes(tops: Floats64, rests: Floats64, mean_gaps: Floats64, given: Floats64, by_row: Floats) -> None:
    """What the gradient is made of: largest logit, slope, shift, mean gap, and the slope of a chosen largest logit.

    The last has ``1 - p`` as what the rest weighs, for p may round to 1.
    """
    for i in range(len(tops)):
        share, log_prob, entropy, log_partition = 1.0 / (1.0 + rests[i]), given[0, i], given[1, i], given[2, i]
        by_row[0, i], by_row[1, i], by_row[2, i] = tops[i], share * entropy, share * (log_partition - log_prob)
        by_row[3, i] = mean_gaps[i]
        by_row[4, i] = share * (log_prob * rests[i] - entropy * mean_gaps[i] + log_partition)
