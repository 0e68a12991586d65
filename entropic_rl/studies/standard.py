"""What most studies do: values x seeds as one batch, chosen on validation rows, reported on test rows."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from torch import Tensor

from entropic_rl.compare.statistics import Estimate
from entropic_rl.compare.words import enumeration, p_value
from entropic_rl.page import Picture, Row, Table, drawn
from entropic_rl.plots.studies import Series, plot_study
from entropic_rl.progress import EpochProgress
from entropic_rl.studies.analysis import Group, Results, analyse, as_json, caveats, mean_of, nats, percent, sentence
from entropic_rl.studies.experiment import Job, Problem, Record, problem_of, train
from entropic_rl.studies.findings import Findings
from entropic_rl.studies.study import Request
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.fitting import n_minibatches

__all__ = ["findings", "heard", "is_tuned", "jobs_of", "of_length", "record_row", "run_table"]

_SIGN = {"<": ""}  # before p-values that have one already
_LOSS, _ERROR = "cross-entropy on test rows (nats)", "error on test rows (%)"
_GAP = "test loss less training loss (nats)"


def findings(request: Request) -> Findings:
    """Train, choose, compare, draw."""
    seeds = range(request.seeds)
    problem = problem_of(request.config, seeds)
    jobs = jobs_of(request, problem)
    if request.progress:
        print(f"{problem.summary}; {len(jobs)} trainings", file=sys.stderr)
    began = time.perf_counter()
    total = sum(job.fit.n_epochs for job in jobs)
    with EpochProgress(total, request.study.name, enabled=request.progress) as bar:
        records = train(jobs, problem, on_epoch=partial(heard, bar), parts=request.parts)
    seconds = request.parts.seconds_before + time.perf_counter() - began
    results, tuned = analyse(records), is_tuned(request)
    setting = request.study.setting
    return Findings(
        data=problem.summary,
        sentence=sentence(results, setting.split(",")[0], request.config.data, tuned=tuned),
        caveats=[
            *_too_large(request, problem.n_train),
            *caveats(results, problem.chance, tuned=tuned, early_stopping=request.fit.early_stopping),
        ],
        series=[group.value for group in results.groups],
        table=_table(results, setting, tuned=tuned, gap=request.study.shows_gap),
        screen=_table(results, setting, tuned=tuned, gap=request.study.shows_gap, brief=True),
        runs=run_table(records, setting),
        pictures=[_picture(request, results, problem)],
        records=[record_row(record) for record in records],
        numbers=as_json(results) | {"chance": problem.chance},
        n_runs=len(jobs),
        seconds=seconds,
    )


def jobs_of(request: Request, problem: Problem) -> list[Job]:
    """Every value at every learning rate it may choose from, in every seed."""
    return [
        Job(value.text, of_length(fit, problem.n_train, request.config.n_steps), seed)
        for value in request.values
        for fit in value.fits
        for seed in problem.sides
    ]


def of_length(fit: FitConfig, n_train: int, n_steps: int | None) -> FitConfig:
    """With as many epochs as come nearest to so many gradient steps."""
    if n_steps is None:
        return fit
    return replace(fit, n_epochs=max(1, round(n_steps / n_minibatches(n_train, fit.batch_size))))


def _too_large(request: Request, n_train: int) -> list[str]:
    """Minibatches that do not exist."""
    found = [v.text for v in request.values if any(f.batch_size and f.batch_size > n_train for f in v.fits)]
    if not found:
        return []
    return [f"A run learns from {n_train} rows: minibatches of more are all of them ({enumeration(found)})."]


def heard(bar: EpochProgress, done: int, losses: Tensor) -> None:
    """Show the mean of those losses that are finite."""
    finite = losses[losses.isfinite()]
    if len(finite):
        bar.update(done, finite)


def is_tuned(request: Request) -> bool:
    """Whether validation chooses among learning rates."""
    return any(len(value.fits) > 1 for value in request.values)


def _table(results: Results, setting: str, *, tuned: bool, gap: bool = False, brief: bool = False) -> Table:
    """A row per value; ``gap``: with training loss; ``brief`` for the screen."""
    header = [setting, *(["learning rate"] if tuned else []), "test accuracy, %", "test loss, nats"]
    header += ["training loss"] if gap else []
    header += [] if brief else ["validation loss", "above the chosen, nats"]
    header += ["beside the chosen", "steps"]
    rows = []
    for g in results.groups:
        m, is_chosen = g.measures, results.chosen is not None and g.value == results.chosen.value
        cells = [g.value, *([g.rate] if tuned else []), percent(m["test_accuracy"]), nats(m["test_loss"])]
        cells += [nats(replace(m["train_loss"], low=np.nan))] if gap else []
        if not brief:
            cells.append(nats(replace(m["validation_loss"], low=np.nan)))
            cells.append("-" if g.against is None else _signed(g.against.difference))
        cells += ["chosen" if is_chosen else _verdict(g, len(results.seeds)), f"{g.n_steps:,}"]
        rows.append(Row(cells, "best" if is_chosen else "broken" if g.n_diverged else ""))
    return Table(
        header,
        rows,
        "Means over seeds with 95 % bootstrap intervals. Chosen: the least loss (cross-entropy) on validation rows. "
        "Differences of test loss are paired by seed; p: sign-flip test, two-sided, adjusted for all values (Holm).",
    )


def _verdict(group: Group, n: int) -> str:
    if group.against is None:
        return f"{group.n_diverged} of {n} diverged" if group.n_diverged else "-"
    return f"{group.against.verdict}, p {_SIGN.get(p_value(group.against.p)[:1], '= ')}{p_value(group.against.p)}"


def _signed(estimate: Estimate) -> str:
    spread = "" if np.isnan(estimate.low) else f" [{estimate.low:+.4f}, {estimate.high:+.4f}]"
    return f"{estimate.value:+.4f}{spread}"


def run_table(records: Sequence[Record], setting: str) -> Table:
    """A row per run."""
    rows = [
        Row(
            [r.job.value, str(r.job.fit.learning_rate), str(r.job.seed), f"{100 * r.measures['test_accuracy']:.2f}",
             *(f"{r.measures[name]:.4f}" for name in ("test_loss", "validation_loss", "train_loss")), f"{r.n_steps:,}"],
            "broken" if r.diverged else "",
        )
        for r in records
    ]  # fmt: skip
    header = [setting, "learning rate", "seed", "test accuracy, %", "test loss", "validation loss", "training loss"]
    return Table([*header, "steps"], rows)


def record_row(record: Record) -> dict[str, object]:
    """A run, for the CSV file."""
    job = record.job
    return {"value": job.value, "learning_rate": job.fit.learning_rate, "seed": job.seed, **record.measures,
            "n_steps": record.n_steps, "diverged": int(record.diverged)}  # fmt: skip


def _picture(request: Request, results: Results, problem: Problem) -> Picture:
    numbers = [value.number for value in request.values if value.number is not None and value.number > 0.0]
    svg = drawn(
        partial(
            plot_study,
            series=[_series(group, gap=request.study.shows_gap) for group in results.groups],
            setting=request.study.setting,
            numbers=numbers if len(numbers) == len(request.values) else None,
            chosen=None if results.chosen is None else [g.value for g in results.groups].index(results.chosen.value),
            levels={_ERROR: (100.0 * (1.0 - problem.chance), "largest class alone")},
        )
    )
    return Picture(
        request.study.name,
        "What it does to loss and error, and on the way there",
        "On test rows a dot per seed, means with 95 % intervals; the ring is the choice of the validation rows, by "
        "their loss. Right: training loss, means over the seeds that did not diverge.",
        svg,
        wide=True,
    )


def _series(group: Group, *, gap: bool) -> Series:
    accuracy, loss = group.measures["test_accuracy"], group.scores["test_loss"]
    low, high = 100.0 * (1.0 - accuracy.high), 100.0 * (1.0 - accuracy.low)
    scores = {_LOSS: loss, _ERROR: 100.0 * (1.0 - group.scores["test_accuracy"])}
    estimates = {_LOSS: group.measures["test_loss"], _ERROR: Estimate(100.0 * (1.0 - accuracy.value), low, high)}
    if gap:
        scores[_GAP] = loss - group.scores["train_loss"]
        estimates[_GAP] = mean_of(scores[_GAP])
    return Series(group.value, scores, estimates, group.curve, group.n_diverged)
