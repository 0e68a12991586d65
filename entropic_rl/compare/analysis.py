"""What a comparison says in numbers: per group, against the baseline, over the coefficient."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from entropic_rl.compare import statistics as st
from entropic_rl.compare.outcomes import Outcome
from entropic_rl.compare.statistics import Estimate

__all__ = ["Group", "Section", "analyse", "band", "steps_to_threshold"]

_SEED = 20_000  # of every bootstrap: the same record gives the same report
_UNIFORM = 0.95  # share of the largest entropy from which a policy counts as uniform

# What is shown of a run's end: key of the summary -> name in the tables.
MEASURES = {
    "eval/mean_reward": "return",
    "eval/stochastic_mean_reward": "stochastic_return",
    "eval/stochastic_gap": "gap",
    "explore/policy_entropy": "entropy",
    "explore/n_states": "n_states",
    "explore/coverage": "coverage",
    "explore/visitation_entropy": "visitation_entropy",
    "explore/saturation": "saturation",
    "train/effective_temperature": "temperature",
    "optimum/kl": "optimum_kl",
    "optimum/loss_only_kl": "loss_only_kl",
    "optimum/soft_regret": "soft_regret",
    "optimum/return_regret": "return_regret",
}


@dataclass(frozen=True, slots=True)
class Event:
    """When something happened in the runs of a group: in ``n`` of them, after times that ``survival`` describes."""

    survival: st.Survival
    n: int


@dataclass(frozen=True, slots=True)
class Group:
    """The runs of one setting over their seeds.

    Attributes:
        name: what it is called.
        point: its swept values.
        outcomes: runs that count, by seed.
        broken: runs that do not, which no number here includes.
        measures: mean over seeds with its interval, by the names of ``MEASURES``; only what was recorded.
        score: interquartile mean of the final deterministic return.
        seed_median: its median over seeds.
        auc: return averaged over the steps of training.
        learned: time to the threshold; None without one.
        first_success: time to the first successful episode; None without a signal.
        first_reward: time to the first reward > 0.
        n_failed: runs that ended below the threshold; None without one.
        difference: mean difference to the baseline over the shared seeds; None for the baseline itself.
        p_value: of that difference, by sign flips; adjusted by Holm's method over all groups.
        improvement: probability that a run is better than one of the baseline.
    """

    name: str
    point: Mapping[str, Any]
    outcomes: tuple[Outcome, ...]
    broken: tuple[Outcome, ...]
    measures: Mapping[str, Estimate]
    score: Estimate
    seed_median: Estimate
    auc: Estimate
    learned: Event | None
    first_success: Event | None
    first_reward: Event
    n_failed: int | None
    difference: Estimate | None = None
    p_value: float = math.nan
    improvement: Estimate | None = None

    @property
    def returns(self) -> np.ndarray:
        """Final deterministic returns by seed."""
        return np.array([outcome.summary["eval/mean_reward"] for outcome in self.outcomes])


@dataclass(frozen=True, slots=True)
class Section:
    """One environment's groups, and what they say together.

    Attributes:
        env: the environment.
        groups: in the order they were asked for.
        baseline: name of the group others are compared with.
        threshold: return that counts as learned; None if there is none.
        max_entropy: nats of the uniform policy; None for continuous actions.
        horizon: env steps of a run.
        field: the swept field on the axis of the response curve.
        best: name of the group with the highest score.
        robust: groups whose interval meets that of the best.
        explained: share of the variance of returns between runs that the groups account for (omega squared).
        uniform: groups whose policy stays within 5 % of the largest entropy.
    """

    env: str
    groups: tuple[Group, ...]
    baseline: str
    threshold: float | None
    max_entropy: float | None
    horizon: int
    field: str
    best: str
    robust: tuple[str, ...]
    explained: float
    uniform: tuple[str, ...]

    def group(self, name: str) -> Group:
        """A group by name."""
        return next(group for group in self.groups if group.name == name)


def analyse(
    env: str,
    outcomes: Mapping[str, Sequence[Outcome]],
    fields: Sequence[str],
    *,
    threshold: float | None,
    baseline: str | None,
) -> Section | None:
    """All numbers of one environment; None if nothing finished there.

    Args:
        env: its id.
        outcomes: of every group, by name.
        fields: that are swept.
        threshold: return that counts as learned; None for the environment's own.
        baseline: name of a group; None for that of coefficient 0, or else the first.
    """
    counted = {name: [o for o in group if o.error is None] for name, group in outcomes.items()}
    ended = [outcome for group in counted.values() for outcome in group]
    if not ended:
        return None
    threshold = ended[0].summary["success_return"] if threshold is None else threshold
    generator = np.random.default_rng(_SEED)
    groups = [_group(name, outcomes[name], fields, threshold, generator) for name, group in counted.items() if group]
    chosen = _baseline(groups, baseline)
    groups = _against(groups, next(g for g in groups if g.name == chosen), generator)
    robust = st.robust_range([group.score for group in groups])
    best = max(groups, key=lambda group: (group.score.value, group.returns.mean()))
    max_entropy = ended[0].summary.get("explore/max_entropy")
    return Section(
        env=env,
        groups=tuple(groups),
        baseline=chosen,
        threshold=threshold,
        max_entropy=max_entropy,
        horizon=max(int(o.summary["global_step"]) for o in ended),
        field=_axis(groups, fields),
        best=best.name,
        robust=tuple(groups[i].name for i in robust),
        explained=st.explained_variance_share([group.returns for group in groups]),
        uniform=tuple(group.name for group in groups if _is_uniform(group, max_entropy)),
    )


def steps_to_threshold(rows: Sequence[Mapping[str, float]], threshold: float) -> float | None:
    """Env steps after which the mean return of the last 100 training episodes first reached ``threshold``.

    None if it never did: the run is censored at its end.
    """
    full = (row for row in rows if row["rollout/n_episodes"] >= 100)  # one lucky episode is no mean of 100
    return next((row["global_step"] for row in full if row["rollout/ep_rew_mean"] >= threshold), None)


def band(
    outcomes: Sequence[Outcome], name: str, n_points: int = 150
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Steps, mean over seeds, and its pointwise 95 % bootstrap interval of a metric's curve; None if not recorded."""
    curves = [curve for curve in (outcome.curve(name) for outcome in outcomes) if len(curve[0])]
    if not curves:
        return None
    start, stop = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    steps = np.unique(np.concatenate([x[(x >= start) & (x <= stop)] for x, _ in curves]))
    if len(steps) == 0:
        return None
    steps = steps[np.unique(np.linspace(0, len(steps) - 1, min(n_points, len(steps))).astype(int))]
    values = np.stack([np.interp(steps, x, y) for x, y in curves])
    picks = np.random.default_rng(_SEED).integers(0, len(values), (500, len(values)))
    low, high = np.quantile(values[picks].mean(1), [0.025, 0.975], axis=0)
    return steps, values.mean(0), low, high


