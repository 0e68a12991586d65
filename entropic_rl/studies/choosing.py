"""Train, validation and test rows in use: what a choice reports of itself beside what is true."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import comb
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from entropic_rl.compare.statistics import Estimate
from entropic_rl.errors import ConfigError
from entropic_rl.page import Picture, Row, Table, drawn
from entropic_rl.plots.lines import Line, Panel, plot_lines
from entropic_rl.progress import EpochProgress
from entropic_rl.streams import Stream
from entropic_rl.studies.analysis import mean_of, percent
from entropic_rl.studies.experiment import Problem, measure, problem_of
from entropic_rl.studies.findings import Findings
from entropic_rl.studies.standard import heard
from entropic_rl.studies.study import Request
from entropic_rl.supervised import fitting as training
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.networks import Perceptrons
from entropic_rl.supervised.tasks import Classification

__all__ = ["Candidates", "candidates_of", "chosen_score", "findings"]

_RATES = (1e-4, 1e-1)  # learning rates, drawn evenly on a logarithmic scale
_L2 = (1e-5, 1e-1)
_TOGETHER = 160
_SIDES = ("validation", "test", "fresh")
_REPORTED = {  # chosen on -> what is said of the choice: its score on those rows, or on others
    "chosen on test rows: its test score": ("test", "test"),
    "chosen on test rows: the truth": ("test", "fresh"),
    "chosen on validation rows: its validation score": ("validation", "validation"),
    "chosen on validation rows: its test score": ("validation", "test"),
    "chosen on validation rows: the truth": ("validation", "fresh"),
}
_FLATTERY = {
    "test score, chosen on test rows": ("test", "test"),
    "validation score, chosen on validation rows": ("validation", "validation"),
    "test score, chosen on validation rows": ("validation", "test"),
}
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """C trained networks of S seeds.

    Attributes:
        accuracies: ``[S, C]`` by rows: ``validation``, ``test`` and ``fresh``.
        fits: S lists of C settings.
        n_rows: of each, in one seed.
    """

    accuracies: Mapping[str, Array]
    fits: list[list[FitConfig]]
    n_rows: Mapping[str, int]


def chosen_score(chooser: ArrayLike, reported: ArrayLike, k: int) -> float:
    """What the best of k is expected to report, over all choices of k among C candidates, ties broken at random.

    The best of the ranks is the i-th of C in ``comb(C - 1 - i, k - 1)`` of the ``comb(C, k)`` choices.

    Args:
        chooser: ``[C]``, the score by which the best is chosen.
        reported: ``[C]``, what it then says.
        k: 1 to C.
    """
    by, said = np.asarray(chooser, dtype=np.float64), np.asarray(reported, dtype=np.float64)
    n = len(by)
    if not 1 <= k <= n:
        raise ValueError(f"k: expected 1 to {n} of {n} candidates, got {k}")
    weights = np.array([comb(n - 1 - i, k - 1) / comb(n, k) for i in range(n)])
    _, group = np.unique(-by, return_inverse=True)  # 0 is the best
    sizes = np.bincount(group)
    ends = np.cumsum(sizes)
    shares = np.array([weights[end - size : end].sum() for end, size in zip(ends, sizes, strict=True)])
    return float(shares @ (np.bincount(group, said) / sizes))


def candidates_of(request: Request, problem: Problem, n: int) -> Candidates:
    """n candidates per seed, as batches; those that diverge have accuracy 0."""
    seeds = list(problem.sides)
    rows = {seed: _rows(problem, seed) for seed in seeds}
    fits = {seed: _drawn_fits(request.fit, seed, n) for seed in seeds}
    pairs = [(seed, c) for seed in seeds for c in range(n)]
    found: dict[str, list[Array]] = {side: [] for side in _SIDES}
    total = len(pairs) * request.fit.n_epochs
    with EpochProgress(total, request.study.name, enabled=request.progress) as bar:
        for start in range(0, len(pairs), _TOGETHER):
            batch = pairs[start : start + _TOGETHER]

            def tell(epoch: int, losses: torch.Tensor, batch: Sequence[Any] = batch, start: int = start) -> None:
                heard(bar, start * request.fit.n_epochs + epoch * len(batch), losses)

            names = [_SEEDS * seed + c for seed, c in batch]
            network = Perceptrons.of(request.fit, problem.table.x.shape[1], problem.n_classes, names)
            table = training.Table(problem.table.x.to(network.values.dtype), problem.table.target)
            own = [fits[seed][c] for seed, c in batch]
            fitting = training.Fitting(network, Classification(request.fit.label_smoothing), own, names,
                                       may_diverge=True)  # fmt: skip
            own_rows = torch.stack([rows[seed]["train"] for seed, _ in batch])
            request.parts.fit(fitting, table, own_rows, None, tell)
            for side in _SIDES:
                accuracy = measure(network, table, torch.stack([rows[seed][side] for seed, _ in batch]))["accuracy"]
                found[side].append(torch.where(fitting.diverged, 0.0, accuracy).numpy())
    accuracies = {side: np.concatenate(parts).reshape(len(seeds), n) for side, parts in found.items()}
    n_rows = {side: len(rows[seeds[0]][side]) for side in ("train", *_SIDES)}
    return Candidates(accuracies, list(fits.values()), n_rows)


_SEEDS = 10_000  # between those of first weights


def findings(request: Request) -> Findings:
    """Train candidates once, and let every number of them be chosen from."""
    counts = sorted(int(value.text) for value in request.values)
    problem = problem_of(request.config, range(request.seeds))
    _check_rows(problem)
    began = time.perf_counter()
    candidates = candidates_of(request, problem, counts[-1])
    seconds = request.parts.seconds_before + time.perf_counter() - began
    said = {name: _scores(candidates, counts, *pair) for name, pair in _REPORTED.items()}
    flattery = {
        name: _scores(candidates, counts, *pair) - _scores(candidates, counts, pair[0], "fresh")
        for name, pair in _FLATTERY.items()
    }
    n = candidates.n_rows
    return Findings(
        data=f"{problem.summary}; {n['train']} rows for training, {n['validation']} for validation, {n['test']} for "
        f"the test, {n['fresh']} that nobody looks at",
        sentence=_sentence(request, counts, said, flattery, n),
        caveats=[
            "Over all choices of so many among the candidates of a seed, exactly; intervals are over seeds.",
            f"Candidates: learning rates from {_RATES[0]:g} to {_RATES[1]:g} and l2 from {_L2[0]:g} to {_L2[1]:g}, "
            "logarithmically uniform, each with first weights and minibatches of its own.",
        ],
        series=list(_REPORTED),
        table=_table(counts, said, flattery),
        screen=_table(counts, {}, flattery),
        runs=_runs(candidates),
        pictures=[_picture(counts, said, flattery)],
        records=_records(candidates),
        numbers={
            "candidates": counts,
            "scores": {name: own.tolist() for name, own in said.items()},
            "flattery": {name: own.tolist() for name, own in flattery.items()},
            "n_rows": dict(n),
        },
        n_runs=candidates.accuracies["test"].size,
        seconds=seconds,
    )


def _check_rows(problem: Problem) -> None:
    for sides in problem.sides.values():
        if len(sides.test) < 2 * len(sides.validation):
            raise ConfigError(
                f"--test-fraction: expected at least twice as many test rows as validation rows, half of them to be "
                f"left alone, got {len(sides.test)} and {len(sides.validation)}"
            )


def _rows(problem: Problem, seed: int) -> dict[str, torch.Tensor]:
    """Rows by side; of the test side as many as there are validation rows are the test, the others are fresh."""
    sides = problem.sides[seed]
    order = Stream([seed], "fresh rows").permutation(len(sides.test))[0].numpy()
    test, fresh = np.split(sides.test[order], [len(sides.validation)])
    own = {"train": sides.train, "validation": sides.validation, "test": np.sort(test), "fresh": np.sort(fresh)}
    return {name: torch.from_numpy(rows) for name, rows in own.items()}


def _drawn_fits(fit: FitConfig, seed: int, n: int) -> list[FitConfig]:
    places = Stream([seed], "candidates").uniform(n, 2)[0].tolist()
    return [replace(fit, learning_rate=_between(_RATES, rate), l2=_between(_L2, strength)) for rate, strength in places]


def _between(ends: tuple[float, float], share: float) -> float:
    low, high = ends
    return float(low * (high / low) ** share)


def _scores(candidates: Candidates, counts: Sequence[int], by: str, said: str) -> Array:
    """``[S, K]``."""
    pairs = list(zip(candidates.accuracies[by], candidates.accuracies[said], strict=True))
    return np.array([[chosen_score(*pair, k) for k in counts] for pair in pairs])


def _points(estimate: Estimate) -> str:
    spread = "" if np.isnan(estimate.low) else f" [{100 * estimate.low:+.2f}, {100 * estimate.high:+.2f}]"
    return f"{100 * estimate.value:+.2f}{spread}"


def _sentence(
    request: Request,
    counts: Sequence[int],
    said: Mapping[str, Array],
    flattery: Mapping[str, Array],
    n_rows: Mapping[str, int],
) -> str:
    shown = {name: percent(mean_of(own[:, -1])) for name, own in said.items()}
    much = {name: _points(mean_of(own[:, -1])) for name, own in flattery.items()}
    on_test, on_validation, honest = _FLATTERY
    test, truth = list(_REPORTED)[:2]
    return (
        f"On {request.config.data} the best of {counts[-1]} on {n_rows['test']} test rows reports {shown[test]} % and "
        f"has {shown[truth]} % on rows that nobody looked at: it flatters itself by {much[on_test]} points. Chosen on "
        f"validation rows its validation score flatters as well, by {much[on_validation]} points, but its test score "
        f"is off by {much[honest]} points ({len(next(iter(said.values())))} seeds)."
    )


def _table(counts: Sequence[int], said: Mapping[str, Array], flattery: Mapping[str, Array]) -> Table:
    """A row per number of candidates, with what is ``said`` in front of what that flatters."""
    rows = []
    for i, k in enumerate(counts):
        cells = [f"{100 * own[:, i].mean():.2f}" for own in said.values()]
        rows.append(Row([str(k), *cells, *(_points(mean_of(own[:, i])) for own in flattery.values())]))
    return Table(
        ["candidates", *said, *(f"{name}: above the truth" for name in flattery)],
        rows,
        "Accuracies in %, differences in points; means over seeds with 95 % bootstrap intervals. The truth is the "
        "accuracy on rows that neither training nor any choice saw.",
    )


def _runs(candidates: Candidates) -> Table:
    rows = [Row([str(value) for value in own.values()]) for own in _records(candidates)]
    return Table(["seed", "candidate", "learning rate", "l2", "validation", "test", "fresh"], rows)


def _records(candidates: Candidates) -> list[dict[str, object]]:
    return [
        {"seed": s, "candidate": c, "learning_rate": f"{float(fit.learning_rate):.3g}", "l2": f"{fit.l2:.3g}"}
        | {side: round(float(own[s, c]), 6) for side, own in candidates.accuracies.items()}
        for s, fits in enumerate(candidates.fits)
        for c, fit in enumerate(fits)
    ]


def _picture(counts: Sequence[int], said: Mapping[str, Array], flattery: Mapping[str, Array]) -> Picture:
    ticks = {float(k): str(k) for k in counts}
    common: dict[str, Any] = {"xlabel": "candidates tried", "ticks": ticks, "log_x": True}
    names = {pair: name for name, pair in _REPORTED.items()}
    panels = [
        Panel(ylabel="accuracy (%)", lines={name: _line(counts, own) for name, own in said.items()}, **common),
        Panel(
            ylabel="above the truth (points)",
            lines={names[_FLATTERY[name]]: _line(counts, own) for name, own in flattery.items()},
            level=(0.0, "honest"),
            **common,
        ),
    ]
    return Picture(
        "splits",
        "What the best of many says of itself, and what is true",
        "Means over seeds with 95 % intervals. The truth is the accuracy on rows which neither training nor any choice "
        "saw; right, what scores are above it.",
        drawn(partial(plot_lines, panels=panels, series=list(_REPORTED), n_columns=2, height=4.8)),
        wide=True,
    )


def _line(counts: Sequence[int], scores: Array) -> Line:
    found = [mean_of(column) for column in scores.T]
    return Line(counts, *([100.0 * getattr(e, end) for e in found] for end in ("value", "low", "high")))
