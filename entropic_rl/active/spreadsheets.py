"""Questions and answers as files that a spreadsheet opens; free of torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from entropic_rl.active.said import Said
from entropic_rl.datasets.pools import Pool
from entropic_rl.datasets.tables import check_file, listed, read_cells
from entropic_rl.errors import ConfigError
from entropic_rl.run_directory import replace_file

__all__ = ["read_answers", "write_predictions", "write_questions", "write_table"]

_OURS = ("model_answer", "model_probability", "model_entropy")


def write_questions(
    path: Path, pool: Pool, rows: Sequence[int], said: Sequence[Said | None], columns: Sequence[str]
) -> None:
    """Rows to label: name, an empty ``label``, what the model says, and columns of the pool."""
    shown = [name for name in columns if name.lower() not in (pool.key.lower(), "label", *_OURS)]
    own = [["" if one is None else one.label, *([""] * 2 if one is None else one.numbers)] for one in said]
    table = [
        [pool.names[row], "", *about, *(pool.table.text(name, row) for name in shown)]
        for row, about in zip(rows, own, strict=True)
    ]
    write_table(path, [pool.key, "label", *_OURS, *shown], table)


def read_answers(path: Path, key: str) -> tuple[list[tuple[str, str]], int]:
    """Names of rows with their labels, and how many rows have none.

    Raises:
        ConfigError: it is no CSV with a column of names and one of labels, or a label has no row.
    """
    check_file(path)
    if path.suffix.lower() not in (".csv", ".tsv"):
        raise ConfigError(f"{path}: expected answers as CSV, which spreadsheets save, got {path.suffix}")
    columns = {name.lower(): cells for name, cells in read_cells(path).items()}
    for name in (key, "label"):
        if name.lower() not in columns:
            raise ConfigError(
                f"{path}: expected the columns {key} and label, got {listed(list(columns))}; fill in a file that --out "
                "wrote"
            )
    labels = [" ".join(label.split()) for label in columns["label"]]
    entries = list(zip(columns[key.lower()], labels, strict=True))
    nameless = [number for number, (name, label) in enumerate(entries, 1) if label and not name]
    if nameless:
        raise ConfigError(f"{path}: expected a {key} for each label, got none in row {nameless[0]} (the first is 1)")
    answered = [entry for entry in entries if entry[1]]
    return answered, sum(bool(name) for name, _ in entries) - len(answered)


def write_predictions(path: Path, pool: Pool, said: Iterable[Said], given: dict[int, str]) -> None:
    """The model's answer for every row, with its probability and entropy, beside the person's where there is one."""
    table = [[pool.names[row], one.label, *one.numbers, given.get(row, "")] for row, one in enumerate(said)]
    write_table(path, [pool.key, "label", "probability", "entropy", "given"], table)


def write_table(path: Path, heading: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A CSV, all of it or nothing; with a mark that spreadsheets know UTF-8 by where there is more than ASCII.

    Raises:
        ConfigError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heading)
    writer.writerows(rows)
    content = text.getvalue()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content if content.isascii() else "\ufeff" + content)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
