"""What a comparison says, in plain words: every sentence is a statement about its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from entropic_rl.compare.analysis import Event, Group, Section
from entropic_rl.compare.outcomes import Outcome
from entropic_rl.compare.words import duration, enumeration, first_few, interval, memory, number, p_value, steps

__all__ = ["caveats", "costs", "verdict"]

_COLLAPSED = 0.02  # share of the largest entropy below which a policy counts as settled
_SMALL_P = 0.05
_COVERAGE = {2: 50, 3: 74, 4: 80, 5: 83, 6: 85, 7: 87}  # per cent, of normal scores, by number of seeds


def verdict(section: Section) -> list[str]:
    """Which group learns best, how sure that is, which explores more, and what the entropy did; a sentence each."""
    said = [_best(section), *_speed(section), *_failures(section), *_differences(section), *_exploration(section)]
    return [sentence for sentence in [*said, *_entropy(section), *_optimum(section)] if sentence]


def caveats(section: Section, outcomes: Sequence[Outcome]) -> list[str]:
    """What the reader has to know to trust the numbers no further than they go."""
    notes = []
    broken = [outcome for outcome in outcomes if outcome.error is not None]
    if broken:
        named = enumeration([f"{outcome.cell.directory.name} ({outcome.error})" for outcome in broken[:8]])
        more = f" and {len(broken) - 8} more" if len(broken) > 8 else ""
        notes.append(f"{len(broken)} of {len(outcomes)} runs are not in any number here: {named}{more}.")
    fewest = min(len(group.outcomes) for group in section.groups)
    if fewest < 2:
        notes.append("There is a group of one seed: it has no interval, and says little.")
    elif fewest < 8:
        notes.append(
            f"With {fewest} seeds a bootstrap interval is too narrow: one that says 95 % covers the mean in about "
            f"{_COVERAGE[fewest]} %. More seeds cost only themselves (add DIR --add-seeds N)."
        )
    if section.threshold is None:
        notes.append(
            "The environment has no success signal: times to success and to the threshold are left out (give "
            "--success-return or --threshold)."
        )
    normalized = {
        bool(o.cell.value("normalize_advantage")) for o in outcomes if hasattr(o.cell.config, "normalize_advantage")
    }
    if len(normalized) > 1:
        notes.append("Some runs normalise advantages and some do not: their coefficients are in different units.")
    elif normalized == {True}:
        notes.append(_drift([outcome for outcome in outcomes if outcome.error is None]))
    return [note for note in notes if note]


def costs(sessions: Sequence[Mapping[str, Any]]) -> str:
    """What it took to train what is there."""
    if not sessions:
        return ""
    seconds, n_steps = sum(s["seconds"] for s in sessions), sum(s["env_steps"] for s in sessions)
    last = sessions[-1]
    text = (
        f"It took {duration(seconds)} for {sum(s['n_cells'] for s in sessions)} runs and {steps(n_steps)} environment "
        f"steps, {n_steps / seconds:,.0f} per second, start-up and evaluation included"
    )
    if last["memory_peak"] is not None:
        text += (
            f"; {last['n_workers']} process{'es' if last['n_workers'] > 1 else ''} at a time, "
            f"{memory(last['memory_peak'])} of memory at the peak ({memory(last['memory_estimate'])} were estimated)"
        )
    return text + "."


def _best(section: Section) -> str:
    best = section.group(section.best)
    if len(section.groups) > 1 and len({group.score for group in section.groups}) == 1:
        return f"Every group ends with the same return, {interval(best.score)}, if its likeliest actions are taken."
    text = f"{_called(section, best)} ends with the highest return, {interval(best.score)}"
    if len(section.groups) == 1:
        return text + "."
    if any(math.isnan(group.score.low) for group in section.groups):
        return text + "; without intervals nothing more can be said."
    others = [name for name in section.robust if name != best.name]
    if len(section.robust) == len(section.groups):
        return text + ", but no other is told apart from it: every interval meets its own."
    if others:
        return f"{text}; {first_few(others)} {'are' if len(others) > 1 else 'is'} not told apart from it."
    return text + ", and its interval meets no other's."


def _speed(section: Section) -> list[str]:
    if section.threshold is None:
        return []
    timed = [(group, group.learned.survival.median()) for group in section.groups if group.learned is not None]
    reached = [(group, median) for group, median in timed if math.isfinite(median.value)]
    if not reached:
        return [f"In no group did half of the seeds reach {number(section.threshold)} in training."]
    group, median = min(reached, key=lambda pair: pair[1].value)
    return [
        f"{_called(section, group)} reached {number(section.threshold)} first, after {interval(median, steps)} steps, "
        f"{_share(group.learned, group)} seeds."
    ]


def _failures(section: Section) -> list[str]:
    failed = [group for group in section.groups if group.n_failed]
    if section.threshold is None:
        return []
    if not failed:
        return [f"No run ended below {number(section.threshold)}."]
    worst_first = sorted(failed, key=lambda group: -(group.n_failed or 0) / len(group.outcomes))
    told = first_few([f"{group.name} ({group.n_failed} of {len(group.outcomes)} seeds)" for group in worst_first])
    return [f"Ended below {number(section.threshold)}: {told}."]


def _differences(section: Section) -> list[str]:
    told: list[str] = []
    if len(section.groups) < 2:
        return told
    for group in section.groups:
        if group.difference is None or not group.p_value < _SMALL_P:
            continue
        verb = "gains" if group.difference.value > 0 else "loses"
        told.append(f"{group.name} {verb} {number(abs(group.difference.value))} (p {p_value(group.p_value)})")
    if not told:
        least = max((len(group.outcomes) for group in section.groups), default=0)
        reason = (
            f" ({least} seeds cannot show less than p = {2.0 ** (1 - least):.2g})"
            if 2.0 ** (1 - least) > _SMALL_P
            else ""
        )
        return [f"Paired by seed, no group differs from {section.baseline} beyond chance{reason}."]
    how = f"paired by seed and adjusted for {len(section.groups) - 1} comparisons"
    return [f"Against {section.baseline}, {how}, {first_few(told)}."]


def _exploration(section: Section) -> list[str]:
    said = []
    if all("n_states" in group.measures for group in section.groups) and len(section.groups) > 1:
        ordered = sorted(section.groups, key=lambda group: -group.measures["n_states"].value)
        most, least = ordered[0], ordered[-1]
        many, few = most.measures["n_states"], least.measures["n_states"]
        if many.value == few.value:
            said.append(f"Every group met the same number of states, {number(many.value)}.")
        else:
            apart = "; the intervals meet" if few.high >= many.low else ""
            said.append(
                f"{_called(section, most)} met the most states, {interval(many)}, {least.name} the fewest, "
                f"{interval(few)}{apart}."
            )
    shares = {
        group.name: (group.first_success.n, len(group.outcomes)) for group in section.groups if group.first_success
    }
    missed = sorted(
        (name for name, (n, of) in shares.items() if n < of), key=lambda name: shares[name][0] / shares[name][1]
    )
    if missed and not any(n for n, _ in shares.values()):
        said.append("No run had a successful episode.")
    elif missed:
        told = first_few([f"{name} ({of - n} of {of} seeds)" for name in missed for n, of in [shares[name]]])
        said.append(f"Never had a successful episode: {told}.")
    return said


def _entropy(section: Section) -> list[str]:
    if section.max_entropy is None or any("entropy" not in group.measures for group in section.groups):
        return []
    shares = [group.measures["entropy"].value / section.max_entropy for group in section.groups]
    said = []
    if len(shares) > 1:
        ends = [f"{share:.0%} ({g.name})" for share, g in zip(shares, section.groups, strict=True)]
        rises = all(low < high for low, high in pairwise(shares))
        how = "rises with every step, from" if rises else "goes from"
        said.append(f"The policy's final entropy as a share of the uniform policy's {how} {ends[0]} to {ends[-1]}.")
    if section.uniform:
        said.append(f"The policy of {enumeration(section.uniform)} stays within 5 % of uniform.")
    settled = [g.name for g, share in zip(section.groups, shares, strict=True) if share <= _COLLAPSED]
    if settled:
        said.append(f"The policy of {enumeration(settled)} ends nearly deterministic, below 2 % of uniform.")
    return said


def _optimum(section: Section) -> list[str]:
    near = [group for group in section.groups if {"optimum_kl", "loss_only_kl"} <= group.measures.keys()]
    if len(near) < len(section.groups):  # also those whose temperature had sunk to nothing
        return []

    def span(name: str) -> str:
        values = [group.measures[name].value for group in near]
        low, high = number(min(values), 2), number(max(values), 2)
        return f"{low} nats" if low == high else f"{low} to {high} nats"

    return [
        "This problem is small enough to solve exactly at each group's temperature. The policies lie "
        f"{span('loss_only_kl')} from the fixed point of entropy in the loss, and "
        f"{span('optimum_kl')} from the optimum of entropy in the reward."
    ]


def _drift(outcomes: Sequence[Outcome]) -> str:
    """How far the coefficient in reward units moved while training went on."""
    ratios = []
    for outcome in outcomes:
        units = [
            row["train/effective_temperature"] / row["train/ent_coef"]
            for row in outcome.rows
            if row.get("train/ent_coef", 0.0) > 0.0 and row.get("train/effective_temperature", 0.0) > 0.0
        ]
        if len(units) > 1:
            ratios.append(max(units) / min(units))
    if not ratios:
        return ""
    return (
        "Advantages are normalised, so a coefficient is in units of their standard deviation; that unit moved by a "
        f"factor of up to {number(max(ratios), 2)} within a run (effective temperature)."
    )


def _share(event: Event | None, group: Group) -> str:
    return f"{0 if event is None else event.n} of {len(group.outcomes)}"


def _called(section: Section, group: Group, *, short: bool = False) -> str:
    return group.name if short or " " in group.name else f"{section.field} {group.name}"
