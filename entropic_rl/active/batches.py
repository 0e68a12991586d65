"""Batches of rows that are worth labels together: they should not all tell the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from entropic_rl.active.acquisition import mixture
from entropic_rl.entropy import categorical_entropy
from entropic_rl.errors import ConfigError
from entropic_rl.streams import Stream

__all__ = ["badge", "batch_bald", "k_center"]

_CONFIGURATIONS = 2**13  # of labels of a batch that are counted one by one; beyond, they are sampled
_LOOKED_AT = 64  # rows that are worked out before looking whether any other can be better
_ENTRIES = 2**22  # numbers that are worked on together


def batch_bald(
    log_p: Tensor, n: int, stream: Stream, *, n_configurations: int = _CONFIGURATIONS
) -> tuple[Tensor, Tensor]:
    """Rows whose labels together tell most about which member is right, chosen greedily, ``[n]``, and what, ``[n]``.

    ``I(y_1 .. y_n; k)``, the joint entropy of the labels less their expected entropies by member; exact while there are
    at most ``n_configurations`` ways to label the rows chosen so far, of which so many are sampled beyond. It is
    submodular: the greedy batch has at least 1 - 1/e of the best one's, and a row adds no more the later it is chosen,
    so that few have to be looked at again (Minoux, 1978). Source: Kirsch et al. (2019), section 3, https://arxiv.org/abs/1906.08158.

    Args:
        log_p: ``[N, K, C]``.
        n: rows wanted.
        stream: draws the sampled labels.
        n_configurations: at least C.

    Returns:
        Rows in the order of choice, and the information of the first 1, 2, ... of them, nats.

    Raises:
        ConfigError: there is no axis of members, or more rows are wanted than there are.
    """
    if log_p.ndim != 3 or log_p.shape[1] < 2:
        raise ConfigError(f"batch_bald: expected [N, K, C] of K >= 2 members, got {tuple(log_p.shape)}")
    _check_count(n, len(log_p))
    p = log_p.detach().to(torch.float64).exp()  # [N, K, C]
    own = categorical_entropy(log_p.detach().to(torch.float64)).mean(1)  # [N], mean over members
    joint = p.new_ones(1, p.shape[1])  # [S, K], probabilities of the labels of what is chosen, by member
    weight = p.new_ones(1)  # [S], how many configurations each stands for, over their mean probability where sampled
    chosen: list[int] = []
    told: list[Tensor] = []
    expected = p.new_zeros(())
    bound = torch.full_like(own, torch.inf)  # a row adds the less, the more are chosen: what it added is a bound
    for _ in range(n):
        before = told[-1] if told else p.new_zeros(())
        bound[chosen] = -torch.inf
        best = _largest(bound, partial(_added, p=p, own=own, joint=joint, weight=weight, known=expected + before))
        chosen.append(best)
        told.append(before + bound[best])
        expected = expected + own[best]
        joint, weight = _extended(joint, weight, p[best], stream, n_configurations)
    return torch.tensor(chosen, dtype=torch.int64), torch.stack(told) if told else p.new_zeros(0)


def _largest(bound: Tensor, value: Callable[[Tensor], Tensor]) -> int:
    """The row of the largest ``value``, none of which is above its ``bound [N]``; what is worked out replaces it."""
    best = -1
    for rows in bound.argsort(descending=True, stable=True).split(_LOOKED_AT):
        if best >= 0 and bound[rows[0]] < bound[best]:
            break
        some = rows[bound[rows] > -torch.inf]
        bound[some] = value(some)
        first = int(some[bound[some].argmax()])
        best = first if best < 0 or bound[first] > bound[best] else best
    return best


def _added(rows: Tensor, *, p: Tensor, own: Tensor, joint: Tensor, weight: Tensor, known: Tensor) -> Tensor:
    """What ``rows`` would tell beyond what is ``known``, nats."""
    return _joint_entropy(p[rows], joint, weight) - own[rows] - known


def _joint_entropy(p: Tensor, joint: Tensor, weight: Tensor) -> Tensor:
    """Entropy of the labels of what is chosen and of one more row each, ``[N]``."""
    mean = joint / joint.shape[1]
    size = max(1, _ENTRIES // (len(joint) * p.shape[2]))
    found = []
    for block in p.split(size):
        q = mean @ block.transpose(0, 1).flatten(1)  # [S, N C], P(labels of the chosen, label)
        found.append(-(weight @ torch.special.xlogy(q, q)).unflatten(0, block.shape[::2]).sum(1))
    return torch.cat(found)


def _extended(joint: Tensor, weight: Tensor, p: Tensor, stream: Stream, n_configurations: int) -> tuple[Tensor, Tensor]:
    """The configurations with the labels of one more row ``p [K, C]``: all of them, or a sample."""
    every = (joint.unsqueeze(1) * p.T.unsqueeze(0)).flatten(0, 1)  # [S C, K]
    weights = weight.repeat_interleave(p.shape[1])
    if len(every) <= n_configurations:
        return every, weights
    mass = every.mean(1) * weights
    picks = _drawn(mass, stream, n_configurations)
    # Each stands for all that could have been drawn: sum_s f(s) = mean over draws of f(s) / P(s).
    kept = every[picks]
    return kept, mass.sum() / (n_configurations * kept.mean(1))


def _drawn(mass: Tensor, stream: Stream, n: int) -> Tensor:
    """``n`` indices by ``mass``, one in each n-th part of it: systematic sampling with one uniform number."""
    steps = mass.cumsum(0)
    places = (torch.arange(n, dtype=steps.dtype) + stream.uniform(1)[0].to(steps.dtype)) / n * steps[-1]
    return torch.searchsorted(steps, places).clamp(max=len(mass) - 1)


def badge(log_p: Tensor, embeddings: Tensor, n: int, stream: Stream) -> Tensor:
    """Rows whose gradients are large and differ, by the seeding of k-means++, ``[n]``.

    A row's gradient is that of the last layer for the likeliest label, ``(p - onehot) x embedding``; distances between
    such products need no product to be written out. The first row is the one of the longest gradient. Source: Ash et
    al. (2020), algorithm 1, https://arxiv.org/abs/1906.03671.

    Args:
        log_p: ``[N, C]``, or ``[N, K, C]``, averaged.
        embeddings: ``[N, D]``, what the last layer sees.
        n: rows wanted.
        stream: draws.

    Raises:
        ConfigError: shapes do not fit, or more rows are wanted than there are.
    """
    p = mixture(log_p).to(torch.float64).exp()
    _check_count(n, len(p))
    if len(embeddings) != len(p):
        raise ConfigError(f"embeddings: expected one row per row of log_p, got {len(embeddings)} for {len(p)}")
    h = embeddings.detach().to(torch.float64)
    a = p.scatter_add(1, p.argmax(1, keepdim=True), torch.full_like(p[:, :1], -1.0))
    square = a.square().sum(1) * h.square().sum(1)  # [N]

    def distances(i: int) -> Tensor:
        return (square + square[i] - 2.0 * (a @ a[i]) * (h @ h[i])).clamp(min=0.0)

    return _spread(square, distances, n, stream)


def _spread(square: Tensor, distances: Callable[[int], Tensor], n: int, stream: Stream) -> Tensor:
    """k-means++: the longest first, then each with the probability of its squared distance to the nearest chosen."""
    chosen: list[int] = []
    nearest = square
    for _ in range(n):
        if not chosen:
            pick = int(square.argmax())
        elif float(nearest.sum()) > 0.0:
            pick = int(_drawn(nearest, stream, 1))
        else:  # the others are where chosen ones are: any will do
            free = torch.ones_like(nearest)
            free[chosen] = 0.0
            pick = int(_drawn(free, stream, 1))
        nearest = distances(pick) if not chosen else torch.minimum(nearest, distances(pick))
        chosen.append(pick)
        nearest[chosen] = 0.0  # whatever rounding has left of it
    return torch.tensor(chosen, dtype=torch.int64)


def k_center(embeddings: Tensor, n: int, labelled: Tensor | None = None) -> Tensor:
    """Rows that leave no row far from a labelled or chosen one, greedily the farthest, ``[n]``.

    Source: Sener & Savarese (2018), algorithm 1, https://arxiv.org/abs/1708.00489.

    Args:
        embeddings: ``[N, D]`` of the pool.
        n: rows wanted.
        labelled: ``[L, D]``; without any the first row is the one nearest the mean.
    """
    x = embeddings.detach()
    _check_count(n, len(x))
    nearest = torch.full_like(x[:, 0], torch.inf)
    for block in () if labelled is None else labelled.detach().to(x.dtype).split(max(1, _ENTRIES // max(1, len(x)))):
        nearest = torch.minimum(nearest, torch.cdist(x, block).amin(1))
    chosen: list[int] = []
    for _ in range(n):
        alone = bool(nearest.isinf().all()) and not chosen
        best = int((x - x.mean(0)).norm(dim=1).argmin() if alone else nearest.argmax())
        chosen.append(best)
        nearest = torch.minimum(nearest, (x - x[best]).norm(dim=1))
        nearest[chosen] = -torch.inf
    return torch.tensor(chosen, dtype=torch.int64)


def _check_count(n: int, n_rows: int) -> None:
    if not 0 <= n <= n_rows:
        raise ConfigError(f"expected at most the {n_rows} rows of the pool to be asked for, got {n}")
