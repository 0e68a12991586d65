"""The report of a comparison of strategies: a page, its numbers as JSON and CSV, and a table on the screen."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from entropic_rl.active.analysis import Group, Results, as_json, caveats, labels_text, percent, verdict
from entropic_rl.active.config import ComparisonConfig
from entropic_rl.active.experiment import Curve
from entropic_rl.active.score import MEASURES
from entropic_rl.compare.words import p_value
from entropic_rl.page import Picture, Row, Table, command_line, drawn, legend, render_page, screen_table
from entropic_rl.plots.active import plot_area_differences, plot_learning_curves
from entropic_rl.progress import make_console
from entropic_rl.run_directory import replace_file, write_json
from entropic_rl.tracking import versions

__all__ = ["group_table", "pictures", "print_report", "record_table", "write_report"]


def write_report(
    out: Path,
    config: ComparisonConfig,
    settings: Mapping[str, Any],
    results: Results,
    *,
    curves: Sequence[Curve],
    drawings: Sequence[Picture],
    summary: str,
    session: Mapping[str, Any],
) -> None:
    """Write ``report.html``, ``figures/``, ``active_learning.json``, ``curves.csv`` and ``asked.csv`` into ``out``."""
    said, notes = verdict(results), caveats(results, model=config.model)
    numbers = {"data": summary, "verdict": said, "caveats": notes, **as_json(results)}
    about = {"settings": dict(settings), "session": dict(session), "versions": versions()}
    write_json(out / "active_learning.json", numbers | about)
    replace_file(out / "curves.csv", _curves_csv(curves))
    replace_file(out / "asked.csv", _asked_csv(curves))
    (out / "figures").mkdir(exist_ok=True)
    for picture in drawings:
        replace_file(out / "figures" / f"{picture.name}.svg", picture.svg)
    section = {
        "env": config.data,
        "prefix": "",
        "header": "strategy",
        "baseline": "random",
        "verdict": said,
        "caveats": notes,
        "legend": legend([group.name for group in results.groups]),
        "pictures": drawings,
        "group_table": group_table(results),
        "baseline_table": _against_table(results),
        "more_tables": _more_tables(results),
        "run_table": _run_table(results),
    }
    strategies = list(dict.fromkeys(group.strategy for group in results.groups))
    page = render_page(
        title=f"Active learning on {config.data}: {', '.join(strategies)}",
        subtitle=f"{summary}. {config.model}, {results.n_labels[0]} to {results.n_labels[-1]} labels, {config.batch} a "
        f"query; {len(results.groups)} groups x {len(results.seeds)} seeds",
        sections=[section],
        cost=_cost(session),
        command=command_line(session["command"]),
        settings=yaml.safe_dump(dict(settings), sort_keys=False),
        versions="\n".join(f"{name} {version}" for name, version in versions().items()),
        record="All numbers are in active_learning.json, every score in curves.csv, and what was asked in asked.csv.",
    )
    replace_file(out / "report.html", page)


def print_report(results: Results, config: ComparisonConfig, session: Mapping[str, Any], out: Path) -> None:
    """The verdict and the table, on the screen."""
    console = make_console()
    console.print(screen_table(f"Active learning on {config.data}, {config.model}", group_table(results, brief=True)))
    for sentence in verdict(results):
        console.print(f"- {sentence}", highlight=False, markup=False)
    for note in caveats(results, model=config.model):
        console.print(f"  {note}", highlight=False, markup=False, style="dim")
    console.print(_cost(session), highlight=False)
    console.print(f"report: {out / 'report.html'}", highlight=False, soft_wrap=True)


def pictures(results: Results) -> list[Picture]:
    """Curves, what they amount to, and calibration along them."""
    groups = results.groups

    def curves(name: str) -> dict[str, Any]:
        scale = 1.0 if name == "nll" else 100.0
        return {group.name: scale * group.curves[name] for group in groups}

    label = "accuracy (%)"
    level = {label: (100 * results.target, f"{results.target:.0%}")}
    accuracy = partial(plot_learning_curves, n_labels=results.n_labels, measures={label: curves("accuracy")})
    measures = {"NLL (nats)": curves("nll"), "ECE, debiased (%)": curves("ece_debiased"),
                "confidence - accuracy (%)": curves("signed_gap")}  # fmt: skip
    calibration = partial(plot_learning_curves, n_labels=results.n_labels, measures=measures,
                          levels={"confidence - accuracy (%)": (0.0, "calibrated")})  # fmt: skip
    found = [
        Picture("curves", "What asking brings", "Means over seeds with 95 % intervals, on test rows.",
                drawn(partial(accuracy, levels=level)), wide=True)
    ]  # fmt: skip
    beside = {g.name: (a.value, a.low, a.high) for g in groups if g.against is not None for a in [g.against.area]}
    if beside:
        svg = drawn(partial(plot_area_differences, differences=beside, baseline="random",
                            index={g.name: i for i, g in enumerate(groups)}, n_series=len(groups)))  # fmt: skip
        found.append(Picture("areas", "Beside chance", "Differences paired by seed, with 95 % intervals; right of the "
                             "dotted line a strategy is worth its trouble.", svg, wide=True))  # fmt: skip
    found.append(Picture("calibration", "Calibration along the curve", "What is asked is no fair sample of the pool, "
                         "and a model may pay for it in honesty. A debiased error may be negative.",
                         drawn(calibration), wide=True))  # fmt: skip
    return found


def group_table(results: Results, *, brief: bool = False) -> Table:
    """A row per strategy and coefficient."""
    header = [
        "strategy",
        "mean accuracy, %",
        f"labels to {results.target:.0%}",
        "fewer than chance",
        "final accuracy, %",
    ]
    header += ["final NLL, nats", "final ECE debiased, %", "final confidence - accuracy, %"] * (not brief)
    rows = []
    for group in results.groups:
        last = {name: group.curves[name][:, -1].mean() for name in MEASURES}
        cells = [group.name, percent(group.area), labels_text(group.median_to_target), _saved(results, group)]
        cells.append(percent(group.final))
        cells += [f"{last['nll']:.4f}", f"{100 * last['ece_debiased']:.2f}", f"{100 * last['signed_gap']:+.2f}"] * (
            not brief
        )
        rows.append(Row(cells, "best" if group is results.best else ""))
    return Table(
        header,
        rows,
        "Means over seeds with 95 % bootstrap intervals; labels are those of the median seed. Mean accuracy: the area "
        "under the curve by trapezoids over its width. Shaded: the largest.",
    )


def record_table(results: Results) -> Table:
    """Seeds won, tied and lost of each against each."""
    rows = [
        Row([a.name, *("" if a is b else " / ".join(map(str, results.record(a, b))) for b in results.groups)])
        for a in results.groups
    ]
    return Table(
        ["won / tied / lost by", *(f"against {group.name}" for group in results.groups)],
        rows,
        f"Seeds by the area under the curve; within {100 * results.tie:g} points is a tie.",
    )


def _more_tables(results: Results) -> list[dict[str, Any]]:
    found = [{"title": "Wins, ties, losses", "id": "record", "table": record_table(results)}]
    if any(group.stops for group in results.groups):
        rows = [
            Row([group.name, stop.rule, f"{stop.stopped} of {len(results.seeds)}", labels_text(stop.n_labels),
                 "-" if math.isnan(stop.lost) else f"{100 * stop.lost:+.2f}"])
            for group in results.groups
            for stop in group.stops
        ]  # fmt: skip
        caption = "Where a rule would have stopped, and how much accuracy the labels after it still brought: means over the seeds in which it held."  # noqa: E501
        table = Table(["strategy", "rule", "stopped in", "labels", "accuracy lost, points"], rows, caption)
        found.append({"title": "When to stop", "id": "stopping", "table": table})
    return found


def _against_table(results: Results) -> Table | None:
    rows = [
        Row([
            group.name,
            f"{100 * a.area.value:+.2f}"
            + ("" if math.isnan(a.area.low) else f" [{100 * a.area.low:+.2f}, {100 * a.area.high:+.2f}]"),
            " / ".join(map(str, a.record)),
            p_value(a.p) if len(results.seeds) >= 6 else "-",
        ])
        for group in results.groups
        if (a := group.against) is not None
    ]  # fmt: skip
    if not rows:
        return None
    return Table(
        ["strategy", "difference of mean accuracy, points", "won / tied / lost", "p"],
        rows,
        "Paired by seed: same pool, test rows, first labels and first weights. p: sign-flip test, two-sided, adjusted "
        "for the number of strategies (Holm).",
    )


def _run_table(results: Results) -> Table:
    rows = [
        Row([group.name, str(seed), f"{100 * group.areas[i]:.2f}", labels_text(group.to_target[i]),
             f"{100 * group.curves['accuracy'][i, -1]:.2f}", f"{group.curves['nll'][i, -1]:.4f}"])
        for group in results.groups
        for i, seed in enumerate(results.seeds)
    ]  # fmt: skip
    header = ["strategy", "seed", "mean accuracy, %", f"labels to {results.target:.0%}", "final accuracy, %"]
    return Table([*header, "final NLL"], rows)


def _saved(results: Results, group: Group) -> str:
    if group.against is None:
        return ""
    ours, theirs = group.median_to_target, results.chance(group).median_to_target
    return f"{1 - ours / theirs:.0%}" if math.isfinite(ours) and math.isfinite(theirs) else "-"


def _curves_csv(curves: Sequence[Curve]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    judged = ("agreement", "confidence", "entropy")
    writer.writerow(["strategy", "ent_coef", "seed", "n_labels", *MEASURES, *(f"pool_{name}" for name in judged)])
    for curve in curves:
        rounds = {r.n_labels: r for r in curve.rounds}
        for score in curve.scores:
            own = rounds.get(score.n_labels)
            said = ["" if own is None or math.isnan(x := getattr(own, name)) else x for name in judged]
            head = [curve.trial.strategy, curve.trial.coefficient, curve.trial.seed, score.n_labels]
            writer.writerow([*head, *(getattr(score, name) for name in MEASURES), *said])
    return text.getvalue()


def _asked_csv(curves: Sequence[Curve]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["strategy", "ent_coef", "seed", "place", "row_of_pool"])
    for curve in curves:
        head = [curve.trial.strategy, curve.trial.coefficient, curve.trial.seed]
        writer.writerows([*head, place, row] for place, row in enumerate(curve.asked))
    return text.getvalue()


def _cost(session: Mapping[str, Any]) -> str:
    threads = session["num_threads"]
    return (
        f"{session['n_trials']} curves of {session['n_queries']} queries in {session['seconds']:.0f} s, {threads} "
        f"thread{'s' if threads > 1 else ''}."
    )
