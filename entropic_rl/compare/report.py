"""What a comparison says: a table, a figure, and all numbers as JSON."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from entropic_rl.compare.grid import label
from entropic_rl.plots import curve, plot_comparison
from entropic_rl.progress import make_console
from entropic_rl.run_directory import read_metrics, write_json
from entropic_rl.runs import Cell
from entropic_rl.tracking import versions

__all__ = ["steps_to_threshold", "write_report"]


def write_report(
    agent: str,
    cells: Sequence[Cell],
    summaries: Sequence[dict[str, Any]],
    out: Path,
    *,
    threshold: float | None = None,
    seconds: float,
) -> None:
    """Print the table of a finished comparison and write ``comparison.json`` and ``comparison.svg`` into ``out``.

    Args:
        agent: name of the agent.
        cells: what was trained.
        summaries: how each cell ended, in the same order.
        out: directory of the comparison.
        threshold: return that counts as learned; None leaves the steps to it out.
        seconds: wall-clock time of the whole training.
    """
    run = cells[0].run
    ceiling = summaries[0].get("explore/max_entropy")
    metrics = [read_metrics(cell.directory) for cell in cells]
    for summary, rows in zip(summaries, metrics, strict=True):
        summary["steps_to_threshold"] = steps_to_threshold(rows, threshold)
    labels = [label(cell.config.ent_coef) for cell in cells]
    groups = {name: [s for s, own in zip(summaries, labels, strict=True) if own == name] for name in labels}
    coefficients = [_group_row(name, group) for name, group in groups.items()]
    title = f"{agent.upper()} on {run.env}, {run.total_timesteps:,} steps, {len(cells) // len(groups)} seeds"
    write_json(
        out / "comparison.json",
        {
            "agent": agent,
            "env": run.env,
            "threshold": threshold,
            "seconds": seconds,
            "versions": versions(),
            "coefficients": coefficients,
            "cells": [
                {"directory": str(cell.directory.relative_to(out)), **summary}
                for cell, summary in zip(cells, summaries, strict=True)
            ],
        },
    )

    def curves(name: str) -> dict[str, list[Any]]:
        drawn: dict[str, list[Any]] = {group: [] for group in groups}
        for group, rows in zip(labels, metrics, strict=True):
            drawn[group].append(curve(rows, name))
        return drawn

    plot_comparison(
        curves("rollout/ep_rew_mean"),
        curves("train/entropy"),
        out / "comparison.svg",
        title=title,
        max_entropy=ceiling,
        threshold=threshold,
    )
    console = make_console()
    console.print(_table(title, coefficients, threshold, ceiling))
    steps = sum(summary["global_step"] for summary in summaries)
    console.print(f"{len(cells)} runs in {seconds:.1f} s, {steps / seconds:,.0f} steps/s together; record in {out}")


def steps_to_threshold(rows: Sequence[dict[str, float]], threshold: float | None) -> int | None:
    """Env steps after which the mean return of the last 100 training episodes first reached ``threshold``.

    None if it never did (the run is censored at its end), or if there is no threshold.
    """
    if threshold is None:
        return None
    full = (row for row in rows if row["rollout/n_episodes"] >= 100)  # one lucky episode is no mean of 100
    return next((int(row["global_step"]) for row in full if row["rollout/ep_rew_mean"] >= threshold), None)


def _group_row(name: str, group: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One coefficient over its seeds."""
    returns = [summary["eval/mean_reward"] for summary in group]
    reached = [summary["steps_to_threshold"] for summary in group if summary["steps_to_threshold"] is not None]
    return {
        "ent_coef": name,
        "n_seeds": len(group),
        "return_mean": statistics.fmean(returns),
        "return_std": statistics.stdev(returns) if len(returns) > 1 else None,
        "return_min": min(returns),
        "return_max": max(returns),
        "stochastic_return_mean": statistics.fmean(s["eval/stochastic_mean_reward"] for s in group),
        "entropy_mean": statistics.fmean(s["train/entropy"] for s in group),
        "entropy_min": min(s["train/entropy"] for s in group),
        "entropy_max": max(s["train/entropy"] for s in group),
        "n_states_mean": _mean([s["explore/n_states"] for s in group if "explore/n_states" in s]),
        "first_success_median": _median_steps([s.get("explore/first_success") for s in group]),
        "n_succeeded": None
        if group[0].get("success_return") is None
        else sum("explore/first_success" in s for s in group),
        "n_reached": len(reached),
        "steps_to_threshold_median": _median_steps([s["steps_to_threshold"] for s in group]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _median_steps(steps: Sequence[float | None]) -> float | None:
    """The median over runs, where None is later than any step; None if that is the median."""
    median = statistics.median([math.inf if step is None else step for step in steps])
    return median if math.isfinite(median) else None


def _table(title: str, coefficients: Sequence[dict[str, Any]], threshold: float | None, ceiling: float | None) -> Table:
    table = Table(
        title=title,
        caption="the same evaluation episodes for every run; +- std over seeds; brackets: lowest, highest",
    )
    table.add_column("ent_coef", justify="right")
    table.add_column("return, deterministic", justify="right")
    table.add_column("sampled", justify="right")
    table.add_column("final entropy (nats)", justify="right")
    table.add_column("states met", justify="right")
    if coefficients[0]["n_succeeded"] is not None:
        table.add_column("first success", justify="right")
    if threshold is not None:
        table.add_column(f"steps to {threshold:g}", justify="right")
    for row in coefficients:
        spread = "" if row["return_std"] is None else f" +- {row['return_std']:.3g}"
        share = "" if ceiling is None else f", {row['entropy_mean'] / ceiling:.0%} of max"
        cells = [
            row["ent_coef"],
            f"{row['return_mean']:.4g}{spread} [{row['return_min']:.4g}, {row['return_max']:.4g}]",
            f"{row['stochastic_return_mean']:.4g}",
            f"{row['entropy_mean']:.3f} [{row['entropy_min']:.3f}, {row['entropy_max']:.3f}]{share}",
        ]
        states = row["n_states_mean"]
        cells.append("-" if states is None else f"{states:,.1f}" if states < 100 else f"{states:,.0f}")
        if row["n_succeeded"] is not None:
            cells.append(_steps(row["first_success_median"], row["n_succeeded"], row["n_seeds"]))
        if threshold is not None:
            cells.append(_steps(row["steps_to_threshold_median"], row["n_reached"], row["n_seeds"]))
        table.add_row(*cells)
    return table


def _steps(median: float | None, n_reached: int, n_seeds: int) -> str:
    """A median of step counts of which some may never have come."""
    share = f"{n_reached} of {n_seeds}"
    return share if median is None else f"{median:,.0f} ({share})"
