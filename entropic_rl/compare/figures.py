"""The figures of a comparison's report, as SVG text ready for one page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from entropic_rl.compare import statistics as st
from entropic_rl.compare.analysis import Event, Section, band
from entropic_rl.compare.flow import flow_picture
from entropic_rl.compare.grid import label
from entropic_rl.page import Picture, drawn
from entropic_rl.plots import comparison as draw
from entropic_rl.plots.comparison import Panel, Series
from entropic_rl.plots.style import log_positions

__all__ = ["pictures"]

_SEED = 20_000
_EXACT = ("optimum", "loss_only")
_RESPONSES = {
    "entropy": "policy entropy at the end (nats)",
    "n_states": "states met",
    "gap": "return lost by sampling",
}


def pictures(section: Section, prefix: str = "") -> list[Picture]:
    """All figures that the record of an environment's runs allows; ``prefix`` keeps ids of several apart."""
    found = [picture for maker in _MAKERS if (picture := maker(section)) is not None]
    return [replace(picture, name=prefix + picture.name) for picture in found]


def _learning(section: Section) -> Picture | None:
    level = None if section.threshold is None else (section.threshold, "threshold")
    return _curves(
        section, "returns", "rollout/ep_rew_mean", "Learning",
        "Mean return of the last 100 training episodes, actions sampled: mean over seeds, band: its 95 % interval.",
        ylabel="return", level=level,
    )  # fmt: skip


def _entropy(section: Section) -> Picture | None:
    return _curves(
        section, "entropy", "explore/policy_entropy", "Policy entropy",
        "Entropy of the policy in the states it met, in nats: mean over seeds with its 95 % interval.",
        ylabel="policy entropy (nats)", ceiling=section.max_entropy,
    )  # fmt: skip


def _coverage(section: Section) -> Picture | None:
    if not _varies(section, "n_states"):
        return None
    return _curves(
        section, "coverage", "explore/n_states", "States met",
        "Different states met since the start of training (cells of a grid where states are continuous).",
        ylabel="states met",
    )  # fmt: skip


def _temperature(section: Section) -> Picture | None:
    return _curves(
        section, "temperature", "train/effective_temperature", "Effective temperature",
        "The coefficient in reward units: where advantages or rewards are normalised, times what they were divided by.",
        ylabel="effective temperature",
    )  # fmt: skip


def _saturation(section: Section) -> Picture | None:
    return _curves(
        section, "saturation", "explore/saturation", "Saturated actions",
        "Share of actions at or beyond their bounds, where more entropy changes nothing.", ylabel="share at the bounds",
    )  # fmt: skip


def _evaluations(section: Section) -> Picture | None:
    """Deterministic evaluations in the course of training, if there were more than the last."""
    if max(len(o.curve("eval/mean_reward")[0]) for group in section.groups for o in group.outcomes) < 2:
        return None
    return _curves(
        section, "evaluations", "eval/mean_reward", "Evaluation",
        "Return of the deterministic policy on the same fresh episodes for every run, in the course of training.",
        ylabel="return, deterministic",
    )  # fmt: skip


def _curves(section: Section, name: str, metric: str, title: str, caption: str, **options: Any) -> Picture | None:
    series = []
    for i, group in enumerate(section.groups):
        found = band(group.outcomes, metric)
        if found is not None:
            series.append(Series(i, len(section.groups), group.name, *found))
    if not series or (metric == "train/effective_temperature" and not any(one.y.any() for one in series)):
        return None
    return Picture(name, title, caption, drawn(lambda file: draw.plot_curves(file, series, **options)))


