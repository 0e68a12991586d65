"""Networks of several kinds at several depths: what they reach, and how far gradients come."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from entropic_rl.compare.words import enumeration
from entropic_rl.errors import ConfigError
from entropic_rl.page import Picture, Row, Table, drawn
from entropic_rl.plots.lines import Line, Panel, plot_lines
from entropic_rl.progress import EpochProgress
from entropic_rl.studies.analysis import Group, Results, analyse, as_json, caveats, nats, percent
from entropic_rl.studies.depth import KINDS
from entropic_rl.studies.experiment import Job, Problem, problem_of, train
from entropic_rl.studies.findings import Findings
from entropic_rl.studies.first_step import FirstStep, first_step, layer_line, scientific, typical
from entropic_rl.studies.first_step import as_json as first_as_json
from entropic_rl.studies.standard import heard, is_tuned, of_length, record_row, run_table
from entropic_rl.studies.study import Request

__all__ = ["findings"]


@dataclass(frozen=True, slots=True, eq=False)
class _Cell:
    """One kind of network at one depth."""

    kind: str
    depth: int
    group: Group
    step: FirstStep


def findings(request: Request) -> Findings:
    """Train every kind at every depth, and look at its first step."""
    if request.flags["width"] < 1:
        raise ConfigError(f"--width: expected at least 1 unit, got {request.flags['width']}")
    kinds = list(dict.fromkeys(request.flags["networks"]))
    depths = [int(value.text) for value in request.values]
    problem = problem_of(request.config, range(request.seeds))
    jobs = _jobs(request, problem, kinds)
    if request.progress:
        print(f"{problem.summary}; {len(jobs)} trainings", file=sys.stderr)
    began = time.perf_counter()
    with EpochProgress(sum(job.fit.n_epochs for job in jobs), request.study.name, enabled=request.progress) as bar:
        records = train(jobs, problem, on_epoch=partial(heard, bar), parts=request.parts)
    seconds = request.parts.seconds_before + time.perf_counter() - began
    results = analyse(records)
    groups = {group.value: group for group in results.groups}
    firsts = {job.value: [own for own in jobs if own.value == job.value and own.fit == job.fit] for job in jobs}
    cells = [
        _Cell(kind, depth, groups[_name(kind, depth)], first_step(firsts[_name(kind, depth)], problem))
        for kind in kinds
        for depth in depths
    ]
    tuned = is_tuned(request)
    return Findings(
        data=problem.summary,
        sentence=_sentence(request, kinds, cells),
        caveats=caveats(results, problem.chance, tuned=tuned, early_stopping=request.fit.early_stopping),
        series=kinds,
        table=_table(cells, results, tuned=tuned),
        screen=_table(cells, results, tuned=tuned),
        runs=run_table(records, "network"),
        pictures=[_picture(kinds, cells, problem)],
        records=[record_row(record) for record in records],
        numbers=as_json(results)
        | {"chance": problem.chance, "first_step": {cell.group.value: first_as_json(cell.step) for cell in cells}},
        n_runs=len(jobs),
        seconds=seconds,
    )


def _name(kind: str, depth: int) -> str:
    return f"{kind} {depth}"


def _jobs(request: Request, problem: Problem, kinds: Sequence[str]) -> list[Job]:
    width = request.flags["width"]
    jobs = []
    for kind in kinds:
        for value in request.values:
            depth = int(value.text)
            changed: dict[str, Any] = {"net_arch": (width,) * depth, **KINDS[kind]}
            for fit in value.fits:
                own = of_length(replace(fit, **changed), problem.n_train, request.config.n_steps)
                jobs += [Job(_name(kind, depth), own, seed) for seed in problem.sides]
    return jobs


def _sentence(request: Request, kinds: Sequence[str], cells: Sequence[_Cell]) -> str:
    parts = []
    for kind in kinds:
        own = sorted((cell for cell in cells if cell.kind == kind), key=lambda cell: cell.depth)
        first, last = own[0], own[-1]
        reached = " and ".join(f"{percent(c.group.measures['test_accuracy'])} % with {c.depth}" for c in (first, last))
        ratio = scientific(typical(last.step.shrinks))
        parts.append(f"{kind} reaches {reached}, where the gradient of the first layer begins at {ratio} of the last's")
    return (
        f"On {request.config.data}, with {request.flags['width']} units in every hidden layer, test accuracy over the "
        f"number of hidden layers: {enumeration(parts)}."
    )


def _table(cells: Sequence[_Cell], results: Results, *, tuned: bool) -> Table:
    rows = []
    for cell in cells:
        m, chosen = cell.group.measures, results.chosen is cell.group
        row = [cell.kind, str(cell.depth), *([cell.group.rate] if tuned else []), percent(m["test_accuracy"])]
        row += [nats(m["test_loss"]), nats(replace(m["train_loss"], low=np.nan))]
        row += [scientific(typical(cell.step.gradients[:, 0])), scientific(typical(cell.step.shrinks))]
        rows.append(Row(row, "best" if chosen else "broken" if cell.group.n_diverged else ""))
    header = ["network", "hidden layers", *(["learning rate"] if tuned else []), "test accuracy, %", "test loss, nats"]
    return Table(
        [*header, "training loss", "first gradient", "first over last"],
        rows,
        "Means over seeds with 95 % bootstrap intervals; the best by its loss on validation rows is marked. First "
        "gradient: norm in the first hidden layer before the first step, and over that of the last hidden layer; "
        "geometric means.",
    )


def _picture(kinds: Sequence[str], cells: Sequence[_Cell], problem: Problem) -> Picture:
    errors, gradients, layers = {}, {}, {}
    for kind in kinds:
        own = sorted((cell for cell in cells if cell.kind == kind), key=lambda cell: cell.depth)
        depths = [cell.depth for cell in own]
        reached = [cell.group.measures["test_accuracy"] for cell in own]
        errors[kind] = Line(depths, *([100.0 * (1.0 - getattr(e, end)) for e in reached] for end in _ENDS))
        first = [typical(cell.step.gradients[:, 0]) for cell in own]
        gradients[kind] = Line(
            depths, [e.value or np.nan for e in first], [e.low for e in first], [e.high for e in first]
        )
        layers[kind] = layer_line(own[-1].step.gradients)
    deepest = max(cell.depth for cell in cells)
    ticks = {float(cell.depth): str(cell.depth) for cell in cells}
    panels = [
        Panel("hidden layers", "error on test rows (%)", errors, ticks, log_y=True,
              level=(100.0 * (1.0 - problem.chance), "largest class alone")),
        Panel("hidden layers", "first layer's gradient at the start (norm)", gradients, ticks, log_y=True),
        Panel(f"layer, of {deepest} hidden ones and the last", "gradient at the start (norm)", layers, log_y=True),
    ]  # fmt: skip
    return Picture(
        "depth",
        "What depth does to the error, and to gradients",
        "Left: means over seeds with 95 % intervals. Middle and right: before the first step, geometric means.",
        drawn(partial(plot_lines, panels=panels, series=kinds)),
        wide=True,
    )


_ENDS = ("value", "high", "low")  # of an accuracy, as those of an error
