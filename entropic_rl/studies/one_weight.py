"""Gradient descent on a single weight: too slow, right, and beyond what the curvature allows.

Twenty points ``y = 3 x + noise`` and the loss ``L(w) = mean (w x - y)^2``, a parabola of curvature ``c = 2 mean x^2``
with its optimum ``w*`` about 3. A step multiplies the distance to the optimum by ``1 - rate c``, exactly: rates above
``2 / c`` diverge.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from entropic_rl.compare.statistics import Estimate, bootstrap, mean
from entropic_rl.compare.words import enumeration, interval, number
from entropic_rl.errors import ConfigError
from entropic_rl.optimizers import SGD
from entropic_rl.page import Picture, Row, Table, drawn
from entropic_rl.plots.one_weight import plot_one_weight
from entropic_rl.streams import Stream
from entropic_rl.studies.findings import Findings
from entropic_rl.studies.study import Request

__all__ = ["Descent", "Line", "descend", "findings", "line"]

_N, _REACH, _SLOPE, _NOISE = 20, 1.8, 3.0, 0.5
_NOTHING = 1e-300  # below any distance
_ARRIVED = 0.01  # of the distance in the beginning
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """The points of S seeds.

    Attributes:
        x: ``[N]``, the same for all.
        y: ``[S, N]``.
        start: ``[S]``, weights to begin with.
    """

    x: Tensor
    y: Tensor
    start: Tensor

    @property
    def curvature(self) -> float:
        """Second derivative of the loss."""
        return float(2.0 * self.x.square().mean())

    @property
    def optimum(self) -> Tensor:
        """Weights of least loss, ``[S]``."""
        return (self.x * self.y).mean(1) / self.x.square().mean()

    def loss(self, weight: Tensor) -> Tensor:
        """``[K, S] -> [K, S]``."""
        return (weight.unsqueeze(-1) * self.x - self.y).square().mean(-1)


@dataclass(frozen=True, slots=True, eq=False)
class Descent:
    """Weights on their way.

    Attributes:
        rates: ``[K]``.
        paths: ``[K, S, T + 1]``.
        distances: ``[K, S, T + 1]``, to the optimum, signed.
        factors: ``[K]``, ``1 - rate c``.
    """

    rates: Array
    paths: Array
    distances: Array
    factors: Array

    @property
    def left(self) -> Array:
        """Share of the distance that is left in the end, ``[K, S]``."""
        left = np.abs(self.distances[..., -1] / self.distances[..., 0])
        return np.where(np.isnan(left), np.inf, left)

    def outcome(self, k: int) -> str:
        """What became of a rate, by its paths."""
        left, signs = self.left[k], np.sign(self.distances[k])
        swings = "oscillates" if (signs[:, 1:2] == -signs[:, :1]).all() else ""
        if not (left < 1.0 - 1e-9).all():
            return " and ".join(filter(None, [swings, "diverges" if (left > 1.0 + 1e-9).all() else "never arrives"]))
        arrives = "arrives" if (left <= _ARRIVED).all() else "is too slow"
        return " and ".join(filter(None, [swings, arrives]))


def line(seeds: int) -> Line:
    """Points and first weights of so many seeds."""
    stream = Stream(range(seeds), "one weight")
    x = torch.linspace(-_REACH, _REACH, _N, dtype=torch.float64)
    return Line(x, _SLOPE * x + _NOISE * stream.normal(_N), stream.normal(1).squeeze(1))


def descend(problem: Line, rates: Array, n_steps: int) -> Descent:
    """Plain gradient descent from every start at every rate ``[K]``, as one batch; gradients are autograd's."""
    n_rates, n_seeds = len(rates), len(problem.start)
    weight = problem.start.repeat(n_rates).unsqueeze(1)
    each = torch.from_numpy(rates).repeat_interleave(n_seeds)
    optimizer, path = SGD(weight, 0.0), [weight.clone()]
    for _ in range(n_steps):
        tracked = weight.clone().requires_grad_()
        (grad,) = torch.autograd.grad(problem.loss(tracked.view(n_rates, n_seeds)).sum(), tracked)
        optimizer.step(weight, grad, each)
        path.append(weight.clone())
    paths = torch.cat(path, 1).view(n_rates, n_seeds, -1)
    distances = paths - problem.optimum.view(1, -1, 1)
    return Descent(rates, paths.numpy(), distances.numpy(), 1.0 - rates * problem.curvature)