def _response(section: Section) -> Picture | None:
    """Measures over the swept setting; groups in their order where it is no number, or several are swept."""
    groups = section.groups
    if len(groups) < 2:
        return None
    wanted = {"return, deterministic": [group.score for group in groups]}
    for key, shown in _RESPONSES.items():
        if _varies(section, key):
            wanted[shown] = [group.measures[key] for group in groups]
    panels = [
        Panel(ylabel, *(np.array([getattr(e, part) for e in estimates]) for part in ("value", "low", "high")))
        for ylabel, estimates in wanted.items()
    ]
    positions, ticks = _axis([group.point[section.field] for group in groups])
    lines: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        others = {field: value for field, value in group.point.items() if field != section.field}
        lines.setdefault(", ".join(f"{field} {label(value)}" for field, value in others.items()), []).append(i)
    lines = {name: sorted(members, key=positions.__getitem__) for name, members in lines.items()}
    return Picture(
        "response",
        f"Response to {section.field}",
        "The end of training over the swept setting: interquartile mean (return) or mean over seeds, bars: 95 % "
        "interval. Numbers lie on a logarithmic scale, with 0 apart.",
        drawn(lambda file: draw.plot_response(file, positions, ticks, panels, lines, xlabel=section.field)),
        wide=True,
    )


def _varies(section: Section, measure: str) -> bool:
    """Whether the groups were all measured, and not all of them came to the very same."""
    found = [group.measures.get(measure) for group in section.groups]
    return None not in found and (len(set(found)) > 1 or len(found) == 1)


def _axis(values: Sequence[Any]) -> tuple[list[float], dict[float, str]]:
    """Where swept values lie, and the names of the places: numbers on a logarithmic scale, others one by one."""
    numbers = [float(x) if isinstance(x, int | float) else math.nan for x in values]
    positions = log_positions(numbers)
    if positions is None:
        order = list(dict.fromkeys(map(label, values)))
        return [float(order.index(label(x))) for x in values], {float(i): name for i, name in enumerate(order)}
    return positions, dict(zip(positions, map(label, values), strict=True))


def _times(section: Section) -> Picture | None:
    """How soon runs learned; failing that, first succeeded; failing that, first were rewarded."""
    choices = (
        ("learned", "Time to the threshold", "whose mean return over 100 training episodes has reached the threshold"),
        ("first_success", "Time to the first success", "that have had a successful episode"),
        ("first_reward", "Time to the first reward", "that have met a reward above 0"),
    )
    for name, title, told in choices:
        events: list[Event] = [event for group in section.groups if (event := getattr(group, name)) is not None]
        if len(events) < len(section.groups) or not _worth_showing(events, section):
            continue
        series = [_risen(i, section, event) for i, event in enumerate(events)]
        caption = (
            f"Share of runs {told} (Kaplan-Meier: runs that never did are censored at their end), band: 95 % interval."
        )
        svg = drawn(partial(draw.plot_steps, series=series, ylabel="share of runs", horizon=section.horizon))
        return Picture("times", title, caption, svg)
    return None


def _worth_showing(events: Sequence[Event], section: Section) -> bool:
    """Some runs got there, and not all at once at the very start."""
    return any(event.n and event.survival.times[-1] > 0.01 * section.horizon for event in events)


def _risen(i: int, section: Section, event: Event) -> Series:
    curve = event.survival
    x = np.concatenate([[0.0], curve.times])
    y = np.concatenate([[0.0], 1.0 - curve.survival])
    low, high = (np.concatenate([[0.0], 1.0 - part]) for part in (curve.high, curve.low))
    low, high = np.where(np.isnan(low), y, low), np.where(np.isnan(high), y, high)  # no band where all got there
    return Series(i, len(section.groups), section.groups[i].name, x, y, low, high)


def _profiles(section: Section) -> Picture | None:
    returns = np.concatenate([group.returns for group in section.groups])
    if len(returns) == len(section.groups) or returns.min() == returns.max():
        return None
    margin = 0.02 * (returns.max() - returns.min())
    at = np.linspace(returns.min() - margin, returns.max() + margin, 120)
    generator = np.random.default_rng(_SEED)
    series = []
    for i, group in enumerate(section.groups):
        scores = group.returns[:, None]
        interval = st.performance_profile_interval(scores, at, generator)
        series.append(Series(i, len(section.groups), group.name, at, st.performance_profile(scores, at), *interval))
    level = None if section.threshold is None else (section.threshold, "threshold")
    return Picture(
        "profiles", "Performance profiles",
        "Share of runs that end above each return (deterministic evaluation), band: pointwise 95 % interval. "
        "The higher curve is the better group; a long slope to the left shows runs that failed.",
        drawn(lambda file: draw.plot_profiles(file, series, xlabel="return", level=level)),
    )  # fmt: skip


