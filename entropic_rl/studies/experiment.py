"""Runs of a study: jobs of any settings, trained together as far as their settings allow, and measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from entropic_rl.datasets import Dataset, load, split
from entropic_rl.datasets.splits import Split
from entropic_rl.parts import ALONE, Parts
from entropic_rl.studies.config import StudyConfig
from entropic_rl.supervised.config import PER_RUN, FitConfig
from entropic_rl.supervised.fitting import Fitting, Table, n_minibatches
from entropic_rl.supervised.networks import Network, Perceptrons
from entropic_rl.supervised.tasks import Classification

__all__ = ["Job", "Problem", "Record", "batches_of", "begin", "measure", "measures_of", "problem_of", "train"]

_TOGETHER = 160  # runs of a batch: more gain no time and cost memory
_ROWS = 1024  # of a run that are measured together
_SIDES = ("train", "validation", "test")


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Data of S seeds below each other, each split and scaled on its own.

    Attributes:
        table: all rows of all seeds.
        sides: rows of the table for training, validation and test, by seed.
        n_classes: C.
        chance: share of the largest class among test rows, mean over seeds.
        summary: of the data, in words.
    """

    table: Table
    sides: dict[int, Split]
    n_classes: int
    chance: float
    summary: str

    @property
    def n_train(self) -> int:
        """Rows that a run learns from; those of the first seed, where groups make them differ."""
        return len(next(iter(self.sides.values())).train)


