"""Networks without most of their weights: pruned after training, or sparse from the start; masks on the run axis."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from entropic_rl.compare.statistics import Estimate, paired_difference
from entropic_rl.compare.words import enumeration
from entropic_rl.errors import ConfigError
from entropic_rl.page import Picture, Row, Table, drawn
from entropic_rl.parts import ALONE, Parts
from entropic_rl.plots.lines import Line, Panel, plot_lines
from entropic_rl.streams import Stream
from entropic_rl.studies.analysis import Group, Results, analyse, as_json, percent
from entropic_rl.studies.experiment import Job, Problem, Record, begin, measure, measures_of, problem_of
from entropic_rl.studies.findings import Findings
from entropic_rl.studies.standard import record_row, run_table
from entropic_rl.studies.study import Request
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.fitting import n_minibatches
from entropic_rl.supervised.networks import Network, Perceptrons
from entropic_rl.supervised.pruning import Pruned, magnitude_mask, random_mask

__all__ = ["METHODS", "findings", "prune"]

METHODS = ("one-shot", "fine-tuned", "one-shot after L1", "fine-tuned after L1", "sparse from the start")
_TOLERATED = 0.01  # of accuracy below the dense network's
_SEED = 20_000
_Network = TypeVar("_Network", bound=Network)


def findings(request: Request) -> Findings:
    """Prune in every way at every sparsity."""
    n_epochs, l1 = request.flags["fine_tuning"], request.flags["sparse_l1"]
    if n_epochs < 1 or not l1 >= 0.0:
        raise ConfigError(
            f"--fine-tuning and --sparse-l1: expected at least 1 epoch and a weight >= 0, got {n_epochs} and {l1:g}"
        )
    problem = problem_of(request.config, range(request.seeds))
    sparsities = [float(value.text) for value in request.values]
    began = time.perf_counter()
    records, n_weights = prune(request.fit, problem, sparsities, n_tuning=n_epochs, l1=l1, parts=request.parts)
    seconds = request.parts.seconds_before + time.perf_counter() - began
    results = analyse(records)
    table = _table(results, sparsities)
    return Findings(
        data=problem.summary,
        sentence=_sentence(request, results, sparsities, n_weights),
        caveats=[
            f"Nothing is chosen. Dense networks trained for {request.fit.n_epochs} epochs, fine-tuned and sparse ones "
            f"for {n_epochs} more.",
            "Weights that are 0 are multiplied with all the same: nothing becomes faster here.",
        ],
        series=list(METHODS),
        table=table,
        screen=table,
        runs=run_table(records, "weights pruned"),
        pictures=[_picture(results, sparsities, problem)],
        records=[record_row(record) for record in records],
        numbers=as_json(results) | {"n_weights": n_weights, "chance": problem.chance},
        n_runs=len(problem.sides) * (2 + 3 * len(sparsities)),
        seconds=seconds,
    )


def prune(
    fit: FitConfig,
    problem: Problem,
    sparsities: Sequence[float],
    *,
    n_tuning: int,
    l1: float,
    parts: Parts = ALONE,
) -> tuple[list[Record], int]:
    """Records by method, sparsity (percent) and seed, named ``METHOD at X %`` and ``dense``; and how many weights.

    All sparsities of all seeds are one batch, a mask per run, and one of the ``parts``.
    """
    seeds = list(problem.sides)
    longer = replace(fit, n_epochs=fit.n_epochs + n_tuning)
    tuning = replace(fit, n_epochs=n_tuning)
    places = torch.arange(len(seeds)).repeat(len(sparsities))
    shares = [percentage / 100.0 for percentage in sparsities for _ in seeds]
    many, again, long = (_jobs(own, seeds * len(sparsities)) for own in (fit, tuning, longer))
    shape = (problem.table.x.shape[1], problem.n_classes)
    dense, flat = (
        _trained(_jobs(own, seeds), problem, Perceptrons.of(own, *shape, seeds), parts)
        for own in (fit, replace(fit, l1=l1))
    )

    def pruned(network: Perceptrons) -> Pruned:
        copies = network.take(places)
        return Pruned(copies, magnitude_mask(copies.values, copies.is_weight, shares))

    new = Perceptrons.of(fit, *shape, [job.seed for job in many])
    drawn_mask = random_mask(Stream([job.seed for job in many], "mask"), new.is_weight, shares)
    by_method: dict[str, tuple[list[Job], Network]] = {
        "one-shot": (many, pruned(dense)),
        "fine-tuned": (many, _trained(again, problem, pruned(dense), parts)),
        "one-shot after L1": (many, pruned(flat)),
        "fine-tuned after L1": (many, _trained(again, problem, pruned(flat), parts)),
        "sparse from the start": (many, _trained(long, problem, Pruned(new, drawn_mask), parts)),
    }
    per_epoch = n_minibatches(problem.n_train, fit.batch_size)
    once = ("one-shot", "one-shot after L1")
    records = _records(_jobs(fit, seeds), dense, problem, ["dense"] * len(seeds), fit.n_epochs * per_epoch)
    for method, (jobs, network) in by_method.items():
        names = [_name(method, percentage) for percentage in sparsities for _ in seeds]
        records += _records(jobs, network, problem, names, (fit if method in once else longer).n_epochs * per_epoch)
    return records, int(dense.is_weight.sum())


def _jobs(fit: FitConfig, seeds: Sequence[int]) -> list[Job]:
    return [Job("", fit, seed) for seed in seeds]


def _trained(jobs: Sequence[Job], problem: Problem, network: _Network, parts: Parts) -> _Network:
    """The networks after training."""
    fitting, table, rows = begin(jobs, problem, network=network)
    parts.fit(fitting, table, rows["train"])
    return network


def _records(
    jobs: Sequence[Job], network: Network, problem: Problem, names: Sequence[str], n_steps: int
) -> list[Record]:
    _, table, rows = begin(jobs, problem, network=network)
    measured = {side: measure(network, table, own) for side, own in rows.items()}
    return [
        Record(replace(job, value=name), measures_of(measured, run), np.zeros(0), n_steps, False)
        for run, (job, name) in enumerate(zip(jobs, names, strict=True))
    ]


def _name(method: str, percentage: float) -> str:
    return f"{method} at {percentage:g} %"


def _by_method(results: Results, sparsities: Sequence[float]) -> dict[str, list[Group]]:
    groups = {group.value: group for group in results.groups}
    return {method: [groups[_name(method, x)] for x in sparsities] for method in METHODS}


def _drop(group: Group, dense: Group) -> Estimate:
    """Accuracy below that of the dense network, paired by seed."""
    pair = (dense.scores["test_accuracy"], group.scores["test_accuracy"])
    return paired_difference(*pair, np.random.default_rng(_SEED))


def _sentence(request: Request, results: Results, sparsities: Sequence[float], n_weights: int) -> str:
    dense, last = results.groups[0], int(np.argmax(sparsities))
    kept, ends = [], []
    for method, groups in _by_method(results, sparsities).items():
        fine = [x for x, group in zip(sparsities, groups, strict=True) if _drop(group, dense).value <= _TOLERATED]
        kept.append(f"{max(fine):g} % {method}" if fine else f"none {method}")
        ends.append(f"{percent(groups[last].measures['test_accuracy'])} % {method}")
    return (
        f"On {request.config.data} a network of {n_weights:,} weights has a test accuracy of "
        f"{percent(dense.measures['test_accuracy'])} %; it loses at most {100 * _TOLERATED:g} point (mean) up to "
        f"{enumeration(kept)}; without {sparsities[last]:g} % of its weights it has {enumeration(ends)}."
    )


def _table(results: Results, sparsities: Sequence[float]) -> Table:
    rows = [Row(["dense", percent(results.groups[0].measures["test_accuracy"]), *["-"] * (len(METHODS) - 1)])]
    by_method = _by_method(results, sparsities)
    for i, percentage in enumerate(sparsities):
        rows.append(Row([f"{percentage:g}", *(percent(by_method[m][i].measures["test_accuracy"]) for m in METHODS)]))
    return Table(
        ["weights pruned, %", *METHODS],
        rows,
        "Test accuracy, %; means over seeds with 95 % bootstrap intervals. The smallest weights of every layer go; "
        "from the start as many are drawn at random.",
    )


def _picture(results: Results, sparsities: Sequence[float], problem: Problem) -> Picture:
    order = np.argsort(sparsities)
    ticks = {float(i): f"{sparsities[place]:g}" for i, place in enumerate(order)}
    errors, losses = {}, {}
    for method, unordered in _by_method(results, sparsities).items():
        groups = [unordered[place] for place in order]
        e = [group.measures["test_accuracy"] for group in groups]
        errors[method] = Line(list(ticks), *([100.0 * (1.0 - getattr(x, end)) for x in e] for end in
                                             ("value", "high", "low")))  # fmt: skip
        own = [group.measures["test_loss"] for group in groups]
        losses[method] = Line(list(ticks), *([getattr(x, end) for x in own] for end in ("value", "low", "high")))
    panels = [
        Panel("weights pruned (%)", "error on test rows (%)", errors, ticks, log_y=True,
              level=(100.0 * (1.0 - problem.chance), "largest class alone")),
        Panel("weights pruned (%)", "cross-entropy on test rows (nats)", losses, ticks, log_y=True),
    ]  # fmt: skip
    return Picture(
        "pruning",
        "What is left without weights",
        "On test rows, means over seeds with 95 % intervals.",
        drawn(partial(plot_lines, panels=panels, series=list(METHODS))),
        wide=True,
    )
