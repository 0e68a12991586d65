"""What a study leaves in its directory and on the screen, whatever it was."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from entropic_rl.page import command_line, legend, render_page, screen_table
from entropic_rl.progress import make_console
from entropic_rl.run_directory import replace_file, write_json
from entropic_rl.studies.findings import Findings
from entropic_rl.studies.study import Request
from entropic_rl.tracking import versions

__all__ = ["print_report", "write_report"]


def write_report(
    out: Path, request: Request, found: Findings, settings: Mapping[str, Any], command: Sequence[str]
) -> None:
    """Write ``report.html``, ``figures/``, ``study.json``, ``table.csv`` and ``runs.csv`` into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "figures").mkdir(exist_ok=True)
    for picture in found.pictures:
        replace_file(out / "figures" / f"{picture.name}.svg", picture.svg)
    replace_file(out / "runs.csv", _csv(found.records))
    replace_file(
        out / "table.csv", _csv([dict(zip(found.table.header, r.cells, strict=True)) for r in found.table.rows])
    )
    session = {"command": list(command), "seconds": found.seconds, "n_runs": found.n_runs,
               "num_threads": request.num_threads}  # fmt: skip
    write_json(
        out / "study.json",
        {
            "study": request.study.name,
            "data": found.data,
            "sentence": found.sentence,
            "caveats": list(found.caveats),
            **found.numbers,
            "settings": dict(settings),
            "session": session,
            "versions": versions(),
        },
    )
    section = {
        "env": request.config.data,
        "prefix": "",
        "header": request.study.setting,
        "baseline": "",
        "verdict": [found.sentence],
        "caveats": list(found.caveats),
        "legend": legend(found.series),
        "pictures": list(found.pictures),
        "group_table": found.table,
        "baseline_table": None,
        "run_table": found.runs,
    }
    page = render_page(
        title=_title(request),
        subtitle=f"{found.data}. {found.n_runs:,} trainings, {request.seeds} seed{'s' if request.seeds > 1 else ''}",
        sections=[section],
        cost=_cost(found, request),
        command=command_line(command),
        settings=yaml.safe_dump(dict(settings), sort_keys=False),
        versions="\n".join(f"{name} {version}" for name, version in versions().items()),
        record="All numbers are in study.json, and those of every run in runs.csv, beside this page.",
    )
    replace_file(out / "report.html", page)


def print_report(out: Path, request: Request, found: Findings) -> None:
    """The table and the sentence, on the screen."""
    console = make_console()
    console.print(screen_table(f"{request.study.name} on {request.config.data}", found.screen))
    console.print(found.sentence, highlight=False, markup=False)
    for note in found.caveats:
        console.print(f"  {note}", highlight=False, markup=False, style="dim")
    console.print(_cost(found, request), highlight=False)
    console.print(f"report: {out / 'report.html'}", highlight=False, soft_wrap=True)


def _title(request: Request) -> str:
    setting, question = request.study.setting.split(",")[0], request.study.question
    return f"{setting[0].upper()}{setting[1:]} on {request.config.data}: {question[0].lower()}{question[1:]}"


def _cost(found: Findings, request: Request) -> str:
    threads = f"{request.num_threads} thread{'s' if request.num_threads > 1 else ''}"
    return f"{found.n_runs} trainings in {found.seconds:.1f} s, {threads}."


def _csv(records: Sequence[Mapping[str, Any]]) -> str:
    file = io.StringIO()
    names = list(dict.fromkeys(name for record in records for name in record))
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return file.getvalue()
