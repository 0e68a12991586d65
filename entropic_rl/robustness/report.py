"""The report of attacks: a page, its numbers as JSON and CSV, and a table on the screen."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from entropic_rl.compare.words import enumeration, p_value
from entropic_rl.page import Picture, Row, Table, command_line, drawn, legend, render_page, screen_table
from entropic_rl.plots import plot_accuracy_curves, plot_attacks
from entropic_rl.progress import make_console
from entropic_rl.robustness.analysis import CUSTOMARY, Results, as_json, caveats, percent, verdict
from entropic_rl.robustness.curves import STRONGEST
from entropic_rl.run_directory import replace_file, write_json
from entropic_rl.tracking import versions

if TYPE_CHECKING:
    from entropic_rl.robustness.config import Settings
    from entropic_rl.robustness.experiment import Sample

__all__ = ["group_table", "pictures", "print_report", "write_report"]

# As they are shown, the strongest last; PGD's iterates alone are for the flags.
_ATTACKS = {
    "noise": "noise",
    "transfer": "transfer",
    "fgsm": "FGSM",
    "random search": "random search",
    CUSTOMARY: "PGD, cross-entropy",
    "pgd margin": "PGD, margin",
    "pgd dlr": "PGD, DLR",
    STRONGEST: "all together",
}


def write_report(
    out: Path,
    settings: Settings,
    results: Results,
    *,
    data: Sample,
    drawings: Sequence[Picture],
    session: Mapping[str, Any],
) -> None:
    """Write ``report.html``, ``robustness.json``, ``attacks.csv``, ``corruptions.csv``, ``figures/`` into ``out``."""
    notes = [f"A radius of 1 is {data.unit}.", *caveats(results)]
    write_json(
        out / "robustness.json",
        {
            "data": data.summary,
            "unit": data.unit,
            "verdict": verdict(results),
            "caveats": notes,
            **as_json(results),
            "settings": dict(settings.shown),
            "session": dict(session),
            "versions": versions(),
        },
    )
    accuracies = {group.name: group.accuracy for group in results.groups}
    _write_long(out / "attacks.csv", "attack", "eps", results.eps, accuracies)
    corrupted = {group.name: group.corrupted for group in results.groups}
    _write_long(out / "corruptions.csv", "corruption", "severity", results.severities, corrupted)
    (out / "figures").mkdir(exist_ok=True)
    for picture in drawings:
        replace_file(out / "figures" / f"{picture.name}.svg", picture.svg)
    names = [group.name for group in results.groups]
    section = {
        "env": settings.config.data,
        "prefix": "",
        "header": "training",
        "baseline": results.reference.name,
        "verdict": verdict(results),
        "caveats": notes,
        "legend": legend(names),
        "pictures": drawings,
        "group_table": group_table(results),
        "baseline_table": _against_table(results),
        "run_table": _run_table(results),
    }
    page = render_page(
        title=f"Robustness on {settings.config.data}: {', '.join(names)}",
        subtitle=f"{data.summary}. {len(names)} trainings x {results.n_seeds} seeds, trained and attacked as one batch",
        sections=[section],
        cost=_cost(session),
        command=command_line(session["command"]),
        settings=yaml.safe_dump(dict(settings.shown), sort_keys=False),
        versions="\n".join(f"{name} {version}" for name, version in versions().items()),
        record="All numbers are in robustness.json, attacks.csv and corruptions.csv, beside this page.",
    )
    replace_file(out / "report.html", page)


def print_report(results: Results, settings: Settings, session: Mapping[str, Any], out: Path) -> None:
    """The verdict and the table, on the screen."""
    console = make_console()
    console.print(screen_table(f"Robustness on {settings.config.data}", group_table(results)))
    for sentence in verdict(results):
        console.print(f"- {sentence}", highlight=False, markup=False)
    for note in caveats(results):
        console.print(f"  {note}", highlight=False, markup=False, style="dim")
    console.print(_cost(session), highlight=False)
    console.print(f"report: {out / 'report.html'}", highlight=False, soft_wrap=True)


def pictures(results: Results) -> list[Picture]:
    """Accuracy over the radius as it looks and as it is, by every attack, and over corruptions."""
    radius = f"radius ({'L-infinity' if results.norm == 'linf' else 'L2'})"
    shown = {"PGD on the cross-entropy": CUSTOMARY, "all attacks together": STRONGEST}
    compared = {title: {g.name: g.accuracy[name] for g in results.groups} for title, name in shown.items()}
    attacks = {
        group.name: {label: group.accuracy[name][results.middle] for name, label in _ATTACKS.items()
                     if name in group.accuracy}
        for group in results.groups
    }  # fmt: skip
    kinds = list(results.reference.corrupted)
    corrupted = {kind: {group.name: group.corrupted[kind] for group in results.groups} for kind in kinds}
    reference = results.reference.name if len(results.groups) > 1 else None
    return [
        Picture(
            "robustness",
            "What withstands",
            "Accuracy over the radius of the attack, and below it beside the first training, paired by seed; means "
            "over seeds with 95 % intervals. Left: what is customarily reported. Right: what is left when every attack "
            "may try. A line that is above on the left alone only looks robust.",
            drawn(partial(plot_accuracy_curves, x=results.eps, panels=compared, xlabel=radius, columns=2,
                          beside=reference)),
            wide=True,
        ),
        Picture(
            "attacks",
            f"By which attack, within {results.eps[results.middle]:g}",
            "The leftmost dot of a line counts. Where a search without gradients, rows of another model or another "
            "loss lie left of PGD on the cross-entropy, its gradient is masked.",
            drawn(partial(plot_attacks, accuracies=attacks)),
            wide=True,
        ),
        Picture(
            "corruptions",
            "Without an enemy",
            "Accuracy over the severity of corruptions, in the units of the features; of dropped features their share.",
            drawn(partial(plot_accuracy_curves, x=results.severities, panels=corrupted, xlabel="severity")),
            wide=True,
        ),
    ]  # fmt: skip


def group_table(results: Results) -> Table:
    """A row per group: accuracy under all attacks by radius, and under the customary one where most is told."""
    k = results.middle
    header = ["training", *(f"{eps:g}" for eps in results.eps), f"PGD on cross-entropy, {results.eps[k]:g}", "flagged"]
    best = max(results.groups, key=lambda group: group.accuracy[STRONGEST][k].mean())
    rows = [
        Row(
            [
                group.name,
                *(percent(group.estimate(i)) for i in range(len(results.eps))),
                percent(group.estimate(k, CUSTOMARY)),
                f"{group.n_flagged} of {results.n_seeds}",
            ],
            "best" if group is best else "",
        )
        for group in results.groups
    ]
    return Table(
        header,
        rows,
        f"Accuracy in percent by radius ({results.norm}) under all attacks together, means over seeds with 95 % "
        f"bootstrap intervals. Shaded: the most robust at {results.eps[k]:g}. Flagged: seeds that show a sign of "
        "masked gradients.",
    )


def _against_table(results: Results) -> Table:
    rows = []
    for group in results.groups[1:]:
        for k, eps in enumerate(results.eps):
            true, looks = (results.against(group, k, name) for name in (STRONGEST, CUSTOMARY))
            cells = [group.name, f"{eps:g}", _points(true.difference.value)]
            cells[-1] += (
                "" if results.n_seeds == 1 else f" [{_points(true.difference.low)}, {_points(true.difference.high)}]"
            )
            cells += [f"{true.wins} of {results.n_seeds}", p_value(true.p) if results.n_seeds >= 6 else "-"]
            rows.append(Row([*cells, _points(looks.difference.value)]))
    return Table(
        ["training", "radius", "all attacks, points", "higher in", "p", "PGD on cross-entropy, points"],
        rows,
        "Paired by seed: same rows, split, first weights and minibatches. p: sign-flip test, two-sided.",
    )


def _run_table(results: Results) -> Table:
    rows = [
        Row([
            group.name,
            str(seed),
            *(f"{100 * value:.1f}" for value in group.accuracy[STRONGEST][:, seed]),
            "; ".join(flag.sentence for flag in group.flags[seed].raised) or "-",
        ])
        for group in results.groups
        for seed in range(results.n_seeds)
    ]  # fmt: skip
    return Table(["training", "seed", *(f"{eps:g}" for eps in results.eps), "signs of masked gradients"], rows)


def _write_long(
    path: Path, kind: str, amount: str, amounts: Sequence[float], values: Mapping[str, Mapping[str, Any]]
) -> None:
    """A line per group, kind, amount and seed."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["training", "seed", kind, amount, "accuracy"])
        for group, own in values.items():
            for name, table in own.items():
                for value, row in zip(amounts, table, strict=True):
                    writer.writerows([group, seed, name, value, score] for seed, score in enumerate(row))
    temporary.replace(path)


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}"


def _cost(session: Mapping[str, Any]) -> str:
    parts = [f"{session['n_runs']} trainings of {session['n_epochs']} epochs in {session['seconds_training']:.0f} s",
             f"their attacks in {session['seconds'] - session['seconds_training']:.0f} s"]  # fmt: skip
    return f"{enumeration(parts)}, {session['num_threads']} thread{'s' * (session['num_threads'] > 1)}."