def to_json(section: Section) -> dict[str, Any]:
    """Everything as plain JSON values."""
    kept = {name: getattr(section, name) for name in Section.__slots__ if name != "groups"}
    return {**kept, "groups": [_group_json(group) for group in section.groups]}


def _group(
    name: str,
    everything: Sequence[Outcome],
    fields: Sequence[str],
    threshold: float | None,
    generator: np.random.Generator,
) -> Group:
    outcomes = [outcome for outcome in everything if outcome.error is None]

    def estimate(values: Sequence[float], statistic: Callable[[np.ndarray], Any] = st.mean) -> Estimate:
        if not np.isfinite(values).all():
            return Estimate(math.nan, math.nan, math.nan)
        return st.bootstrap(np.array(values, dtype=float), statistic, generator)

    summaries = [outcome.summary for outcome in outcomes]
    measures = {}
    for key, shown in MEASURES.items():
        values = [summary[key] for summary in summaries if summary.get(key) is not None]
        if len(values) == len(summaries):
            measures[shown] = estimate(values)
    returns = [summary["eval/mean_reward"] for summary in summaries]
    learned = None
    if threshold is not None:
        learned = _event(outcomes, [steps_to_threshold(o.rows, threshold) for o in outcomes])
    succeeded = None
    if summaries[0].get("success_return") is not None:
        succeeded = _event(outcomes, [summary.get("explore/first_success") for summary in summaries])
    return Group(
        name=name,
        point={field: outcomes[0].cell.value(field) for field in fields},
        outcomes=tuple(outcomes),
        broken=tuple(outcome for outcome in everything if outcome.error is not None),
        measures=measures,
        score=estimate(returns, st.iqm),
        seed_median=estimate(returns, st.seed_median),
        auc=estimate([_auc(outcome) for outcome in outcomes]),
        learned=learned,
        first_success=succeeded,
        first_reward=_event(outcomes, [summary.get("explore/first_reward") for summary in summaries]),
        n_failed=None if threshold is None else sum(value < threshold for value in returns),
    )


