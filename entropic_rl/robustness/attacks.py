"""Gradient attacks: rows moved within a ball, so that a model errs. All rows of all runs at once, by one gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from entropic_rl.errors import ConfigError
from entropic_rl.robustness.balls import Ball, as_box, check_eps, check_norm
from entropic_rl.robustness.losses import AttackLoss, attack_loss
from entropic_rl.robustness.victims import Rows, Victim, at_rest, fooled_by
from entropic_rl.streams import Stream

__all__ = ["Attacked", "Best", "climb", "fgsm", "pgd", "single_step"]

_REACH = 2.5  # ball radii that all steps together could go, as in Madry et al.


@dataclass(frozen=True, slots=True)
class Attacked:
    """What an attack found.

    Attributes:
        x: the worst point tried of each row, in the shape they came in; the row itself where nothing was worse.
        fooled: whether the model errs on it, in the shape of the labels.
        loss: of the attack, there.
    """

    x: Tensor
    fooled: Tensor
    loss: Tensor

    @property
    def accuracy(self) -> Tensor:
        """The share of rows on which the model is still right, per run: ``[]`` or ``[R]``."""
        return (~self.fooled).double().mean(-1)


class Best:
    """The worst point of each row that was met: one that fools before one that does not, then by the loss.

    Args:
        x: ``[R, N, D]``, to begin with.
        fooled: ``[R, N]``.
        loss: ``[R, N]``.
    """

    def __init__(self, x: Tensor, fooled: Tensor, loss: Tensor) -> None:
        self.x, self.fooled, self.loss = x.clone(), fooled.clone(), loss.clone()

    def meet(self, x: Tensor, fooled: Tensor, loss: Tensor) -> None:
        """Take in a point of each row."""
        better = (fooled & ~self.fooled) | ((fooled == self.fooled) & (loss > self.loss))
        self.x[better], self.fooled[better], self.loss[better] = x[better], fooled[better], loss[better]


def fgsm(
    model: Any,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    loss: str = "cross-entropy",
    box: Sequence[float] | None = None,
) -> Attacked:
    """One step of length ``eps`` along the gradient (its sign, in L-infinity).

    Rows that are misclassified as they are count as fooled, by themselves; the arguments are those of :func:`pgd`.
    Source: Goodfellow et al. (2015), https://arxiv.org/abs/1412.6572.
    """
    rows, climbed = Rows(x, y), attack_loss(loss)
    ball = Ball(check_eps(eps), check_norm(norm), as_box(box, rows.x))
    with at_rest(model, rows) as victim:
        best = single_step(victim, rows, ball, climbed)
    return _attacked(rows, best)


def pgd(
    model: Any,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    loss: str = "cross-entropy",
    n_steps: int = 40,
    step_size: float | None = None,
    n_restarts: int = 1,
    random_start: bool = True,
    box: Sequence[float] | None = None,
    stream: Stream | None = None,
    with_fgsm: bool = True,
) -> Attacked:
    """Projected gradient ascent; of all iterates of all restarts, the worst of each row is kept.

    The model is in evaluation mode, gradients are taken for the rows alone, and nothing of it changes. The row itself
    is among the candidates, so that ``eps = 0`` gives the clean accuracy; so is the point of :func:`fgsm`, so that this
    is never the weaker attack.

    Args:
        model: see :func:`entropic_rl.robustness.victims.at_rest`.
        x: ``[N, ...]``, or ``[R, N, ...]`` for a model that answers for R runs.
        y: classes, ``[N]`` or ``[R, N]``.
        eps: radius >= 0 in the units of the features.
        norm: ``linf`` or ``l2``.
        loss: ``cross-entropy``, ``margin`` or ``dlr``.
        n_steps: of each restart.
        step_size: length of a step as a share of ``eps``; ``2.5 / n_steps`` if None.
        n_restarts: how often to begin.
        random_start: begin at a uniform point of the ball; else at the row, once.
        box: least and largest value of the features; no bounds if None.
        stream: of R runs, or of one for all, for the starts; None: the same ones at every call.
        with_fgsm: whether that point is among the candidates.

    Raises:
        ConfigError: an argument is out of range, rows lie outside the box, labels have no logit, or the model cannot be
            differentiated.

    Source: Madry et al. (2018), https://arxiv.org/abs/1706.06083.
    """
    rows, climbed = Rows(x, y), attack_loss(loss)
    ball = Ball(check_eps(eps), check_norm(norm), as_box(box, rows.x))
    if n_steps < 1 or n_restarts < 1:
        raise ConfigError(f"n_steps and n_restarts: expected at least 1, got {n_steps} and {n_restarts}")
    if n_restarts > 1 and not random_start:
        raise ConfigError(f"n_restarts: expected 1 without a random start, where all are the same, got {n_restarts}")
    share = _REACH / n_steps if step_size is None else step_size
    if not share > 0.0:
        raise ConfigError(f"step_size: expected a share of eps above 0, got {step_size}")
    if stream is None:
        stream = Stream([0], "attack", device=rows.x.device)
    with at_rest(model, rows) as victim:
        logits = victim.logits(rows.x)
        best = Best(rows.x, fooled_by(logits, rows.y), climbed(logits, rows.y))
        if eps > 0.0:
            if with_fgsm:
                point = single_step(victim, rows, ball, climbed)
                best.meet(point.x, point.fooled, point.loss)
            for _ in range(n_restarts):
                start = ball.random_point(rows.x, stream) if random_start else rows.x
                climb(victim, rows, best, start, ball=ball, loss=climbed, n_steps=n_steps, step=share * eps)
    return _attacked(rows, best)


def single_step(victim: Victim, rows: Rows, ball: Ball, loss: AttackLoss) -> Best:
    """The row itself and one step from it, as long as the ball is wide."""
    gradient, value, logits = victim.ascend(rows.x, loss)
    best = Best(rows.x, fooled_by(logits, rows.y), value)
    point = ball.project(rows.x + ball.eps * ball.steepest(gradient), rows.x)
    logits = victim.logits(point)
    best.meet(point, fooled_by(logits, rows.y), loss(logits, rows.y))
    return best


def climb(
    victim: Victim, rows: Rows, best: Best, x: Tensor, *, ball: Ball, loss: AttackLoss, n_steps: int, step: float
) -> None:
    """So many projected steps of length ``step`` from ``x [R, N, D]``; what is met goes to ``best``."""
    for _ in range(n_steps):
        gradient, value, logits = victim.ascend(x, loss)
        best.meet(x, fooled_by(logits, rows.y), value)
        x = ball.project(x + step * ball.steepest(gradient), rows.x)
    logits = victim.logits(x)
    best.meet(x, fooled_by(logits, rows.y), loss(logits, rows.y))


def _attacked(rows: Rows, best: Best) -> Attacked:
    return Attacked(rows.features(best.x), rows.per_row(best.fooled), rows.per_row(best.loss))
