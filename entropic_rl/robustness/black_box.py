"""Attacks without gradients: noise, and random search. Where they do better than gradients, gradients are masked."""

from __future__ import annotations

import torch
from torch import Tensor

from entropic_rl.robustness.attacks import Best
from entropic_rl.robustness.balls import Ball
from entropic_rl.robustness.losses import AttackLoss
from entropic_rl.robustness.victims import Rows, Victim, fooled_by
from entropic_rl.streams import Stream

__all__ = ["noise", "random_search"]

_LARGEST, _HALVINGS = 0.5, 5.0  # share of the features, or of the radius, that a proposal changes: 1/2 to 1/64


def noise(victim: Victim, rows: Rows, best: Best, stream: Stream, *, ball: Ball, loss: AttackLoss, n: int) -> None:
    """``n`` random points on the surface of each ball."""
    for _ in range(n):
        _meet(victim, rows, best, ball.random_point(rows.x, stream, surface=True), loss)


def random_search(
    victim: Victim, rows: Rows, best: Best, stream: Stream, *, ball: Ball, loss: AttackLoss, n_queries: int
) -> None:
    """From a random point: keep a random change whenever it raises the loss, large changes first.

    In L-infinity a proposal puts a random set of features on the surface, in L2 it goes in a random direction. All rows
    of a run are offered the same proposals, and each takes those that suit it.
    Source: after Andriushchenko et al. (2020), https://arxiv.org/abs/1912.00049; its squares are of images, here
    features have no neighbours.
    """
    x = ball.random_point(rows.x, stream, surface=True)
    current = Best(x, *_answer(victim, rows, x, loss))
    for query in range(n_queries):
        share = _LARGEST * 2.0 ** (-_HALVINGS * query / n_queries)
        _meet(victim, rows, current, _proposal(current.x, rows.x, share, stream, ball), loss)
    best.meet(current.x, current.fooled, current.loss)


def _proposal(x: Tensor, centre: Tensor, share: float, stream: Stream, ball: Ball) -> Tensor:
    n_features = x.shape[-1]
    if ball.norm == "linf":
        chosen = stream.uniform(1, n_features) < max(share, 1.0 / n_features)
        corner = ball.eps * (2.0 * stream.uniform(1, n_features) - 1.0).sign().to(x.dtype)
        return ball.project(torch.where(chosen, centre + corner, x), centre)
    direction = stream.normal(1, n_features).to(x.dtype)
    direction = direction / torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
    return ball.project(x + 2.0 * share * ball.eps * direction, centre)


def _meet(victim: Victim, rows: Rows, best: Best, x: Tensor, loss: AttackLoss) -> None:
    best.meet(x, *_answer(victim, rows, x, loss))


def _answer(victim: Victim, rows: Rows, x: Tensor, loss: AttackLoss) -> tuple[Tensor, Tensor]:
    logits = victim.logits(x)
    return fooled_by(logits, rows.y), loss(logits, rows.y)
