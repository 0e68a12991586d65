"""The range test of a study: a learning rate that grows from step to step, in all seeds as one batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from entropic_rl.compare.statistics import Estimate, bootstrap, mean
from entropic_rl.compare.words import interval, number
from entropic_rl.diagnostics.range_test import RangeTest, read_range
from entropic_rl.page import Picture, Row, Table, drawn
from entropic_rl.parts import ALONE, Parts
from entropic_rl.plots.range_test import plot_range_test
from entropic_rl.schedules import Schedule
from entropic_rl.studies.experiment import Job, Problem, begin, problem_of
from entropic_rl.studies.findings import Findings
from entropic_rl.studies.study import Request
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.fitting import n_minibatches

__all__ = ["findings", "sweep"]

_START, _END, _STEPS = 1e-5, 10.0, 200
_SEED = 20_000
Array = NDArray[np.float64]


def findings(request: Request) -> Findings:
    """One growing rate per seed, read off and averaged."""
    problem = problem_of(request.config, range(request.seeds))
    began = time.perf_counter()
    rates, losses = sweep(request.fit, problem, request.config.n_steps or _STEPS, request.parts)
    seconds = time.perf_counter() - began
    tests = [read_range(rates, own) for own in losses]
    found = {name: _geometric([getattr(test, name) for test in tests]) for name in ("steepest", "lowest", "diverged")}
    table = _table(tests)
    return Findings(
        data=problem.summary,
        sentence=_sentence(request, tests, found),
        caveats=[
            "Read off the training loss of a network at its beginning: where to look for a rate, not the rate itself. "
            "What lower rates have taught counts as well, so that the loss is lowest at a rate rather too large.",
        ],
        series=["seeds"],
        table=table,
        screen=table,
        runs=table,
        pictures=[_picture(tests, found)],
        records=_records(tests),
        n_runs=len(tests),
        seconds=seconds,
        numbers={
            "rates": rates.tolist(),
            "losses": losses.tolist(),
            **{name: {"mean": e.value, "low": e.low, "high": e.high} for name, e in found.items() if e is not None},
        },
    )


def sweep(fit: FitConfig, problem: Problem, n_steps: int, parts: Parts = ALONE) -> tuple[Array, Array]:
    """Rates ``[T]`` and losses ``[S, T]``, each before its step; as many steps as whole epochs have, at least those."""
    per_epoch = n_minibatches(problem.n_train, fit.batch_size)
    n_epochs = max(1, -(-n_steps // per_epoch))
    growing = replace(fit, learning_rate=f"exponential:{_START:g}:{_END:g}", n_epochs=n_epochs, early_stopping=False)
    losses: list[Tensor] = []
    fitting, table, rows = begin([Job("", growing, seed) for seed in problem.sides], problem, on_step=losses.append)
    parts.check()
    fitting.run(table, rows["train"], on_epoch=lambda *_: parts.check())  # seconds; nothing of it is kept
    schedule, total = Schedule.parse(growing.learning_rate), n_epochs * per_epoch
    rates = np.array([schedule.at(step / total) for step in range(len(losses))])
    return rates, torch.stack(losses, 1).double().numpy()


def _geometric(values: Sequence[float | None]) -> Estimate | None:
    """The geometric mean with its interval; None where not every seed has one."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    logs = bootstrap(np.log(known), mean, np.random.default_rng(_SEED))
    return Estimate(*(float(np.exp(x)) for x in (logs.value, logs.low, logs.high)))


def _sentence(request: Request, tests: Sequence[RangeTest], found: dict[str, Estimate | None]) -> str:
    n, steepest, lowest, diverged = len(tests), found["steepest"], found["lowest"], found["diverged"]
    of = f"geometric means of {n} seeds" if n > 1 else "one seed"
    if steepest is None or lowest is None:
        fell = sum(test.steepest is not None for test in tests)
        return f"On {request.config.data} the loss falls in {fell} of {n} seeds only: there is nothing to suggest."
    end = f", and far above its least from {interval(diverged)} on" if diverged is not None else ""
    return (
        f"On {request.config.data} the training loss of {request.fit.optimizer} falls fastest at a learning rate of "
        f"{interval(steepest)} and is lowest at {interval(lowest)}{end} ({of})."
    )


def _table(tests: Sequence[RangeTest]) -> Table:
    rows = [Row([str(seed), *(_shown(x) for x in (t.steepest, t.lowest, t.diverged)), f"{t.smoothed.min():.4f}"])
            for seed, t in enumerate(tests)]  # fmt: skip
    return Table(
        ["seed", "falls fastest at", "lowest at", "diverges at", "least loss, nats"],
        rows,
        "Learning rates. The loss of minibatches is smoothed along the logarithm of the rate.",
    )


def _shown(rate: float | None) -> str:
    return "-" if rate is None else number(rate)


def _records(tests: Sequence[RangeTest]) -> list[dict[str, object]]:
    return [
        {"seed": seed, "steepest": test.steepest, "lowest": test.lowest, "diverged": test.diverged}
        for seed, test in enumerate(tests)
    ]


def _picture(tests: Sequence[RangeTest], found: dict[str, Estimate | None]) -> Picture:
    marks = {"falls fastest": found["steepest"], "lowest": found["lowest"], "diverges": found["diverged"]}
    svg = drawn(
        partial(
            plot_range_test,
            curves=[(test.rates, test.smoothed) for test in tests],
            marks={name: e for name, e in marks.items() if e is not None},
        )
    )
    return Picture(
        "range-test",
        "Loss while the rate grows",
        "Smoothed training loss, a line per seed; where it falls fastest, is lowest and diverges, geometric means with "
        "95 % intervals.",
        svg,
        wide=True,
    )