def _is_uniform(group: Group, max_entropy: float | None) -> bool:
    if max_entropy is None or "entropy" not in group.measures:
        return False
    return group.measures["entropy"].value >= _UNIFORM * max_entropy


def _auc(outcome: Outcome) -> float:
    steps, values = outcome.curve("rollout/ep_rew_mean")
    return st.area_under_curve(steps, values, start=0.0) if len(steps) else math.nan


def _event(outcomes: Sequence[Outcome], times: Sequence[float | None]) -> Event:
    """Times of an event, censored at a run's end where there is none."""
    ends = [float(outcome.summary["global_step"]) for outcome in outcomes]
    known = np.array([end if time is None else time for time, end in zip(times, ends, strict=True)])
    observed = np.array([time is not None for time in times])
    return Event(st.kaplan_meier(known, observed), int(observed.sum()))


def _against(groups: Sequence[Group], baseline: Group, generator: np.random.Generator) -> list[Group]:
    """The groups with their differences to the baseline, p-values adjusted together."""
    found = []
    for group in groups:
        if group is baseline:
            found.append(group)
            continue
        base = {o.cell.run.seed: o.summary["eval/mean_reward"] for o in baseline.outcomes}
        pairs = [
            (o.summary["eval/mean_reward"], base[o.cell.run.seed]) for o in group.outcomes if o.cell.run.seed in base
        ]
        own, other = np.array(pairs, dtype=float).reshape(-1, 2).T
        found.append(
            replace(
                group,
                difference=st.paired_difference(own, other, generator) if pairs else None,
                p_value=st.sign_flip_test(own - other, generator) if len(pairs) > 1 else math.nan,
                improvement=st.probability_of_improvement_interval(group.returns, baseline.returns, generator),
            )
        )
    adjusted = st.holm(np.array([group.p_value for group in found]))
    return [replace(group, p_value=float(p)) for group, p in zip(found, adjusted, strict=True)]


def _baseline(groups: Sequence[Group], wanted: str | None) -> str:
    names = [group.name for group in groups]
    if wanted in names:
        return str(wanted)
    without = [group.name for group in groups if group.point.get("ent_coef") == 0]
    return without[0] if without else names[0]


def _axis(groups: Sequence[Group], fields: Sequence[str]) -> str:
    """The swept number with the most values, the coefficient first."""

    def values(field: str) -> int:
        found = {group.point[field] for group in groups}
        return len(found) if all(isinstance(value, int | float) for value in found) else 0

    return max(fields, key=lambda field: (values(field) > 1, field == "ent_coef", values(field)))


def _group_json(group: Group) -> dict[str, Any]:
    def event(times: Event | None) -> dict[str, Any] | None:
        return None if times is None else {"n": times.n, "median": asdict(times.survival.median())}

    return {
        "name": group.name,
        "point": dict(group.point),
        "n_seeds": len(group.outcomes),
        "not_counted": [{"directory": o.cell.directory.name, "error": o.error} for o in group.broken],
        "iqm": asdict(group.score),
        "median": asdict(group.seed_median),
        "std": float(np.std(group.returns, ddof=1)) if len(group.returns) > 1 else None,
        "area_under_curve": asdict(group.auc),
        **{name: asdict(estimate) for name, estimate in group.measures.items()},
        "learned": event(group.learned),
        "first_success": event(group.first_success),
        "first_reward": event(group.first_reward),
        "n_failed": group.n_failed,
        "difference_to_baseline": None if group.difference is None else asdict(group.difference),
        "p_value_holm": group.p_value,
        "probability_of_improvement": None if group.improvement is None else asdict(group.improvement),
    }
