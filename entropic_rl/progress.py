"""How training goes and went, for the person watching: a bar, or a line now and then, and a table at the end."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

__all__ = ["CountProgress", "EpochProgress", "GridProgress", "ProgressReport", "make_console", "print_summary"]


def make_console() -> Console:
    """Where tables are printed, brackets in names as they are; into a file, not squeezed into 80 columns."""
    return Console(width=None if sys.stdout.isatty() else 140, markup=False)


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
        self._console = Console(stderr=True, markup=False)
        self._bar: Progress | None = None
        self._next_line = 0.0

    def __enter__(self) -> Self:
        if self._enabled and self._console.is_terminal:
            self._bar = _bar(self._console)
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


class GridProgress:
    """One bar and one live table for a comparison: a row per group of runs.

    Args:
        groups: the group of each run.
        totals: env steps of each run.
        label: what is compared.
        header: what distinguishes the groups.
        enabled: False is silent.
    """

    def __init__(
        self, groups: Sequence[str], totals: Sequence[int], label: str, header: str, *, enabled: bool = True
    ) -> None:
        self._groups, self._totals, self._label, self._header = groups, totals, label, header
        self._rows: list[Mapping[str, float]] = [{} for _ in groups]
        self._states = ["waiting" for _ in groups]
        self._console = Console(stderr=True, markup=False)
        self._enabled, self._live = enabled, enabled and self._console.is_terminal
        self._started, self._next_line = time.perf_counter(), 0.0

    def __enter__(self) -> Self:
        if self._live:
            self._bar = _bar(self._console)
            self._task = self._bar.add_task(self._label, total=sum(self._totals), status="")
            self._screen = Live(Group(self._bar, self._table()), console=self._console, refresh_per_second=4)
            self._screen.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._screen.update(Group(self._bar, self._table()), refresh=True)
            self._screen.stop()

    def update(self, runs: Sequence[int], rows: Sequence[Mapping[str, float]]) -> None:
        """Rows of metrics of some of the runs, by their numbers."""
        for run, row in zip(runs, rows, strict=True):
            self._rows[run], self._states[run] = row, "training"
        self._show()

    def note(self, runs: Sequence[int], text: str) -> None:
        """What some of the runs are doing: ``evaluating``, ``finished``, ``failed``."""
        for run in runs:
            self._states[run] = text
        self._show()

    def _show(self) -> None:
        done = sum(min(int(row.get("global_step", 0)), n) for row, n in zip(self._rows, self._totals, strict=True))
        total, elapsed = sum(self._totals), time.perf_counter() - self._started
        if self._live:
            self._bar.update(self._task, completed=done, status=f"{done / elapsed:,.0f} steps/s")
            self._screen.update(Group(self._bar, self._table()))
        elif self._enabled and total > 0 and done >= self._next_line * total:
            self._next_line = math.floor(10 * done / total) / 10 + 0.1
            left = elapsed * (total - done) / max(done, 1)
            names = {"return": "rollout/ep_rew_mean", "entropy": "explore/policy_entropy"}
            groups = "  ".join(
                f"[{group}] " + ", ".join(f"{shown} {_mean(rows, name)}" for shown, name in names.items())
                for group, rows in self._by_group().items()
            )
            print(
                f"{self._label}  {done:>9,} / {total:,} steps  {left:.0f} s left  {groups}", file=sys.stderr, flush=True
            )

    def _by_group(self) -> dict[str, list[Mapping[str, float]]]:
        found: dict[str, list[Mapping[str, float]]] = {group: [] for group in self._groups}
        for group, row in zip(self._groups, self._rows, strict=True):
            found[group].append(row)
        return found

    def _table(self) -> Table:
        table = Table()
        for header in (self._header, "runs", "return", "entropy (nats)", "states met", "succeeded", "now"):
            table.add_column(header, justify="left" if header == "now" else "right")
        for group, rows in self._by_group().items():
            states = [state for own, state in zip(self._groups, self._states, strict=True) if own == group]
            now = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states) if state)
            succeeded = sum("explore/first_success" in row for row in rows)
            numbers = [_mean(rows, name) for name in ("rollout/ep_rew_mean", "explore/policy_entropy")]
            table.add_row(group, str(len(rows)), *numbers, _mean(rows, "explore/n_states"), f"{succeeded}", now)
        return table


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


def _status(rows: Sequence[dict[str, float]]) -> str:
    steps_per_second = sum(row["time/fps"] for row in rows)
    parts = [f"return {_mean(rows, 'rollout/ep_rew_mean')}", f"entropy {_mean(rows, 'train/entropy')}"]
    return "  ".join([*parts, f"{steps_per_second:,.0f} steps/s"])


def _mean(rows: Sequence[Mapping[str, float]], name: str) -> str:
    values = [row[name] for row in rows if not math.isnan(row.get(name, math.nan))]
    return f"{sum(values) / len(values):.4g}" if values else "-"


class CountProgress:
    """A bar over equal pieces of work, with the latest of a number.

    Args:
        total: pieces.
        label: what is done.
        number: what the number is.
        enabled: False is silent.
    """

    def __init__(self, total: int, label: str, number: str, *, enabled: bool = True) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{number} {{task.fields[number]}}"),
            TimeRemainingColumn(),
            console=Console(stderr=True, markup=False),
            disable=not enabled,
        )
        self._task = self._bar.add_task(label, total=total, number="-")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, number: float) -> None:
        """After one piece."""
        self._bar.update(self._task, advance=1, number=f"{number:.4f}")


class EpochProgress(CountProgress):
    """The same over the epochs of a supervised training, with the loss."""

    def __init__(self, total: int, label: str, *, enabled: bool = True) -> None:
        super().__init__(total, label, "loss", enabled=enabled)

    def update(self, epoch: int, losses: Any) -> None:
        """After an epoch, counted from 1, with the losses ``[R]`` of all runs."""
        self._bar.update(self._task, completed=epoch, number=f"{float(losses.mean()):.4f}")
