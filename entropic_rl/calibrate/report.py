"""The report of a calibration: a page, its numbers as JSON and CSV, and a table on the screen."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from entropic_rl.calibrate.analysis import Results, as_json, caveats, interval, percent, verdict
from entropic_rl.calibrate.config import CalibrationConfig
from entropic_rl.calibrate.experiment import READOUTS, Answers
from entropic_rl.calibrate.measures import Record
from entropic_rl.calibration import calibration_report
from entropic_rl.compare.words import number, p_value
from entropic_rl.datasets import Dataset
from entropic_rl.page import Picture, Row, Table, command_line, drawn, legend, render_page, screen_table
from entropic_rl.plots import plot_coefficient_response, plot_entropies, plot_reliability, plot_uncertainty
from entropic_rl.progress import make_console
from entropic_rl.run_directory import replace_file, write_json
from entropic_rl.tracking import versions

__all__ = ["group_table", "pictures", "print_report", "write_report"]

_SHOWN = {
    "nll": "NLL (nats)",
    "ece_debiased": "ECE, debiased (%)",
    "accuracy": "accuracy (%)",
    "distance": "mean distance to the true posterior",
    "true_error": "true error of calibration (%)",
    "clean_nll": "NLL of clean labels (nats)",
}
_PERCENT = {"ece_debiased", "accuracy", "true_error"}


def write_report(
    out: Path,
    config: CalibrationConfig,
    settings: Mapping[str, Any],
    results: Results,
    *,
    records: Sequence[Record],
    drawings: Sequence[Picture],
    summary: str,
    session: Mapping[str, Any],
) -> None:
    """Write ``report.html``, ``figures/``, ``calibration.json`` and ``records.csv`` into ``out``."""
    numbers = as_json(results)
    write_json(
        out / "calibration.json",
        {
            "data": summary,
            "verdict": verdict(results),
            "caveats": caveats(results, folds=config.folds),
            **numbers,
            "settings": dict(settings),
            "session": dict(session),
            "versions": versions(),
        },
    )
    _write_records(records, out / "records.csv")
    (out / "figures").mkdir(exist_ok=True)
    for picture in drawings:
        replace_file(out / "figures" / f"{picture.name}.svg", picture.svg)
    n_seeds, n_coefs = len(results.seeds), len(results.ent_coefs)
    section = {
        "env": config.data,
        "prefix": "",
        "header": "read-out",
        "baseline": results.reference.name,
        "verdict": verdict(results),
        "caveats": caveats(results, folds=config.folds),
        "legend": legend(READOUTS),
        "pictures": drawings,
        "group_table": group_table(results),
        "baseline_table": _against_table(results),
        "run_table": _run_table(records),
    }
    page = render_page(
        title=f"Calibration on {config.data}: ent_coef {', '.join(results.ent_coefs)}",
        subtitle=f"{summary}. {n_coefs} coefficients x {n_seeds} seeds"
        + (f" x {config.folds} folds" if config.folds else "")
        + ", trained as one batch",
        sections=[section],
        cost=_cost(session),
        command=command_line(session["command"]),
        settings=yaml.safe_dump(dict(settings), sort_keys=False),
        versions="\n".join(f"{name} {version}" for name, version in versions().items()),
        record="All numbers are in calibration.json, and those of every seed in records.csv, beside this page.",
    )
    replace_file(out / "report.html", page)


def print_report(results: Results, config: CalibrationConfig, session: Mapping[str, Any], out: Path) -> None:
    """The verdict and the table, on the screen."""
    console = make_console()
    console.print(screen_table(f"Calibration on {config.data}", group_table(results, brief=True)))
    for sentence in verdict(results):
        console.print(f"- {sentence}", highlight=False, markup=False)
    for note in caveats(results, folds=config.folds):
        console.print(f"  {note}", highlight=False, markup=False, style="dim")
    console.print(_cost(session), highlight=False)
    console.print(f"report: {out / 'report.html'}", highlight=False, soft_wrap=True)


def pictures(
    results: Results, answers: Sequence[Answers], datasets: Mapping[int, Dataset], config: CalibrationConfig
) -> list[Picture]:
    """All figures that the data allows."""
    found = []
    numeric = [coef for coef in results.ent_coefs if _is_number(coef)]
    if len(numeric) > 1:
        found.append(_response(results, numeric))
    seed = results.seeds[0]
    chosen = next(a for a in answers if (a.name, a.seed) == (results.chosen.ent_coef, seed))
    dataset = datasets[seed]
    y = dataset.y[chosen.rows]
    found.append(_reliability(results, chosen, y, config))
    found.append(_entropies(results, chosen, y, len(dataset.classes)))
    if dataset.X.shape[1] == 2:
        found += [_map(results, chosen, dataset, readout) for readout in READOUTS]
    return found


def group_table(results: Results, *, brief: bool = False) -> Table:
    """A row per coefficient and read-out."""
    first = results.groups[0].measures
    header = ["ent_coef", "read-out", "accuracy, %", "NLL, nats", "ECE debiased, %", "confidence - accuracy, %"]
    names = [name for name in ("true_error", "distance", "clean_nll") if name in first]
    header += ["Brier", "entropy, nats"] * (not brief) + [
        _SHOWN[name].replace(" (", ", ").rstrip(")") for name in names
    ]
    rows = []
    for group in results.groups:
        m = group.measures
        cells = [group.ent_coef, group.readout, percent(m["accuracy"]), interval(m["nll"]), percent(m["ece_debiased"])]
        cells.append(f"{100 * m['signed_gap'].value:+.2f}")
        cells += [interval(m["brier"]), f"{m['entropy'].value:.3f}"] * (not brief)
        cells += [percent(m[name]) if name in _PERCENT else interval(m[name]) for name in names]
        rows.append(Row(cells, "best" if group is results.chosen else ""))
    return Table(
        header,
        rows,
        "Means over seeds with 95 % bootstrap intervals. Shaded: the least NLL on validation rows. The debiased ECE of "
        "a calibrated model is 0 on average, and may be negative.",
    )


def _against_table(results: Results) -> Table:
    rows = [
        Row([
            group.ent_coef,
            group.readout,
            f"{a.difference.value:+.4f}"
            + ("" if np.isnan(a.difference.low) else f" [{a.difference.low:+.4f}, {a.difference.high:+.4f}]"),
            f"{a.wins} of {len(results.seeds)}",
            p_value(a.p) if len(results.seeds) >= 6 else "-",
        ])
        for group in results.groups
        if (a := group.against) is not None
    ]  # fmt: skip
    return Table(
        ["ent_coef", "read-out", "difference of NLL, nats", "lower in", "p"],
        rows,
        "Paired by seed: same data, split, first weights and minibatches. p: sign-flip test, two-sided.",
    )


def _run_table(records: Sequence[Record]) -> Table:
    by_run: dict[tuple[str, int], dict[str, Record]] = {}
    for record in records:
        by_run.setdefault((record.ent_coef, record.seed), {})[record.readout] = record
    rows = []
    for (coef, seed), own in by_run.items():
        raw = own["raw"].values
        losses = [f"{own[readout].values['nll']:.4f}" for readout in READOUTS]
        fitted = number(raw["fitted_coef"]) if not _is_number(coef) else coef
        rows.append(Row([coef, str(seed), f"{100 * raw['accuracy']:.2f}", *losses, f"{raw['temperature']:.3f}", fitted,
                         f"{raw['n_epochs']:.0f}"]))  # fmt: skip
    header = ["ent_coef", "seed", "accuracy, %", *(f"NLL {name}" for name in READOUTS), "temperature"]
    return Table([*header, "final ent_coef", "epochs"], rows)


def _response(results: Results, coefs: Sequence[str]) -> Picture:
    names = [name for name in _SHOWN if name in results.groups[0].measures]

    def lines(name: str) -> dict[str, list[np.ndarray]]:
        scale = 100.0 if name in _PERCENT else 1.0
        return {readout: [scale * results.of(coef, readout).scores[name] for coef in coefs] for readout in READOUTS}

    svg = drawn(
        partial(
            plot_coefficient_response,
            ent_coef=[float(coef) for coef in coefs],
            measures={_SHOWN[name]: lines(name) for name in names},
            validation=lines("validation_nll"),
        )
    )
    return Picture(
        "response",
        "What the coefficient does",
        "Means over seeds with 95 % intervals, on test rows; the ring is the choice of the validation rows. A read-out "
        "that works keeps its line low while the raw one rises.",
        svg,
        wide=True,
    )


def _reliability(results: Results, chosen: Answers, y: np.ndarray, config: CalibrationConfig) -> Picture:
    reports = {readout: calibration_report(y, chosen.proba[readout], n_bins=config.n_bins) for readout in READOUTS}
    return Picture(
        "reliability",
        f"Confidence and accuracy at ent_coef {results.chosen.ent_coef}",
        f"Test rows of seed {chosen.seed}. Boxes: where 95 % of calibrated models of this size lie. Below: how often "
        "each confidence is given.",
        drawn(partial(plot_reliability, reports=reports)),
        wide=True,
    )


def _entropies(results: Results, chosen: Answers, y: np.ndarray, n_classes: int) -> Picture:
    answers = {}
    for readout in READOUTS:
        p = chosen.proba[readout]
        entropy = -(p * np.log(np.maximum(p, np.finfo(np.float64).tiny))).sum(1)
        answers[readout] = (entropy, p.argmax(1) == y)
    return Picture(
        "entropies",
        "Which answers to trust",
        f"Entropy of right and wrong answers, ent_coef {results.chosen.ent_coef}, test rows of seed {chosen.seed}.",
        drawn(partial(plot_entropies, answers=answers, n_classes=n_classes)),
        wide=True,
    )


def _map(results: Results, chosen: Answers, dataset: Dataset, readout: str) -> Picture:
    model = chosen.models[0]
    known = dataset.population is not None
    return Picture(
        f"map-{readout}",
        f"Where the model is unsure, {readout}",
        f"Entropy of the probabilities, ent_coef {results.chosen.ent_coef}, seed {chosen.seed}; white where the "
        "likeliest class changes.",
        drawn(
            partial(
                plot_uncertainty,
                predict=lambda points: model.proba(points, readout),
                x=dataset.X[chosen.rows],
                y=dataset.y[chosen.rows],
                truth=dataset.posterior_at if known else None,
                features=dataset.feature_names,
                classes=[str(label) for label in dataset.classes],
            )
        ),
        wide=known,
    )


def _write_records(records: Sequence[Record], path: Path) -> None:
    names = list(dict.fromkeys(name for record in records for name in record.values))
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["ent_coef", "seed", "readout", *names])
        for record in records:
            values = [record.values.get(name, "") for name in names]
            writer.writerow([record.ent_coef, record.seed, record.readout, *values])
    temporary.replace(path)


def _cost(session: Mapping[str, Any]) -> str:
    return (
        f"{session['n_runs']} trainings of {session['n_epochs']} epochs in {session['seconds']:.0f} s, "
        f"{session['num_threads']} thread{'s' if session['num_threads'] > 1 else ''}."
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
