"""Means over seeds with intervals, differences paired by seed, and what they say in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entropic_rl.calibrate.measures import Record
from entropic_rl.compare.statistics import Estimate, bootstrap, mean, paired_difference, sign_flip_test
from entropic_rl.compare.words import p_value

__all__ = ["Against", "Group", "Results", "analyse", "as_json", "caveats", "interval", "percent", "verdict"]

_SEED = 20_000


@dataclass(frozen=True, slots=True)
class Against:
    """A group's NLL beside the reference's, paired by seed.

    Attributes:
        difference: own less the reference's, nats; negative is better.
        wins: seeds in which it is lower.
        p: of the sign-flip test, two-sided.
    """

    difference: Estimate
    wins: int
    p: float


@dataclass(frozen=True, slots=True)
class Group:
    """One coefficient and read-out.

    Attributes:
        ent_coef: as text.
        readout: ``raw``, ``proper`` or ``temperature``.
        scores: ``[S]`` by measure, in the order of the seeds.
        measures: their means with 95 % bootstrap intervals over seeds.
        against: beside the reference; None for it itself.
    """

    ent_coef: str
    readout: str
    scores: dict[str, NDArray[np.float64]]
    measures: dict[str, Estimate]
    against: Against | None = None

    @property
    def name(self) -> str:
        """Both in words."""
        return f"{self.ent_coef}, {self.readout}"


@dataclass(frozen=True, slots=True)
class Results:
    """All groups.

    Attributes:
        groups: coefficient by coefficient.
        seeds: S.
        reference: the lowest coefficient, with a temperature: what the others have to beat.
        chosen: the group of the least mean NLL on validation rows.
    """

    groups: list[Group]
    seeds: list[int]
    reference: Group
    chosen: Group

    def of(self, ent_coef: str, readout: str) -> Group:
        """The group of a coefficient and read-out."""
        return next(group for group in self.groups if (group.ent_coef, group.readout) == (ent_coef, readout))

    @property
    def ent_coefs(self) -> list[str]:
        """In their order."""
        return list(dict.fromkeys(group.ent_coef for group in self.groups))


def analyse(records: Sequence[Record]) -> Results:
    """Sum records up by coefficient and read-out."""
    seeds = sorted({record.seed for record in records})
    by_group: dict[tuple[str, str], list[Record]] = {}
    for record in sorted(records, key=lambda record: record.seed):
        by_group.setdefault((record.ent_coef, record.readout), []).append(record)
    keys = list(dict.fromkeys((record.ent_coef, record.readout) for record in records))
    groups = [_group(*key, by_group[key]) for key in keys]
    lowest = min(dict.fromkeys(group.ent_coef for group in groups), key=_size)
    reference = next(g for g in groups if (g.ent_coef, g.readout) == (lowest, "temperature"))
    groups = [_beside(group, reference) for group in groups]
    chosen = min(groups, key=lambda group: group.scores["validation_nll"].mean())
    return Results(groups, seeds, reference, chosen)


def verdict(results: Results) -> list[str]:
    """What the numbers say, the choice by validation first."""
    chosen, reference = results.chosen, results.reference
    n = len(results.seeds)
    said = [
        f"Validation chooses ent_coef {chosen.ent_coef} read out by {_READ[chosen.readout]}: NLL "
        f"{interval(chosen.measures['nll'])} nats and accuracy {percent(chosen.measures['accuracy'])} % on test rows."
    ]
    if chosen.against is not None:
        said.append(f"That is {_difference(chosen.against, n)} {_called(reference)}.")
    else:
        rivals = "no entropy term" if _size(reference.ent_coef) == 0.0 else "nothing else"
        said.append(f"That is {_called(reference)} itself: {rivals} did better here.")
    by_size = sorted((coef for coef in results.ent_coefs if _size(coef) < math.inf), key=_size)
    first, last = (results.of(coef, "raw") for coef in (by_size[0], by_size[-1])) if by_size else (chosen, chosen)
    if last.measures["signed_gap"].value < first.measures["signed_gap"].value - 0.01:
        said.append(
            f"As fitted, confidence less accuracy goes from {_points(first, 'signed_gap')} points at {first.ent_coef} "
            f"to {_points(last, 'signed_gap')} at {last.ent_coef}: an entropy term makes a model less sure than its "
            "data by design, and the read-out has to take that back."
        )
    if by_size and "true_error" in results.groups[0].measures:
        said.append(_truth(results, by_size[-1]))
    return said


def caveats(results: Results, *, folds: int) -> list[str]:
    """What to bear in mind."""
    n = len(results.seeds)
    notes = []
    if n < 6:
        notes.append(f"With {n} seed{'s' if n > 1 else ''} no paired test can fall under 0.05: it takes 6.")
    notes.append(
        "Coefficient and read-out were chosen on validation rows, which temperatures were fitted to as well (a small "
        "advantage of theirs in the choice); the test rows were looked at once, after it."
    )
    if folds:
        notes.append(
            f"Each seed deals its {folds} folds anew from the same rows: intervals over seeds are of splits and first "
            "weights, and say nothing about other data."
        )
    if "clean_nll" in results.reference.measures:
        notes.append("Test labels are as noisy as the others; the columns of clean labels are for comparison.")
    return notes


def _group(ent_coef: str, readout: str, records: Sequence[Record]) -> Group:
    names = [name for name in records[0].values if all(name in record.values for record in records)]
    scores = {name: np.array([record.values[name] for record in records]) for name in names}
    rng = np.random.default_rng(_SEED)
    return Group(ent_coef, readout, scores, {name: bootstrap(x, mean, rng) for name, x in scores.items()})


def _beside(group: Group, reference: Group) -> Group:
    if group is reference:
        return group
    own, theirs = group.scores["nll"], reference.scores["nll"]
    rng = np.random.default_rng(_SEED)
    against = Against(paired_difference(own, theirs, rng), int((own < theirs).sum()), sign_flip_test(own - theirs, rng))
    return Group(group.ent_coef, group.readout, group.scores, group.measures, against)


def _truth(results: Results, coef: str) -> str:
    raw, proper = results.of(coef, "raw"), results.of(coef, "proper")
    left = proper.scores["distance"].mean() / raw.scores["distance"].mean()
    return (
        f"The posterior is known here: at {coef} the proper read-out leaves {left:.0%} of the raw distance to it, and "
        f"its true error of calibration is {_points(proper, 'true_error')} points where the raw one is "
        f"{_points(raw, 'true_error')}."
    )


_READ = {"raw": "its own probabilities", "proper": "the closed form", "temperature": "a temperature"}


def _called(group: Group) -> str:
    name = "cross-entropy" if _size(group.ent_coef) == 0.0 else f"ent_coef {group.ent_coef}"
    return f"{name} with a temperature"


def _difference(against: Against, n: int) -> str:
    value = against.difference.value
    word = "below" if value < 0.0 else "above"
    certain = f", p = {p_value(against.p)}" if n >= 6 else ""
    return f"{abs(value):.4f} nats {word} (lower in {against.wins} of {n} seeds{certain})"


def _size(ent_coef: str) -> float:
    try:
        return float(ent_coef)
    except ValueError:
        return math.inf


def interval(estimate: Estimate) -> str:
    """Nats with their interval, if there is one."""
    if math.isnan(estimate.low):
        return f"{estimate.value:.4f}"
    return f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"


def percent(estimate: Estimate) -> str:
    """A fraction in percent with its interval, if there is one."""
    if math.isnan(estimate.low):
        return f"{100 * estimate.value:.2f}"
    return f"{100 * estimate.value:.2f} [{100 * estimate.low:.2f}, {100 * estimate.high:.2f}]"


def _points(group: Group, name: str) -> str:
    return f"{100 * group.measures[name].value:.1f}"


def as_json(results: Results) -> dict[str, Any]:
    """All numbers, for machines."""
    return {
        "seeds": results.seeds,
        "reference": results.reference.name,
        "chosen": results.chosen.name,
        "groups": [
            {
                "ent_coef": group.ent_coef,
                "readout": group.readout,
                "measures": {
                    name: {"mean": m.value, "low": m.low, "high": m.high, "scores": group.scores[name].tolist()}
                    for name, m in group.measures.items()
                },
                "against_reference": None
                if group.against is None
                else {
                    "nll": group.against.difference.value,
                    "low": group.against.difference.low,
                    "high": group.against.difference.high,
                    "wins": group.against.wins,
                    "p": group.against.p,
                },
            }
            for group in results.groups
        ],
    }