@dataclass(frozen=True, slots=True)
class Job:
    """One training.

    Attributes:
        value: what is studied, as text.
        fit: its settings.
        seed: of data, split, first weights and minibatches.
    """

    value: str
    fit: FitConfig
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One trained run.

    Attributes:
        job: what was trained.
        measures: by name; ``accuracy`` (a fraction) and ``loss`` (cross-entropy in nats) of ``train_``, ``validation_``
            and ``test_`` rows. Of a run that diverged losses are infinite, accuracies NaN.
        curve: training loss by epoch, ``[E]``.
        n_steps: gradient steps.
        diverged: whether its loss was not finite any more.
    """

    job: Job
    measures: dict[str, float]
    curve: NDArray[np.float64]
    n_steps: int
    diverged: bool


def problem_of(config: StudyConfig, seeds: Sequence[int]) -> Problem:
    """The data of each seed, drawn anew where it is generated, split with every class on every side.

    Raises:
        ConfigError: it is unknown or not usable.
    """
    names = ("target", "group", "n", "noise", "label_noise")
    chosen: dict[str, Any] = {name: getattr(config, name) for name in names}
    v, t = config.validation_fraction, config.test_fraction
    parts, targets, sides, start, chances = [], [], {}, 0, []
    for seed in seeds:
        dataset = load(config.data, **chosen, seed=seed)
        own = split(dataset, ((1.0 - t) * (1.0 - v), (1.0 - t) * v, t), seed=seed)
        parts.append(_scaled(dataset, own.train) if config.standardize else dataset.X)
        targets.append(dataset.y)
        sides[seed] = Split(*(rows + start for rows in own))
        chances.append(np.bincount(dataset.y[own.test]).max() / len(own.test))
        start += len(dataset)
    table = Table(torch.from_numpy(np.concatenate(parts)), torch.from_numpy(np.concatenate(targets)))
    return Problem(table, sides, len(dataset.classes), float(np.mean(chances)), dataset.summary())


def batches_of(jobs: Sequence[Job], problem: Problem) -> Iterator[list[int]]:
    """Places of jobs that train as one batch: alike but for what may differ, with equally many rows on every side."""
    alike: dict[Any, list[int]] = {}
    for place, job in enumerate(jobs):
        key = replace(job.fit, **{name: FitConfig.__dataclass_fields__[name].default for name in PER_RUN})
        alike.setdefault((key, *map(len, problem.sides[job.seed])), []).append(place)
    for places in alike.values():
        for start in range(0, len(places), _TOGETHER):
            yield places[start : start + _TOGETHER]


def train(
    jobs: Sequence[Job],
    problem: Problem,
    *,
    on_epoch: Callable[[int, Tensor], None] | None = None,
    parts: Parts = ALONE,
) -> list[Record]:
    """Train all jobs and measure them, in their order.

    Runs of one seed begin with the same weights where they have the same layers, and see the same minibatches where
    those are of one size: values are paired. ``on_epoch`` hears how many epochs, weighted by runs, are done, and the
    latest losses; every batch is one of the ``parts``.
    """
    found: dict[int, Record] = {}
    done = 0
    for places in batches_of(jobs, problem):
        batch = [jobs[place] for place in places]
        heard = None if on_epoch is None else _counting(on_epoch, done, len(batch))
        found |= zip(places, _fit(batch, problem, heard, parts), strict=True)
        done += batch[0].fit.n_epochs * len(batch)
        if on_epoch is not None:
            on_epoch(done, torch.zeros(0))
    return [found[place] for place in range(len(jobs))]


def begin(
    batch: Sequence[Job],
    problem: Problem,
    *,
    network: Network | None = None,
    on_step: Callable[[Tensor], None] | None = None,
) -> tuple[Fitting, Table, dict[str, Tensor]]:
    """Networks of a batch, new ones or ``network``, and what trains them, the table in their type, and rows ``[R, n]``
    by side."""
    fit, seeds = batch[0].fit, [job.seed for job in batch]
    dtype = getattr(torch, fit.dtype)
    network = network or Perceptrons.of(fit, problem.table.x.shape[1], problem.n_classes, seeds)
    task = Classification(fit.label_smoothing)
    fitting = Fitting(network, task, [job.fit for job in batch], seeds, on_step=on_step, may_diverge=True)
    rows = {name: torch.from_numpy(np.stack([getattr(problem.sides[seed], name) for seed in seeds])) for name in _SIDES}
    return fitting, Table(problem.table.x.to(dtype), problem.table.target), rows


def _fit(
    batch: Sequence[Job], problem: Problem, on_epoch: Callable[[int, Tensor], None] | None, parts: Parts
) -> list[Record]:
    """Train a batch."""
    fit = batch[0].fit
    fitting, table, rows = begin(batch, problem)
    parts.fit(fitting, table, rows["train"], rows["validation"] if fit.early_stopping else None, on_epoch)
    measured = {name: measure(fitting.network, table, own) for name, own in rows.items()}
    curves = torch.stack(fitting.history["loss"], 1).double().numpy()
    per_epoch = n_minibatches(rows["train"].shape[1], fit.batch_size)
    records = []
    for run, job in enumerate(batch):
        diverged, n_epochs = bool(fitting.diverged[run]), int(fitting.n_epochs[run])
        measures = measures_of(measured, run)
        if diverged:
            measures = {name: np.inf if name.endswith("loss") else np.nan for name in measures}
        records.append(Record(job, measures, curves[run, :n_epochs], n_epochs * per_epoch, diverged))
    return records


def measures_of(measured: Mapping[str, Mapping[str, Tensor]], run: int) -> dict[str, float]:
    """Of one run, by side and name."""
    return {f"{side}_{name}": float(own[run]) for side, both in measured.items() for name, own in both.items()}


@torch.no_grad()
def measure(network: Network, table: Table, rows: Tensor) -> dict[str, Tensor]:
    """Accuracy and cross-entropy of ``rows [R, n]``, ``[R]`` each."""
    right, surprise = torch.zeros(len(rows), dtype=torch.float64), torch.zeros(len(rows), dtype=torch.float64)
    for part in rows.split(_ROWS, 1):
        target = table.target[part]
        log_p = network(table.x[part]).double().log_softmax(-1)
        right += (log_p.argmax(-1) == target).double().sum(1)
        surprise -= log_p.gather(-1, target.unsqueeze(-1)).squeeze(-1).sum(1)
    return {"accuracy": right / rows.shape[1], "loss": surprise / rows.shape[1]}


def _scaled(dataset: Dataset, train: NDArray[np.int64]) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = StandardScaler().fit(dataset.X[train]).transform(dataset.X)
    return scaled


def _counting(on_epoch: Callable[[int, Tensor], None], done: int, n_runs: int) -> Callable[[int, Tensor], None]:
    return lambda epoch, losses: on_epoch(done + epoch * n_runs, losses)
