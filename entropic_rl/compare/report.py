"""The report of a comparison: a page, its numbers as JSON and CSV, and a table on the screen."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from entropic_rl.compare.analysis import Section, analyse, to_json
from entropic_rl.compare.figures import pictures
from entropic_rl.compare.grid import Plan, label
from entropic_rl.compare.outcomes import Outcome, read_outcomes, read_sessions
from entropic_rl.compare.tables import baseline_table, group_table, run_table
from entropic_rl.compare.verdict import caveats, costs, verdict
from entropic_rl.config import jsonable
from entropic_rl.errors import RunDirectoryError
from entropic_rl.page import Picture, command_line, legend, render_page, screen_table
from entropic_rl.progress import make_console
from entropic_rl.run_directory import replace_file, write_json
from entropic_rl.tracking import track_comparison, versions

__all__ = ["Report", "print_report", "read_report", "track_report", "write_report"]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a comparison's page says.

    Attributes:
        plan: what was asked for.
        outcomes: every cell.
        sections: numbers by environment; those in which nothing finished are absent.
        sessions: what was trained when.
        pictures: figures by environment.
    """

    plan: Plan
    outcomes: list[Outcome]
    sections: list[Section]
    sessions: list[dict[str, Any]]
    pictures: dict[str, list[Picture]]

    @property
    def header(self) -> str:
        """What distinguishes groups."""
        return ", ".join(self.plan.varying)

    def of(self, section: Section) -> list[Outcome]:
        """The outcomes of a section's environment."""
        return [outcome for outcome in self.outcomes if outcome.cell.run.env == section.env]

    @property
    def title(self) -> str:
        """One line: who, where, over what."""
        agents = " and ".join(dict.fromkeys(outcome.cell.agent for outcome in self.outcomes))
        envs = ", ".join(dict.fromkeys(outcome.cell.run.env for outcome in self.outcomes))
        values = ", ".join(label(value) for value in self.plan.sweep[self.plan.varying[0]])
        compared = f"{self.header} {values}" if len(self.plan.varying) == 1 else f"{self.header} compared"
        return f"{_agent_names(agents)} on {envs}: {compared}"


def read_report(plan: Plan, out: Path, *, landscape: bool = False) -> Report:
    """Numbers of a comparison from its directories; ``landscape`` loads policies and draws the objective around them.

    Raises:
        RunDirectoryError: no run has finished.
    """
    outcomes = read_outcomes(plan, out)
    sections = []
    for env in dict.fromkeys(outcome.cell.run.env for outcome in outcomes):
        groups: dict[str, list[Outcome]] = {}
        for outcome in outcomes:
            if outcome.cell.run.env == env:
                groups.setdefault(outcome.group, []).append(outcome)
        section = analyse(env, groups, plan.varying, threshold=plan.threshold, baseline=plan.baseline)
        if section is not None:
            sections.append(section)
    if not sections:
        reasons = "; ".join(dict.fromkeys(str(outcome.error) for outcome in outcomes))
        raise RunDirectoryError(f"no run of {out} has finished ({reasons}): expected at least one; resume it")
    prefixes = [f"e{i}-" if len(sections) > 1 else "" for i in range(len(sections))]
    drawn = {section.env: pictures(section, prefix) for section, prefix in zip(sections, prefixes, strict=True)}
    if landscape:
        from entropic_rl.compare.landscape import landscape_picture

        for section, prefix in zip(sections, prefixes, strict=True):
            drawn[section.env].append(landscape_picture(section, prefix))
    return Report(plan, outcomes, sections, read_sessions(out), drawn)


def write_report(report: Report, out: Path) -> None:
    """Write ``report.html``, its ``figures/``, ``comparison.json`` and ``curves.csv`` into ``out``."""
    write_json(
        out / "comparison.json",
        {
            "title": report.title,
            "sections": [
                {"verdict": verdict(s), "caveats": caveats(s, report.of(s)), **to_json(s)} for s in report.sections
            ],
            "runs": [_run_json(outcome, out) for outcome in report.outcomes],
            "sessions": report.sessions,
            "versions": versions(),
        },
    )
    _write_curves(report.outcomes, report.plan.varying, out / "curves.csv")
    files = {f"{picture.name}.svg": picture.svg for drawn in report.pictures.values() for picture in drawn}
    (out / "figures").mkdir(exist_ok=True)
    for name, svg in files.items():
        replace_file(out / "figures" / name, svg)
    for stale in {*(out / "figures").glob("*.svg")} - {out / "figures" / name for name in files}:
        stale.unlink()
    replace_file(out / "report.html", _page(report))


