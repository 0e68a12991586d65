"""How good the model was after how many labels: a file that grows with the session, and its picture."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from entropic_rl.active.score import Score
from entropic_rl.active.spreadsheets import write_table
from entropic_rl.errors import ConfigError

__all__ = ["OUT_OF_FOLD", "Point", "add_point", "draw_curve", "read_curve"]

OUT_OF_FOLD = "out-of-fold"


@dataclass(frozen=True, slots=True)
class Point:
    """A score, and what it was measured with.

    Attributes:
        measured_on: name of the test file, or ``out-of-fold``.
        model: whose score it is.
        score: after how many labels, and how good.
    """

    measured_on: str
    model: str
    score: Score


_NUMBERS = [field.name for field in fields(Score)]


def read_curve(path: Path) -> list[Point]:
    """Points in the order in which they came; none if there is no file.

    Raises:
        ConfigError: it is no such file.
    """
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        return [
            Point(
                row["measured_on"], row["model"],
                Score(int(row["n_labels"]), **{name: float(row[name]) for name in _NUMBERS[1:]}),
            )
            for row in rows
        ]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        raise ConfigError(f"{path}: expected the curve of a labelling session; delete it, or put it aside") from None


def add_point(path: Path, point: Point) -> list[Point]:
    """Append a point, in place of one with as many labels of the same kind; all points."""
    kind = (point.measured_on, point.model, point.score.n_labels)
    points = [p for p in read_curve(path) if (p.measured_on, p.model, p.score.n_labels) != kind] + [point]
    rows = [[p.measured_on, p.model, *(f"{value:.6g}" for value in asdict(p.score).values())] for p in points]
    write_table(path, ["measured_on", "model", *_NUMBERS], rows)
    return points


def draw_curve(path: Path, points: list[Point]) -> bool:
    """Draw those measured as the last one was, in order of labels; whether there are two of them."""
    from entropic_rl.plots.labelling import plot_labelling

    last = points[-1]
    kind = (last.measured_on, last.model)
    own = sorted((p.score for p in points if (p.measured_on, p.model) == kind), key=lambda score: score.n_labels)
    if len(own) < 2:
        return False
    where = "rows out of fold" if last.measured_on == OUT_OF_FOLD else last.measured_on
    plot_labelling(path, [asdict(score) for score in own], title=f"{last.model}, measured on {where}")
    return True
