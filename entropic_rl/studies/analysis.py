"""Means over seeds with intervals, the choice by validation, what can be told apart from it, and one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entropic_rl.compare.statistics import Estimate, bootstrap, holm, mean, paired_difference, sign_flip_test
from entropic_rl.compare.words import enumeration
from entropic_rl.schedules import Schedule, shortest
from entropic_rl.studies.experiment import Record

__all__ = [
    "LEVEL", "Against", "Group", "Results", "analyse", "as_json", "caveats", "mean_of", "nats", "percent", "sentence",
]  # fmt: skip

LEVEL = 0.05
_SEED = 20_000
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Against:
    """A value's test loss beside that of the chosen one, paired by seed.

    Attributes:
        difference: own less the chosen one's, nats; positive is worse.
        wins: seeds in which it is lower.
        p: of the sign-flip test, two-sided, adjusted for all values (Holm).
    """

    difference: Estimate
    wins: int
    p: float

    @property
    def verdict(self) -> str:
        """``worse``, ``better``, or ``alike`` where the two cannot be told apart."""
        if self.p >= LEVEL:
            return "alike"
        return "worse" if self.difference.value > 0.0 else "better"


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """One value.

    Attributes:
        value: as text.
        rate: the learning rate it was given, or that validation chose for it; of a schedule the one it is named after.
        n_steps: gradient steps of a run.
        n_diverged: runs whose loss was not finite any more.
        scores: ``[S]`` by measure, in the order of the seeds.
        measures: their means over the runs that did not diverge, with 95 % bootstrap intervals over seeds.
        curve: training loss by epoch, mean over the same runs, ``[E]``; empty if there are none.
        against: beside the chosen value; None for itself, and where a run of either diverged.
    """

    value: str
    rate: str
    n_steps: int
    n_diverged: int
    scores: dict[str, Array]
    measures: dict[str, Estimate]
    curve: Array
    against: Against | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """All values.

    Attributes:
        groups: in the order of the values.
        seeds: S.
        chosen: of the least mean loss on validation rows, among those none of whose runs diverged; None if there is
            none.
    """

    groups: list[Group]
    seeds: list[int]
    chosen: Group | None

    def called(self, verdict: str) -> list[str]:
        """Values of one verdict."""
        return [g.value for g in self.groups if g.against is not None and g.against.verdict == verdict]


def analyse(records: Sequence[Record]) -> Results:
    """Sum records up by value, each at the learning rate that validation chose for it if there were several."""
    by_fit: dict[tuple[str, Any], list[Record]] = {}
    for record in sorted(records, key=lambda record: record.job.seed):
        by_fit.setdefault((record.job.value, record.job.fit), []).append(record)
    groups = []
    for value in dict.fromkeys(record.job.value for record in records):
        tried = [_group(own) for (name, _), own in by_fit.items() if name == value]
        groups.append(min(tried, key=_validation_loss))
    seeds = sorted({record.job.seed for record in records})
    finished = [group for group in groups if not group.n_diverged]
    if not finished:
        return Results(groups, seeds, None)
    chosen = min(finished, key=_validation_loss)
    return Results(_beside(groups, chosen), seeds, chosen)


def sentence(results: Results, setting: str, data: str, *, tuned: bool = False) -> str:
    """What the numbers say, and no more."""
    chosen, n = results.chosen, len(results.seeds)
    failed = [(g.value, g.n_diverged) for g in results.groups if g.n_diverged]
    diverged = _diverged(failed, n)
    if chosen is None:
        return f"On {data} no {setting} kept every run finite: {diverged}."
    at = f" (at a learning rate of {chosen.rate})" if tuned else ""
    accuracy, loss = percent(chosen.measures["test_accuracy"]), nats(chosen.measures["test_loss"])
    said = (
        f"On {data} validation chooses the {setting} {chosen.value}{at}: test accuracy {accuracy} %, test loss {loss} "
        f"nats, {f'means of {n} seeds' if n > 1 else 'one seed'}"
    )
    parts = [
        f"{enumeration(values)} {'is' if len(values) == 1 else 'are'} {verdict}"
        for verdict in ("better", "worse")
        if (values := results.called(verdict))
    ]
    if alike := results.called("alike"):
        parts.append(f"{enumeration(alike)} cannot be told apart from it")
    beside = [f"in test loss {enumeration(parts)}"] if parts else []
    return "; ".join([said, *beside, *([diverged] if diverged else [])]) + "."


def caveats(results: Results, chance: float, *, tuned: bool = False, early_stopping: bool = False) -> list[str]:
    """What to bear in mind."""
    n, k = len(results.seeds), len(results.groups)
    notes = []
    least = 2.0 ** (1 - n) * max(k - 1, 1)
    if least >= LEVEL:
        notes.append(
            f"With {n} seed{'s' if n > 1 else ''} and {k} values no difference can be told from chance "
            "(sign-flip test, adjusted for their number): give more seeds."
        )
    notes.append(
        "Chosen on validation rows"
        + (", the learning rate of each value as well" if tuned else "")
        + (", which early stopping looked at, too" if early_stopping else "")
        + "; the test rows were looked at once, after it."
    )
    lost = [g.value for g in results.groups if _no_better_than(chance, g)]
    if lost:
        notes.append(f"No more accurate than the largest class alone ({100 * chance:.1f} %): {enumeration(lost)}.")
    notes.append("Intervals over seeds are of splits, first weights and minibatches, and say nothing about other data.")
    return notes


def mean_of(scores: Array) -> Estimate:
    """Mean of those of ``[S]`` that are finite with its interval; NaN if none is."""
    finite = scores[np.isfinite(scores)]
    nothing = Estimate(np.nan, np.nan, np.nan)
    return bootstrap(finite, mean, np.random.default_rng(_SEED)) if len(finite) else nothing


def nats(estimate: Estimate) -> str:
    """A loss with its interval, if there is one."""
    return _spread(estimate, lambda x: f"{x:.4f}" if x < 10.0 else f"{x:.3g}")


def percent(estimate: Estimate) -> str:
    """A fraction in percent with its interval, if there is one."""
    return _spread(estimate, lambda x: f"{100.0 * x:.2f}")


def as_json(results: Results) -> dict[str, Any]:
    """All numbers, for machines."""
    return {
        "seeds": results.seeds,
        "chosen": None if results.chosen is None else results.chosen.value,
        "values": [
            {
                "value": g.value,
                "learning_rate": g.rate,
                "n_steps": g.n_steps,
                "n_diverged": g.n_diverged,
                "measures": {
                    name: {"mean": m.value, "low": m.low, "high": m.high, "scores": g.scores[name].tolist()}
                    for name, m in g.measures.items()
                },
                "training_loss": g.curve.tolist(),
                "against_chosen": None if g.against is None else _against_json(g.against),
            }
            for g in results.groups
        ],
    }


def _against_json(against: Against) -> Mapping[str, Any]:
    d = against.difference
    return {"test_loss": d.value, "low": d.low, "high": d.high, "wins": against.wins, "p": against.p,
            "verdict": against.verdict}  # fmt: skip


def _group(records: Sequence[Record]) -> Group:
    scores = {name: np.array([record.measures[name] for record in records]) for name in records[0].measures}
    going = np.array([not record.diverged for record in records])
    rng = np.random.default_rng(_SEED)
    nothing = Estimate(np.nan, np.nan, np.nan)
    measures = {name: bootstrap(x[going], mean, rng) if going.any() else nothing for name, x in scores.items()}
    curves = [record.curve for record in records if not record.diverged]
    length = min(map(len, curves), default=0)
    job = records[0].job
    return Group(
        job.value,
        shortest(Schedule.parse(job.fit.learning_rate).start),
        max(record.n_steps for record in records),
        int((~going).sum()),
        scores,
        measures,
        np.mean([curve[:length] for curve in curves], 0) if curves else np.zeros(0),
    )


def _validation_loss(group: Group) -> float:
    return float(group.scores["validation_loss"].mean())


def _beside(groups: Sequence[Group], chosen: Group) -> list[Group]:
    """With differences to the chosen one; p-values adjusted for all that are tested."""
    rng = np.random.default_rng(_SEED)
    theirs = chosen.scores["test_loss"]
    tested = [g for g in groups if g is not chosen and not g.n_diverged]
    p_values = [sign_flip_test(g.scores["test_loss"] - theirs, rng) for g in tested]
    adjusted = dict(zip(map(id, tested), holm(p_values), strict=True)) if tested else {}
    return [
        replace(g, against=_against(g.scores["test_loss"], theirs, adjusted[id(g)])) if id(g) in adjusted else g
        for g in groups
    ]


def _against(own: Array, theirs: Array, p: float) -> Against:
    difference = paired_difference(own, theirs, np.random.default_rng(_SEED))
    return Against(difference, int((own < theirs).sum()), float(p))


def _diverged(failed: Sequence[tuple[str, int]], n: int) -> str:
    always = [value for value, count in failed if count == n]
    parts = [f"{enumeration(always)} diverged in every seed"] if always else []
    return enumeration(parts + [f"{value} diverged in {count} of {n} seeds" for value, count in failed if count < n])


def _no_better_than(chance: float, group: Group) -> bool:
    low = group.measures["test_accuracy"].low
    return not np.isnan(low) and low <= chance


def _spread(estimate: Estimate, form: Any) -> str:
    if np.isnan(estimate.value):
        return "-"
    if np.isnan(estimate.low):
        return str(form(estimate.value))
    return f"{form(estimate.value)} [{form(estimate.low)}, {form(estimate.high)}]"