def track_report(report: Report, out: Path) -> None:
    """The tables and figures as a Weights & Biases run, if the runs were tracked."""
    run = next(iter(report.plan.bases.values()))[0]
    if not run.track:
        return
    section = report.sections[0]
    tables = {"groups": group_table(section, report.header), "runs": run_table(section, report.of(section))}
    track_comparison(
        out,
        dataclasses.replace(run, wandb_group=run.wandb_group or out.name),
        {
            "sweep": {field: list(values) for field, values in report.plan.sweep.items()},
            "seeds": list(report.plan.seeds),
        },
        tables={name: (table.header, [row.cells for row in table.rows]) for name, table in tables.items()},
        figures={picture.name: picture.svg for picture in report.pictures[section.env]},
        summary={
            "verdict": " ".join(verdict(section)),
            **{f"return_iqm/{group.name}": group.score.value for group in section.groups},
            **{
                f"entropy/{group.name}": group.measures["entropy"].value
                for group in section.groups
                if "entropy" in group.measures
            },
        },
    )


def print_report(report: Report, out: Path) -> None:
    """The verdict and the table of every environment, on the screen."""
    console = make_console()
    for section in report.sections:
        table = group_table(section, report.header, brief=True)
        console.print(
            screen_table(f"{report.title} - {section.env}" if len(report.sections) > 1 else report.title, table)
        )
        for sentence in verdict(section):
            console.print(f"- {sentence}", highlight=False, markup=False)
        for note in caveats(section, report.of(section)):
            console.print(f"  {note}", highlight=False, markup=False, style="dim")
    console.print(costs(report.sessions), highlight=False)
    console.print(f"report: {out / 'report.html'}", highlight=False, soft_wrap=True)


def _page(report: Report) -> str:
    n_seeds = len(report.plan.seeds)
    steps = " / ".join(dict.fromkeys(f"{outcome.cell.run.total_timesteps:,}" for outcome in report.outcomes))
    several = len(report.sections) > 1
    sections = [_section_page(report, s, f"e{i}-" if several else "") for i, s in enumerate(report.sections)]
    groups = f"{len(report.outcomes) // n_seeds} groups x {n_seeds} seeds"
    return render_page(
        title=report.title,
        subtitle=f"{len(report.outcomes)} runs: {groups}, {steps} environment steps each",
        sections=sections,
        cost=costs(report.sessions),
        command="\n".join(command_line(session["command"]) for session in report.sessions)
        or "no record of how it was started",
        settings=_settings(report.plan),
        versions="\n".join(f"{name} {version}" for name, version in versions().items()),
        record="All numbers are in comparison.json and curves.csv beside this page; every run has its own directory "
        "under cells/.",
    )


def _section_page(report: Report, section: Section, prefix: str) -> dict[str, Any]:
    return {
        "env": section.env,
        "prefix": prefix,
        "header": report.header,
        "baseline": section.baseline,
        "verdict": verdict(section),
        "caveats": caveats(section, report.of(section)),
        "legend": legend([group.name for group in section.groups]),
        "pictures": report.pictures[section.env],
        "group_table": group_table(section, report.header),
        "baseline_table": baseline_table(section),
        "run_table": run_table(section, report.of(section)),
    }


def _run_json(outcome: Outcome, out: Path) -> dict[str, Any]:
    directory = str(outcome.cell.directory.relative_to(out))
    return {
        "directory": directory,
        "group": outcome.group,
        "seed": outcome.cell.run.seed,
        "error": outcome.error,
        **outcome.summary,
    }


def _write_curves(outcomes: Sequence[Outcome], fields: Sequence[str], path: Path) -> None:
    """Every row of every run that counts: swept settings and seed, then the metrics, sorted by name."""
    counted = [outcome for outcome in outcomes if outcome.error is None]
    metrics = {name for outcome in counted for row in outcome.rows for name in row} - {"global_step"}
    columns = ["global_step", *sorted(metrics)]
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*fields, "seed", *columns])
        for outcome in counted:
            which = [*map(outcome.cell.value, fields), outcome.cell.run.seed]
            writer.writerows([*which, *map(row.get, columns)] for row in outcome.rows)
    temporary.replace(path)


def _settings(plan: Plan) -> str:
    """The settings that ``--config`` reads, by agent and environment, and what is swept over them."""
    parts = [f"# swept: {json.dumps({field: list(values) for field, values in plan.sweep.items()})}"]
    for (agent, env), (run, config) in plan.bases.items():
        text = yaml.safe_dump(jsonable(run) | jsonable(config), sort_keys=False)
        parts.append(f"# {agent} on {env}\n{text}")
    return "\n".join(parts)


def _agent_names(text: str) -> str:
    return " and ".join(
        name.removeprefix("sb3:") + " (Stable-Baselines3)" if name.startswith("sb3:") else name.upper()
        for name in text.split(" and ")
    )
