"""What a first batch finds: sizes of outputs and gradients in every layer, before anything is learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from entropic_rl.compare.statistics import Estimate, bootstrap, mean
from entropic_rl.compare.words import enumeration
from entropic_rl.diagnostics.batch_flow import layers_of
from entropic_rl.diagnostics.signals import gradient_signals
from entropic_rl.diagnostics.units import unit_signals
from entropic_rl.page import Picture, Row, Table, drawn
from entropic_rl.plots.lines import Line, Panel, plot_lines
from entropic_rl.studies.experiment import Job, Problem, begin, problem_of
from entropic_rl.studies.findings import Findings
from entropic_rl.studies.standard import findings as standard_findings
from entropic_rl.studies.study import Request
from entropic_rl.supervised.networks import Perceptrons

__all__ = ["FirstStep", "findings", "first_step", "layer_line", "scientific", "typical"]

_ROWS = 256  # of the first batch
_SEED = 20_000
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class FirstStep:
    """Layers of S networks at their beginning; L counts layers of weights, the last one included.

    Attributes:
        outputs: root mean squares, after the activation, ``[S, L]``.
        gradients: norms, of weights and biases, ``[S, L]``.
    """

    outputs: Array
    gradients: Array

    @property
    def shrinks(self) -> Array:
        """Gradient of the first hidden layer over that of the last, ``[S]``; NaN where that is 0 or there is one."""
        n_hidden = self.gradients.shape[1] - 1
        if n_hidden < 2:
            return np.full(len(self.gradients), np.nan)
        last = self.gradients[:, n_hidden - 1]
        return np.divide(self.gradients[:, 0], last, out=np.full(len(last), np.nan), where=last > 0.0)


def first_step(jobs: Sequence[Job], problem: Problem) -> FirstStep:
    """Jobs that train as one batch, looked at with cross-entropy on their first training rows, in float64."""
    fitting, table, rows = begin(jobs, problem)
    begun = fitting.network
    if not isinstance(begun, Perceptrons):
        raise TypeError(f"expected perceptrons, got {type(begun).__name__}")
    network, own = begun.double(), rows["train"][:, :_ROWS]
    rms: dict[str, Tensor] = {}

    def observe(layer: str, outputs: Tensor, activation: str | None) -> None:
        rms[layer] = unit_signals(outputs, activation)["rms"]

    network.params.observer = observe
    outputs = network(table.x[own].double(), training=True)
    loss = F.cross_entropy(outputs.flatten(0, 1), table.target[own].flatten(), reduction="none").view(len(jobs), -1)
    gradient = network.params.gradient(loss.mean(1))
    layers, _ = layers_of(network.params)
    norms = gradient_signals(layers, network.values, gradient, None)["task_norm"]
    return FirstStep(torch.stack([rms[layer.name] for layer in layers], 1).numpy(), norms.numpy())


def findings(request: Request) -> Findings:
    """The study as most are, and what the first step finds with every value."""
    found = standard_findings(request)
    problem = problem_of(request.config, range(request.seeds))
    steps = {
        value.text: first_step([Job(value.text, value.fits[0], seed) for seed in problem.sides], problem)
        for value in request.values
    }
    return replace(
        found,
        sentence=f"{found.sentence} {_sentence(steps)}",
        table=_wider(found.table, steps),
        pictures=[*found.pictures, _picture(steps)],
        numbers={**found.numbers, "first_step": {name: as_json(step) for name, step in steps.items()}},
    )


def as_json(step: FirstStep) -> dict[str, Any]:
    """All numbers, for machines."""
    return {"output_rms": step.outputs.tolist(), "gradient_norm": step.gradients.tolist()}


def typical(values: Array) -> Estimate:
    """Geometric mean of ``[S]`` with its interval; 0 where one is 0, NaN where one is none."""
    if np.isnan(values).any() or (values <= 0.0).any():
        none = float("nan")
        return Estimate(none if np.isnan(values).any() else 0.0, none, none)
    logs = bootstrap(np.log(values), mean, np.random.default_rng(_SEED))
    return Estimate(*(float(np.exp(x)) for x in (logs.value, logs.low, logs.high)))


def layer_line(values: Array) -> Line:
    """``[S, L]`` over layers from 1, geometric means."""
    found = [typical(column) for column in values.T]
    places = np.arange(1, len(found) + 1)
    return Line(places, [e.value or np.nan for e in found], [e.low for e in found], [e.high for e in found])


def scientific(estimate: Estimate) -> str:
    """``0.31``, ``2.1e-07``; a dash for what is none."""
    return "-" if np.isnan(estimate.value) else f"{estimate.value:.2g}"


def _sentence(steps: Mapping[str, FirstStep]) -> str:
    parts = []
    for name, step in steps.items():
        ratio = typical(step.shrinks)
        parts.append(f"{scientific(ratio)} with {name}" if ratio.value > 0.0 else f"none at all with {name}")
    return (
        f"Before the first step the gradient of the first hidden layer over that of the last is {enumeration(parts)}."
    )


def _wider(table: Table, steps: Mapping[str, FirstStep]) -> Table:
    rows = []
    for row, step in zip(table.rows, steps.values(), strict=True):
        cells = [scientific(typical(own)) for own in (step.outputs[:, 0], step.outputs[:, -2], step.gradients[:, 0],
                                                      step.gradients[:, -2])]  # fmt: skip
        rows.append(Row([*row.cells, *cells], row.kind))
    header = ["outputs, first hidden", "outputs, last hidden", "gradient, first hidden", "gradient, last hidden"]
    return Table(
        [*table.header, *header],
        rows,
        f"{table.caption} Outputs (root mean square) and gradients (norm) before the first step, geometric means.",
    )


def _picture(steps: Mapping[str, FirstStep]) -> Picture:
    n_layers = next(iter(steps.values())).outputs.shape[1]
    ticks = {float(i): str(i) for i in range(1, n_layers)} | {float(n_layers): "out"}
    common: dict[str, Any] = {"xlabel": "layer", "ticks": ticks, "log_y": True}
    panels = [
        Panel(
            ylabel="outputs (root mean square)", lines={n: layer_line(s.outputs) for n, s in steps.items()}, **common
        ),
        Panel(ylabel="gradient (norm)", lines={n: layer_line(s.gradients) for n, s in steps.items()}, **common),
    ]
    return Picture(
        "first-step",
        "Layers before the first step",
        f"On the first {_ROWS} training rows, geometric means over seeds with 95 % intervals. What is 0 is not drawn.",
        drawn(partial(plot_lines, panels=panels, series=list(steps))),
        wide=True,
    )
