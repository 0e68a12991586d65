"""How training goes and went, for the person watching: a bar, or a line now and then, and a table at the end."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

__all__ = ["ProgressReport", "make_console", "print_summary"]


def make_console() -> Console:
    """Where tables are printed; output that goes to a file is not squeezed into 80 columns."""
    return Console(width=None if sys.stdout.isatty() else 140)


def print_summary(summary: Mapping[str, Any], directory: Path) -> None:
    """The end of a training as a table: the summary of its run ``directory``."""
    table = Table(title=f"{summary['env']}, seed {summary['seed']}, ent_coef {summary['ent_coef']}", show_header=False)
    low, high = summary["eval/mean_reward_low"], summary["eval/mean_reward_high"]
    rows = {
        "return, deterministic": f"{summary['eval/mean_reward']:.2f} +- {summary['eval/std_reward']:.2f} over "
        f"{summary['eval/episodes']} episodes, mean in [{low:.2f}, {high:.2f}]",
        "return, sampled actions": f"{summary['eval/stochastic_mean_reward']:.2f} +- "
        f"{summary['eval/stochastic_std_reward']:.2f}",
        "policy entropy": f"{summary['train/entropy']:.3f} nats",
    }
    if "explore/n_states" in summary:
        rows["states met"] = f"{summary['explore/n_states']:,.0f}, {summary['explore/coverage']:.1%} of those counted"
    if summary["success_return"] is not None:
        first = summary.get("explore/first_success")
        rows["first success"] = "none yet" if first is None else f"after {first:,.0f} environment steps"
    rows["environment steps"] = f"{summary['global_step']:,} at {summary['time/fps']:,.0f} per second"
    rows["run directory"] = str(directory)
    for name, value in rows.items():
        table.add_row(name, value)
    make_console().print(table)


class ProgressReport:
    """One bar for R runs: return, entropy, steps per second, time left.

    Args:
        total: env steps of each run.
        label: what is trained.
        enabled: False is silent.
    """

    def __init__(self, total: int, label: str, *, enabled: bool = True) -> None:
        self._total, self._label, self._enabled = total, label, enabled
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._next_line = 0.0

    def __enter__(self) -> Self:
        if self._enabled and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[status]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._label, total=self._total, status="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def note(self, text: str) -> None:
        """Say what is going on when the bar stands still."""
        if self._bar is not None:
            self._bar.update(self._task, status=text)
        elif self._enabled:
            print(f"{self._label}  {text}", file=sys.stderr, flush=True)

    def update(self, global_step: int, rows: Sequence[dict[str, float]]) -> None:
        """Show the state after ``global_step`` env steps; several runs are shown by their mean."""
        if not self._enabled:
            return
        if self._bar is not None:
            self._bar.update(self._task, completed=min(global_step, self._total), status=_status(rows))
        elif global_step >= self._next_line * self._total:
            self._next_line += 0.1
            left = rows[0]["time/time_elapsed"] * max(self._total - global_step, 0) / global_step
            print(
                f"{self._label}  {global_step:>9,} / {self._total:,} steps  {_status(rows)}  {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )


def _status(rows: Sequence[dict[str, float]]) -> str:
    steps_per_second = sum(row["time/fps"] for row in rows)
    parts = [f"return {_mean(rows, 'rollout/ep_rew_mean')}", f"entropy {_mean(rows, 'train/entropy')}"]
    return "  ".join([*parts, f"{steps_per_second:,.0f} steps/s"])


def _mean(rows: Sequence[dict[str, float]], name: str) -> str:
    values = [row[name] for row in rows if not math.isnan(row.get(name, math.nan))]
    return f"{sum(values) / len(values):.4g}" if values else "-"
