"""Curvature of classifiers of digits: before training, after training without entropy, and after training with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from entropic_rl.compare import statistics as st
from entropic_rl.compare.statistics import Estimate
from entropic_rl.datasets import load
from entropic_rl.diagnostics.curvature import CurvatureAt, curvature
from entropic_rl.losses import EntropicCrossEntropy
from entropic_rl.plots.estimates import plot_estimate_curves
from entropic_rl.streams import Stream

__all__ = ["POINTS", "Found", "curvature_rows", "draw_curvature", "measure"]

POINTS = ("before training", "trained without entropy", "trained with the coefficient")
_SIZES, _BATCH, _RATE = (64, 32, 10), 64, 3e-3
_ROWS = 512  # whose mean loss is looked at
_PROBES = 60

Found = dict[str, list[list[CurvatureAt]]]
"""Of each point, a list over coefficients of lists over seeds."""


def measure(ent_coefs: Sequence[float], seeds: int, *, epochs: int = 40) -> Found:
    """The curvature of ``cross-entropy - c * entropy`` at three points, for every c, in networks of 32 hidden units."""
    data = load("digits")
    x, y = torch.tensor(data.X / 16.0, dtype=torch.float32), torch.tensor(data.y)
    task: Callable[[Tensor], Tensor] = partial(F.cross_entropy, target=y[:_ROWS])
    found: Found = {point: [[] for _ in ent_coefs] for point in POINTS}

    def look(point: str, network: nn.Module, places: Sequence[int]) -> None:
        coefs = [ent_coefs[i] for i in places]
        report = curvature(network, task, x[:_ROWS], ent_coefs=coefs, n_probes=_PROBES)
        for i, at in zip(places, report.by_coefficient, strict=True):
            found[point][i].append(at)

    everywhere = range(len(ent_coefs))
    for seed in range(seeds):
        look(POINTS[0], _network(seed), everywhere)
        look(POINTS[1], _trained(x, y, 0.0, seed, epochs), everywhere)
        for i in everywhere:
            look(POINTS[2], _trained(x, y, ent_coefs[i], seed, epochs), [i])
    return found


def curvature_rows(found: Found) -> list[str]:
    """Rows of a table: means over seeds with 95 % intervals."""
    rows = []
    for point, by_coefficient in found.items():
        for ats in by_coefficient:
            numbers = [[at.largest[0].value, at.smallest.value, at.trace, at.gradient_norm] for at in ats]
            errors = max(at.trace_error / abs(at.trace) for at in ats)
            cells = [_text(_estimate(column)) for column in np.array(numbers).T]
            rows.append(f"| {point} | {ats[0].ent_coef:g} | {' | '.join(cells)} | {100.0 * errors:.1f} |")
    return rows


def draw_curvature(path: Path, found: Found) -> None:
    """The largest eigenvalue over the coefficients above 0, a line per point."""
    kept = [i for i, ats in enumerate(found[POINTS[0]]) if ats[0].ent_coef > 0.0]
    x = [found[POINTS[0]][i][0].ent_coef for i in kept]
    curves = {
        point: [_estimate(np.array([at.largest[0].value for at in by_coefficient[i]])) for i in kept]
        for point, by_coefficient in found.items()
    }
    plot_estimate_curves(path, x, curves, xlabel="ent_coef", ylabel="largest eigenvalue of the Hessian")


def _network(seed: int) -> nn.Sequential:
    """As ``nn.Linear`` begins: uniform within ``1 / sqrt(inputs)``."""
    stream = Stream([seed], "initialisation")
    layers: list[nn.Module] = []
    for n, m in pairwise(_SIZES):
        linear = nn.Linear(n, m)
        with torch.no_grad():
            for parameter in (linear.weight, linear.bias):
                parameter.copy_((2.0 * stream.uniform(*parameter.shape)[0] - 1.0) / math.sqrt(n))
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def _trained(x: Tensor, y: Tensor, ent_coef: float, seed: int, epochs: int) -> nn.Sequential:
    """Adam on minibatches of all rows."""
    network, stream = _network(seed), Stream([seed], "minibatches")
    loss, optimizer = EntropicCrossEntropy(ent_coef=ent_coef), torch.optim.Adam(network.parameters(), lr=_RATE)
    for _ in range(epochs):
        for index in stream.permutation(len(x))[0].split(_BATCH):
            optimizer.zero_grad()
            loss(network(x[index]), y[index]).backward()
            optimizer.step()
    return network


def _estimate(values: np.ndarray) -> Estimate:
    return st.bootstrap(values, st.mean, np.random.default_rng(0))


def _text(e: Estimate) -> str:
    return f"{e.value:.3g} [{e.low:.3g}, {e.high:.3g}]"