def _quantiles(section: Section) -> Picture | None:
    """How the policy's entropy differs between states."""
    panels = []
    for i, group in enumerate(section.groups):
        parts = [band(group.outcomes, f"explore/policy_entropy_q{q}") for q in (10, 50, 90)]
        if any(part is None for part in parts):
            return None
        low, middle, high = (part for part in parts if part is not None)
        panels.append(Series(i, len(section.groups), group.name, middle[0], middle[1], low[1], high[1]))
    return Picture(
        "states", "Entropy from state to state",
        "Line: the policy's entropy in the middle one of the states it met; band: from the tenth to the ninetieth "
        "percentile of states, mean over seeds. A wide band: settled in some states, undecided in others.",
        drawn(lambda file: draw.plot_quantiles(file, panels, ylabel="nats", ceiling=section.max_entropy)), wide=True,
    )  # fmt: skip


def _heat_maps(section: Section) -> Picture | None:
    maps = []
    for group in section.groups:
        tables = [outcome.tables for outcome in group.outcomes if "layout" in outcome.tables]
        if len(tables) < len(group.outcomes):
            return None
        layout = tables[0]["layout"]
        shares = np.mean([table["visits"] / max(table["visits"].sum(), 1) for table in tables], 0)
        maps.append((group.name, np.where(layout < 0, np.nan, shares[np.maximum(layout, 0)])))
    return Picture(
        "visits", "Where training went",
        "Share of all visits by state, mean over seeds; black was never met, grey is no state.",
        drawn(lambda file: draw.plot_heat_maps(file, maps, label="share of visits")), wide=True,
    )  # fmt: skip


def _policies(section: Section) -> Picture | None:
    """On small problems: what the policies do in each state, beside the exact ones."""
    panels = []
    for group in section.groups:
        tables = [outcome.tables for outcome in group.outcomes if "policy" in outcome.tables]
        if not tables or tables[0]["policy"].shape[0] > 20:
            return None
        runs = np.stack([_shown_action(table["policy"]) for table in tables])
        optimum, loss_only = (_mean_action(tables, name) for name in _EXACT)
        panels.append((group.name, runs, optimum, loss_only))
    n_actions = tables[0]["policy"].shape[1]
    bandit = tables[0]["policy"].shape[0] <= 2 and n_actions > 2
    ylabel = "probability" if bandit else "probability of the last action"
    return Picture(
        "policies", "Policies beside the exact ones",
        "Dots: every run. Lines: the optimum at the same temperature, for entropy in the reward (solid) and in the "
        "loss only (dotted); an agent seeks the one of its --entropy-in. A larger coefficient is a higher temperature: "
        "the policy comes closer to uniform.",
        drawn(lambda file: draw.plot_policies(file, panels, ylabel=ylabel)),
        wide=True,
    )  # fmt: skip


def _mean_action(tables: Sequence[Mapping[str, np.ndarray]], name: str) -> np.ndarray | None:
    """Of the exact policies, each at its run's temperature, the mean over seeds; None where a run has none."""
    found = [_shown_action(table[name]) for table in tables if name in table]
    return np.mean(found, 0) if len(found) == len(tables) else None


def _shown_action(policy: np.ndarray) -> np.ndarray:
    """Of ``[S, A]``, what is drawn: the last action in every state; all actions of the first state of a bandit."""
    n_states, n_actions = policy.shape
    return policy[0] if n_states <= 2 and n_actions > 2 else policy[:, -1]


_MAKERS = (
    _learning,
    _entropy,
    _response,
    _policies,
    _coverage,
    _times,
    _profiles,
    _evaluations,
    _quantiles,
    _heat_maps,
    _temperature,
    _saturation,
    flow_picture,
)
