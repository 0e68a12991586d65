"""The tables of a comparison, for the screen and for the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from entropic_rl.compare.analysis import Event, Group, Section, steps_to_threshold
from entropic_rl.compare.outcomes import Outcome
from entropic_rl.compare.statistics import Estimate
from entropic_rl.compare.words import interval, number, p_value, steps
from entropic_rl.page import Row, Table

__all__ = ["baseline_table", "group_table", "run_table"]


def group_table(section: Section, header: str, *, brief: bool = False) -> Table:
    """A row per group: how it learned, explored, and how random it stayed; ``brief`` fits a screen."""
    columns = _group_columns(section, header, brief)
    rows = [
        Row([show(group) for show in columns.values()], "best" if group.name in section.robust else "")
        for group in section.groups
    ]
    caption = (
        "Brackets: 95 % bootstrap interval over seeds; returns of the deterministic policy on the same fresh episodes."
    )
    if brief:
        return Table([*columns], rows, caption)
    return Table(
        [*columns],
        rows,
        caption
        + " Over training: return averaged over all steps. Steps: median over seeds, those that never got there "
        "counted as later (Kaplan-Meier), and how many got there. Failed: ended below the threshold. Shaded: the "
        "interval meets that of the best.",
    )


def _group_columns(section: Section, header: str, brief: bool) -> dict[str, Callable[[Group], str]]:
    """Column name -> what it shows of a group."""

    def measure(name: str, form: Callable[[Estimate], str] = interval) -> Callable[[Group], str]:
        return lambda group: form(group.measures[name]) if name in group.measures else "-"

    def only(estimate: Estimate) -> str:
        return number(estimate.value)

    shape = only if brief else interval
    columns: dict[str, Callable[[Group], str]] = {
        header: lambda group: group.name,
        "seeds": lambda group: f"{len(group.outcomes)}" + (f" + {len(group.broken)} broken" if group.broken else ""),
        "return (IQM)" if brief else "return: interquartile mean": lambda group: interval(group.score),
    }
    if not brief:
        columns["lowest, highest"] = lambda group: f"{number(group.returns.min())}, {number(group.returns.max())}"
    columns["sampled"] = measure("stochastic_return", only)
    if not brief:
        columns["over training"] = lambda group: interval(group.auc)
    columns["entropy" if brief else "entropy (nats)"] = measure("entropy", shape)
    if section.max_entropy:
        ceiling = section.max_entropy
        columns["of uniform"] = measure("entropy", lambda entropy: f"{entropy.value / ceiling:.0%}")
    if "n_states" in section.groups[0].measures:
        columns["states met"] = measure("n_states", shape)
    if section.threshold is not None:
        columns["first success"] = lambda group: _event(group.first_success, group)
        columns[f"steps to {number(section.threshold)}"] = lambda group: _event(group.learned, group)
        columns["failed"] = lambda group: f"{group.n_failed}"
    if any("optimum_kl" in group.measures for group in section.groups):
        columns["nats to optimum (entropy in reward)"] = measure("optimum_kl", shape)
        columns["... (in loss only)"] = measure("loss_only_kl", shape)
    return columns


def baseline_table(section: Section) -> Table | None:
    """A row per group other than the baseline: the paired difference and how sure it is."""
    others = [group for group in section.groups if group.difference is not None]
    explained = f" The groups account for {section.explained:.0%} of the variance between runs (omega squared)."
    if math.isnan(section.explained):
        explained = ""
    if not others:
        return None
    rows = [
        Row(
            [
                group.name,
                interval(group.difference) if group.difference else "",
                p_value(group.p_value),
                interval(group.improvement) if group.improvement else "",
            ]
        )
        for group in others
    ]
    return Table(
        ["group", "difference in return", "p", "probability of improvement"],
        rows,
        f"Mean difference in return to {section.baseline} over the seeds both have (the same seeds start alike); p by "
        f"sign flips, adjusted by Holm's method for {len(others)} comparisons; probability that a run returns more "
        f"than one of {section.baseline}.{explained}",
    )


def run_table(section: Section, outcomes: Sequence[Outcome]) -> Table:
    """A row per run, broken ones included."""
    header = ["run", "seed", "return", "sampled", "entropy", "states met", "first success", "steps/s"]
    if section.threshold is not None:
        header.insert(6, f"steps to {number(section.threshold)}")
    return Table(header, [_run_row(section, outcome) for outcome in outcomes])


def _event(event: Event | None, group: Group) -> str:
    if event is None:
        return "-"
    share = f"{event.n} of {len(group.outcomes)}"
    median = event.survival.median()
    return share if median.value == float("inf") else f"{steps(median.value)} ({share})"


def _run_row(section: Section, outcome: Outcome) -> Row:
    seed = str(outcome.cell.run.seed)
    n_columns = 7 + (section.threshold is not None)
    if outcome.error is not None:
        return Row([outcome.group, seed, outcome.error, *[""] * (n_columns - 2)], "broken")

    def of(name: str, form: object = number) -> str:
        value = outcome.summary.get(name)
        return "-" if value is None or not callable(form) else form(value)

    cells = [
        outcome.group,
        seed,
        of("eval/mean_reward"),
        of("eval/stochastic_mean_reward"),
        of("explore/policy_entropy"),
        of("explore/n_states"),
        of("explore/first_success", steps),
        of("time/fps"),
    ]
    if section.threshold is not None:
        reached = steps_to_threshold(outcome.rows, section.threshold)
        cells.insert(6, "never" if reached is None else steps(reached))
    return Row(cells)
