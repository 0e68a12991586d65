"""Means over seeds with intervals, differences paired by seed, and what they say in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entropic_rl.compare.statistics import Estimate, bootstrap, mean, paired_difference, sign_flip_test
from entropic_rl.compare.words import enumeration, p_value
from entropic_rl.robustness.curves import STRONGEST
from entropic_rl.robustness.experiment import Found
from entropic_rl.robustness.masking import MaskingFlags

__all__ = ["CUSTOMARY", "Against", "GroupResult", "Results", "analyse", "as_json", "caveats", "percent", "verdict"]

CUSTOMARY = "pgd cross-entropy"  # what most people report
_SEED = 20_000
_LOOKS = 0.05  # of accuracy that the customary attack leaves and another one does not: worth a sentence

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Against:
    """Accuracy under an attack beside the reference's, paired by seed.

    Attributes:
        difference: own less the reference's.
        wins: seeds in which it is higher.
        p: of the sign-flip test, two-sided.
    """

    difference: Estimate
    wins: int
    p: float


@dataclass(frozen=True, slots=True)
class GroupResult:
    """One coefficient, or one adversarial training.

    Attributes:
        name: of it.
        adversarial: radius of its training; 0 for none.
        accuracy: by attack, ``[K, S]``.
        corrupted: by kind, ``[severities, S]``.
        flags: S.
    """

    name: str
    adversarial: float
    accuracy: dict[str, Array]
    corrupted: dict[str, Array]
    flags: list[MaskingFlags]

    def estimate(self, k: int, attack: str = STRONGEST) -> Estimate:
        """Mean over seeds at the k-th radius with its 95 % bootstrap interval."""
        return bootstrap(self.accuracy[attack][k], mean, np.random.default_rng(_SEED))

    def raised(self) -> dict[str, int]:
        """In how many seeds each flag is raised, if in any."""
        counts = [(same[0].name, sum(flag.raised for flag in same)) for same in zip(*self.flags, strict=True)]
        return {name: count for name, count in counts if count}

    @property
    def n_flagged(self) -> int:
        """Seeds with any flag."""
        return sum(bool(own.raised) for own in self.flags)


@dataclass(frozen=True, slots=True)
class Results:
    """All groups, the first of which the others stand beside.

    Attributes:
        groups: G.
        eps: K radii, increasing.
        norm: of the balls.
        severities: of the corruptions.
        middle: index of the radius at which the reference is nearest to half of its clean accuracy: where most is told.
    """

    groups: list[GroupResult]
    eps: tuple[float, ...]
    norm: str
    severities: tuple[float, ...]
    middle: int

    @property
    def reference(self) -> GroupResult:
        """The first group."""
        return self.groups[0]

    @property
    def n_seeds(self) -> int:
        """S."""
        return len(self.reference.flags)

    def against(self, group: GroupResult, k: int, attack: str = STRONGEST) -> Against:
        """A group beside the reference at the k-th radius."""
        own, theirs = group.accuracy[attack][k], self.reference.accuracy[attack][k]
        rng = np.random.default_rng(_SEED)
        difference = paired_difference(own, theirs, rng)
        return Against(difference, int((own > theirs).sum()), sign_flip_test(own - theirs, rng))


def analyse(found: Found, severities: Sequence[float]) -> Results:
    """Sum up what attacks found by group."""
    groups = []
    for g, group in enumerate(found.groups):
        own = slice(g * found.n_seeds, (g + 1) * found.n_seeds)
        accuracy = {name: found.curve.accuracy(name)[:, own].numpy() for name in found.curve.fooled}
        corrupted = {kind: values[:, own].numpy() for kind, values in found.corruptions.items()}
        groups.append(GroupResult(group.name, group.eps, accuracy, corrupted, found.flags[own]))
    strongest = groups[0].accuracy[STRONGEST].mean(1)
    middle = int(np.abs(strongest - 0.5 * strongest[0]).argmin())
    return Results(groups, found.curve.eps, found.curve.norm, tuple(severities), middle)


def verdict(results: Results) -> list[str]:
    """What the numbers say."""
    k, reference = results.middle, results.reference
    best = max(results.groups, key=lambda group: group.accuracy[STRONGEST][k].mean())
    left = enumeration([f"{group.name} {_short(group.estimate(k))} %" for group in results.groups])
    said = [f"Right within {results.eps[k]:g} ({results.norm}) under all attacks together: {left}."]
    if best is not reference:
        said.append(f"The most robust there is {best.name}, {_difference(results, best, k)}.")
    else:
        said.append(f"None there is more robust than {reference.name}.")
    said += _only_looks(results)
    said += _hardened(results)
    said += _masked(results)
    return said


def caveats(results: Results) -> list[str]:
    """What to bear in mind."""
    notes = [
        "Attacks give upper bounds: what withstands all of them here may fall to another one. Nothing is certified.",
        "Rows that a model gets wrong unattacked count as fooled at every radius.",
    ]
    if results.n_seeds < 6:
        notes.append(f"With {results.n_seeds} seed{'s' * (results.n_seeds > 1)} no paired test can fall under 0.05.")
    return notes


def _only_looks(results: Results) -> list[str]:
    """Where the customary attack leaves accuracy that is not there."""
    said = []
    for group in results.groups:
        gaps = (group.accuracy[CUSTOMARY] - group.accuracy[STRONGEST]).mean(1)
        k = int(gaps.argmax())
        if gaps[k] < _LOOKS:
            continue
        seen, true = (100 * group.accuracy[name][k].mean() for name in (CUSTOMARY, STRONGEST))
        looks, holds = (100 * results.against(group, k, name).difference.value for name in (CUSTOMARY, STRONGEST))
        beside = f"; beside {results.reference.name} that would be {looks:+.1f} points and is {holds:+.1f}"
        kind = "Only looks robust" if looks > 0.0 >= holds else "Looks better than it is"
        said.append(
            f"{kind}: {group.name}, which keeps {seen:.1f} % within {results.eps[k]:g} under PGD on the cross-entropy "
            f"and {true:.1f} % under all attacks together{'' if group is results.reference else beside}."
        )
    return said


def _hardened(results: Results) -> list[str]:
    """Adversarial training beside entropic training, each where it was trained for."""
    ordinary = [group for group in results.groups if not group.adversarial]
    said = []
    for group in results.groups:
        if not group.adversarial:
            continue
        k = int(np.abs(np.array(results.eps) - group.adversarial).argmin())
        best = max(ordinary, key=lambda other: other.accuracy[STRONGEST][k].mean())
        left, there = _short(group.estimate(k)), f"{results.eps[k]:g}"
        text = (f"Adversarial training within {group.adversarial:g} leaves {left} % at {there}, the best without it "
                f"({best.name}) {_short(best.estimate(k))} %")  # fmt: skip
        if results.eps[0] == 0.0:
            text += f"; clean accuracies are {_short(group.estimate(0))} and {_short(best.estimate(0))} %"
        said.append(f"{text}.")
    return said


def _masked(results: Results) -> list[str]:
    """Which flags are raised where."""
    n, said = results.n_seeds, []
    for group in results.groups:
        if raised := group.raised():
            each = enumeration([f"{name} ({count} of {n} seeds)" for name, count in raised.items()])
            said.append(f"Signs of masked gradients, {group.name}: {each}.")
    if len(said) < len(results.groups):
        quiet = enumeration([group.name for group in results.groups if not group.raised()])
        said.append(f"No sign of masked gradients: {quiet}.")
    return said


def _difference(results: Results, group: GroupResult, k: int) -> str:
    against = results.against(group, k)
    certain = f", p = {p_value(against.p)}" if results.n_seeds >= 6 else ""
    seeds = f"higher in {against.wins} of {results.n_seeds} seeds{certain}"
    return f"{100 * against.difference.value:.1f} points above {results.reference.name} ({seeds})"


def _short(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f}"


def percent(estimate: Estimate) -> str:
    """A fraction in percent with its interval, if there is one."""
    if np.isnan(estimate.low):
        return f"{100 * estimate.value:.1f}"
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def as_json(results: Results) -> dict[str, Any]:
    """All numbers, for machines."""
    return {
        "eps": list(results.eps),
        "norm": results.norm,
        "severities": list(results.severities),
        "reference": results.reference.name,
        "groups": [
            {
                "name": group.name,
                "adversarial": group.adversarial,
                "accuracy": {name: values.tolist() for name, values in group.accuracy.items()},
                "corrupted": {name: values.tolist() for name, values in group.corrupted.items()},
                "flags": [[asdict(flag) | {"raised": flag.raised} for flag in own] for own in group.flags],
            }
            for group in results.groups
        ],
    }
