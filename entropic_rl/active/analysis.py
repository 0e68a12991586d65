"""Learning curves summed up: areas, labels to a target, differences from chance paired by seed, and sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entropic_rl.active.config import parse_stopping
from entropic_rl.active.experiment import Curve
from entropic_rl.active.score import MEASURES
from entropic_rl.active.stopping import should_stop
from entropic_rl.compare.statistics import (
    Estimate,
    area_under_curve,
    bootstrap,
    holm,
    mean,
    paired_difference,
    sign_flip_test,
)
from entropic_rl.compare.words import enumeration, p_value
from entropic_rl.run_directory import strict

__all__ = ["Against", "Group", "Results", "Stop", "analyse", "as_json", "caveats", "labels_text", "percent", "verdict"]

_SEED = 20_000

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Against:
    """A strategy beside chance with the same coefficient, seed by seed.

    Attributes:
        area: own area less that of chance.
        record: seeds won, tied and lost.
        p: of the sign-flip test of the areas, two-sided, adjusted for the number of strategies (Holm).
    """

    area: Estimate
    record: tuple[int, int, int]
    p: float


@dataclass(frozen=True, slots=True)
class Stop:
    """A stopping rule along the curves of a strategy.

    Attributes:
        rule: as it is written.
        stopped: seeds in which it held at some time.
        n_labels: mean over those.
        lost: mean accuracy at the end less that at the stop, over those.
    """

    rule: str
    stopped: int
    n_labels: float
    lost: float


@dataclass(frozen=True, slots=True)
class Group:
    """One strategy and coefficient.

    Attributes:
        strategy: its name.
        ent_coef: as text.
        name: both, where coefficients differ.
        curves: measure -> ``[S, K]``.
        areas: ``[S]``, mean accuracy along the curve.
        area: its mean with a 95 % bootstrap interval over seeds.
        final: accuracy with all labels, in the same way.
        to_target: ``[S]``, labels at which the target was first met; inf where it was not.
        stops: of each stopping rule.
        against: beside chance; None for chance itself.
    """

    strategy: str
    ent_coef: str
    name: str
    curves: dict[str, Array]
    areas: Array
    area: Estimate
    final: Estimate
    to_target: Array
    stops: list[Stop]
    against: Against | None = None

    @property
    def median_to_target(self) -> float:
        """Labels to the target in the median seed; inf if half of them never met it."""
        return float(np.median(self.to_target))


@dataclass(frozen=True, slots=True)
class Results:
    """All groups.

    Attributes:
        groups: strategy by strategy.
        n_labels: ``[K]``.
        seeds: S.
        target: accuracy to which labels were counted.
        tie: areas that differ by no more are a tie.
    """

    groups: list[Group]
    n_labels: list[int]
    seeds: list[int]
    target: float
    tie: float

    @property
    def best(self) -> Group:
        """The one of the largest area."""
        return max(self.groups, key=lambda group: group.area.value)

    def chance(self, group: Group) -> Group:
        """What a group is compared with."""
        return next(g for g in self.groups if g.strategy == "random" and g.ent_coef == group.ent_coef)

    def record(self, a: Group, b: Group) -> tuple[int, int, int]:
        """Seeds in which a's area is above, as good as, or below b's."""
        return _record(a.areas, b.areas, self.tie)


def analyse(curves: Sequence[Curve], *, target: float, tie: float, stopping: Sequence[str] = ()) -> Results:
    """Sum curves up by strategy and coefficient; ``random`` has to be among them."""
    n_labels = [score.n_labels for score in curves[0].scores]
    seeds = sorted({curve.trial.seed for curve in curves})
    coefs = list(dict.fromkeys(curve.trial.coefficient for curve in curves))
    by_group: dict[tuple[str, str], list[Curve]] = {}
    for curve in sorted(curves, key=lambda curve: curve.trial.seed):
        by_group.setdefault((curve.trial.strategy, curve.trial.coefficient), []).append(curve)
    keys = list(dict.fromkeys((curve.trial.strategy, curve.trial.coefficient) for curve in curves))
    groups = [_group(key, by_group[key], n_labels, target, stopping, several=len(coefs) > 1) for key in keys]
    results = Results(groups, n_labels, seeds, target, tie)
    return Results(_beside_chance(results), n_labels, seeds, target, tie)


def verdict(results: Results) -> list[str]:
    """What the numbers say, defeats included."""
    n = len(results.seeds)
    best = results.best
    said = []
    if best.against is None:
        said.append(f"Nothing beats chance here: random has the largest area, {percent(best.area)} %.")
    else:
        said.append(
            f"{best.name} learns fastest: {percent(best.area)} % right on average along the curve, "
            f"{_points(best.against.area)} above chance{_certain(best.against, n)}."
        )
        chance = results.chance(best)
        ours, theirs = best.median_to_target, chance.median_to_target
        if math.isfinite(ours):
            said.append(
                f"It reaches {results.target:.0%} with {ours:.0f} labels in the median seed{_fewer(ours, theirs)}."
            )
    worse = [g for g in results.groups if g.against is not None and g.against.area.high < 0.0]
    if worse:
        listed = enumeration([f"{g.name} ({_points(g.against.area)})" for g in worse if g.against is not None])
        said.append(f"Worse than chance, beyond what seeds explain: {listed}.")
    said.append(_calibration(results))
    return said


def caveats(results: Results, *, model: str) -> list[str]:
    """What to bear in mind."""
    notes = []
    if len(results.seeds) < 6:
        notes.append(f"With {len(results.seeds)} seed{'s' if len(results.seeds) > 1 else ''} no paired test can fall "
                     "under 0.05: it takes 6.")  # fmt: skip
    notes.append(
        "Strategies of a seed share pool, test rows, first labels and first weights: differences are paired. Test rows "
        "are never asked about; with other splits and data the order may be another."
    )
    if model == "svm":
        notes.append("A support vector machine gives no probabilities: its calibration is that of a softmax over its "
                     "decision values.")  # fmt: skip
    return notes


def as_json(results: Results) -> dict[str, Any]:
    """All numbers, for machines."""
    found = []
    for group in results.groups:
        own = {name: values.tolist() for name, values in group.curves.items()}
        found.append({
            "strategy": group.strategy,
            "ent_coef": group.ent_coef,
            "area": asdict(group.area) | {"scores": group.areas.tolist()},
            "final_accuracy": asdict(group.final),
            "labels_to_target": group.to_target.tolist(),
            "stopping": [asdict(stop) for stop in group.stops],
            "against_random": None if group.against is None else asdict(group.against),
            "curves": own,
        })  # fmt: skip
    content = {"seeds": results.seeds, "n_labels": results.n_labels, "target_accuracy": results.target}
    return strict({**content, "tie": results.tie, "groups": found})


def percent(estimate: Estimate) -> str:
    """A fraction in percent with its interval, if there is one."""
    if math.isnan(estimate.low):
        return f"{100 * estimate.value:.2f}"
    return f"{100 * estimate.value:.2f} [{100 * estimate.low:.2f}, {100 * estimate.high:.2f}]"


def labels_text(n: float) -> str:
    """A number of labels; a dash for never."""
    return f"{n:.0f}" if math.isfinite(n) else "-"


def _group(
    key: tuple[str, str],
    curves: Sequence[Curve],
    n_labels: Sequence[int],
    target: float,
    stopping: Sequence[str],
    *,
    several: bool,
) -> Group:
    strategy, coef = key
    table = {name: np.array([[getattr(score, name) for score in c.scores] for c in curves]) for name in MEASURES}
    accuracy = table["accuracy"]
    areas = np.array([area_under_curve(n_labels, row) for row in accuracy])
    met = accuracy >= target
    first = np.where(met.any(1), np.asarray(n_labels, dtype=float)[met.argmax(1)], np.inf)
    rng = np.random.default_rng(_SEED)
    return Group(
        strategy, coef, f"{strategy}, {coef}" if several else strategy, table, areas, bootstrap(areas, mean, rng),
        bootstrap(accuracy[:, -1], mean, rng), first, [_stop(rule, curves) for rule in stopping],
    )  # fmt: skip


def _stop(spec: str, curves: Sequence[Curve]) -> Stop:
    rule = parse_stopping(spec)
    found = []
    for curve in curves:
        held = [k for k in range(len(curve.rounds)) if should_stop(rule, curve.rounds[: k + 1])]
        if held:
            at = curve.scores[held[0]]
            found.append((at.n_labels, curve.scores[-1].accuracy - at.accuracy))
    means = np.mean(found, axis=0).tolist() if found else [math.nan, math.nan]
    return Stop(str(rule), len(found), *means)


def _beside_chance(results: Results) -> list[Group]:
    rng = np.random.default_rng(_SEED)
    pairs = [(group, results.chance(group)) for group in results.groups if group.strategy != "random"]
    tests = [sign_flip_test(own.areas - chance.areas, rng) for own, chance in pairs]
    found = {
        own.name: Against(paired_difference(own.areas, chance.areas, rng), results.record(own, chance), p)
        for (own, chance), p in zip(pairs, holm(tests).tolist() if tests else [], strict=True)
    }
    return [replace(group, against=found.get(group.name)) for group in results.groups]


def _record(a: Array, b: Array, tie: float) -> tuple[int, int, int]:
    difference = a - b
    won, lost = int((difference > tie).sum()), int((difference < -tie).sum())
    return won, len(a) - won - lost, lost


def _fewer(ours: float, theirs: float) -> str:
    if not math.isfinite(theirs):
        return "; chance does not get there in half of the seeds"
    if ours == theirs:
        return ", as does chance"
    return f", {abs(1 - ours / theirs):.0%} {'fewer' if ours < theirs else 'more'} than chance ({theirs:.0f})"


def _calibration(results: Results) -> str:
    """Which model says best what it knows at the end, and who is too sure."""
    last = {group.name: group.curves["nll"][:, -1].mean() for group in results.groups}
    least = min(results.groups, key=lambda group: last[group.name])
    gaps = {group.name: 100 * group.curves["signed_gap"][:, -1].mean() for group in results.groups}
    sure = max(results.groups, key=lambda group: abs(gaps[group.name]))
    word = "surer" if gaps[sure.name] > 0.0 else "less sure"
    return (
        f"With all labels the least NLL is that of {least.name} ({last[least.name]:.3f} nats); furthest from "
        f"calibrated is {sure.name}, on average {abs(gaps[sure.name]):.1f} points {word} than right."
    )


def _points(estimate: Estimate) -> str:
    if math.isnan(estimate.low):
        return f"{100 * estimate.value:+.2f} points"
    return f"{100 * estimate.value:+.2f} [{100 * estimate.low:+.2f}, {100 * estimate.high:+.2f}] points"


def _certain(against: Against, n: int) -> str:
    won, tied, lost = against.record
    text = f", won {won}, tied {tied}, lost {lost} of {n} seeds"
    if n < 6:
        return text
    shown = p_value(against.p)
    return f"{text}, p {shown if shown.startswith('<') else f'= {shown}'}"