def findings(request: Request) -> Findings:
    """Descend, and say beside each rate what the curvature says."""
    rates = np.array([_constant(value.number, value.text) for value in request.values])
    n_steps = request.config.n_steps or request.fit.n_epochs
    request.parts.check()  # once: it is done in a moment
    began = time.perf_counter()
    problem = line(request.seeds)
    descent = descend(problem, rates, n_steps)
    seconds = time.perf_counter() - began
    names = [value.text for value in request.values]
    table = _table(names, descent)
    optimum = bootstrap(problem.optimum.numpy(), mean, np.random.default_rng(0))
    return Findings(
        data=f"one weight, {_N} points, curvature {number(problem.curvature)}, optimum {_hundredths(optimum)}",
        sentence=_sentence(names, descent, problem, optimum, n_steps),
        caveats=["Seeds differ in the noise of the points and the first weight; the curvature is the same."],
        series=names,
        table=table,
        screen=table,
        runs=_runs(names, descent, problem),
        pictures=[_picture(names, descent, problem)],
        records=_records(names, descent, problem),
        n_runs=descent.paths.shape[0] * descent.paths.shape[1],
        seconds=seconds,
        numbers={"curvature": problem.curvature, "factors": descent.factors.tolist(), "paths": descent.paths.tolist()},
    )


def _constant(value: float | None, text: str) -> float:
    if value is None:
        raise ConfigError(f"--values: expected numbers with --data one-weight, got {text}")
    return value


def _sentence(names: list[str], descent: Descent, problem: Line, optimum: Estimate, n_steps: int) -> str:
    parts = []
    for k, name in enumerate(names):
        left = float(descent.left[k].mean())
        share = f"{100.0 * left:.2g} % of the distance is left" if left < 1.0 else f"{number(left)} times as far away"
        parts.append(f"{name} {descent.outcome(k)} ({share})")
    bend = number(problem.curvature)
    return (
        f"On one weight whose optimum is {_hundredths(optimum)} over {_seeds(problem)}, after {n_steps} steps a rate "
        f"of {enumeration(parts)}: a step multiplies the distance by 1 - {bend} x rate, so that rates above "
        f"{number(2.0 / problem.curvature)} cannot arrive."
    )


def _hundredths(estimate: Estimate) -> str:
    return interval(estimate, "{:.2f}".format)


def _seeds(problem: Line) -> str:
    n = len(problem.start)
    return f"{n} seeds" if n > 1 else "one seed"


def _measured(descent: Descent, k: int) -> float:
    """By what the distance was multiplied per step, geometric mean; 0 where it is too small to tell."""
    n_steps = descent.distances.shape[2] - 1
    return float(np.exp(np.log(np.maximum(descent.left[k], _NOTHING)).mean() / n_steps))


def _table(names: list[str], descent: Descent) -> Table:
    rows = [
        Row([name, descent.outcome(k), f"{descent.factors[k]:+.4f}", f"{_measured(descent, k):.4f}",
             f"{descent.left[k].mean():.3g}", f"{np.median(descent.paths[k, :, -1]):.4g}"],
            "broken" if "diverges" in descent.outcome(k) else "best" if descent.outcome(k) == "arrives" else "")
        for k, name in enumerate(names)
    ]  # fmt: skip
    header = ["learning rate", "what it does", "1 - rate x curvature", "distance per step, measured"]
    return Table(
        [*header, "distance left, share", "last weight, median"],
        rows,
        "Plain gradient descent. Measured: the geometric mean over steps, without its sign; it ends at the rounding of "
        "float64 where a rate arrives exactly.",
    )


def _runs(names: list[str], descent: Descent, problem: Line) -> Table:
    rows = [
        Row([name, str(s), *(f"{value:.4g}" for value in (problem.optimum[s], *descent.paths[k, s, [0, -1]]))])
        for k, name in enumerate(names)
        for s in range(len(problem.start))
    ]
    return Table(["learning rate", "seed", "optimum", "first weight", "last weight"], rows)


def _records(names: list[str], descent: Descent, problem: Line) -> list[dict[str, object]]:
    return [
        {"value": name, "seed": s, "optimum": float(problem.optimum[s]), "first_weight": descent.paths[k, s, 0],
         "last_weight": descent.paths[k, s, -1], "factor": descent.factors[k]}
        for k, name in enumerate(names) for s in range(len(problem.start))
    ]  # fmt: skip


def _picture(names: list[str], descent: Descent, problem: Line) -> Picture:
    svg = drawn(
        partial(
            plot_one_weight,
            names=names,
            paths=descent.paths,
            distances=np.abs(descent.distances),
            factors=np.abs(descent.factors),
            optimum=float(problem.optimum[0]),
            loss=lambda w: problem.loss(torch.as_tensor(w).unsqueeze(1))[:, 0].numpy(),
        )
    )
    return Picture(
        "one-weight",
        "Paths of the weight",
        "Left: seed 0 on its loss. Middle: every seed. Right: distance to the optimum; the black dots are the powers "
        "of 1 - rate x curvature.",
        svg,
        wide=True,
    )
