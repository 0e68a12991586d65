"""What a labelling session says on the screen; free of torch."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from entropic_rl.active.said import Said
from entropic_rl.datasets.pools import Pool

if TYPE_CHECKING:
    from entropic_rl.active.score import Score

__all__ = ["describer", "flags", "labels_line", "question_table", "score_line", "why"]

_WIDEST = 24  # characters of a cell of the table
_LINE = 96  # characters of a line of cells
_COLUMNS = {"table": 5, "terminal": 12}  # of the pool that are shown, unless they are named
_NORMAL = 1.959964  # 97.5 % quantile

_WHY = {
    "random": "drawn at random",
    "least-confidence": "the likeliest answer is least likely there",
    "margin": "the two likeliest answers are nearest to each other there",
    "entropy": "the answer is most open there",
    "tsallis": "the answer is most open there, by Tsallis entropy",
    "renyi": "the answer is most open there, by Renyi entropy",
    "bald": "the members of the model contradict each other most there",
    "batch-bald": "the members contradict each other most about them, taken together",
    "badge": "they would move the model far, in different directions",
    "k-center": "together they lie nearest to all rows without a label",
    "entropy-density": "the answer is open there, and many rows are like them",
    "expected-entropy-reduction": "their labels are expected to settle most of the others",
}


def why(strategy: str, *, is_ready: bool, n_labels: int) -> str:
    """Why these rows, in a sentence."""
    if is_ready:
        return f"{strategy}: {_WHY.get(strategy.partition(':')[0], 'as that strategy ranks them')}"
    there = "there are no labels yet" if not n_labels else f"all {n_labels} labels so far are of one class"
    return f"a random spread over the pool: {there}, and a model needs two classes"


def question_table(
    pool: Pool, rows: Sequence[int], said: Sequence[Said | None], *, strategy: str, show: Sequence[str]
) -> Table:
    """Rows to label: name, the model's answer with the next best, what is wanted of it, and columns of the pool."""
    models = [one for one in said if one is not None]
    scored = bool(models) and models[0].score is not None and strategy != "entropy"
    columns, left = _columns(pool, show, _COLUMNS["table"])
    caption = f"and {left} more column{'s' if left > 1 else ''}; --show COLUMN ... chooses" if left else None
    table = Table(caption=caption, caption_justify="left")
    table.add_column(Text(pool.key), no_wrap=True)
    own = ["answer", "next best", "entropy (nats)", *([strategy] if scored else [])] if models else []
    for name in own:
        table.add_column(name, justify="left" if name in ("answer", "next best") else "right")
    for name in columns:
        table.add_column(Text(name), justify="right", overflow="fold")
    for row, one in zip(rows, said, strict=True):
        cells = [] if one is None else _cells(one, scored=scored)
        values = [_cut(_shown(pool, name, row)) for name in columns]
        table.add_row(*(Text(cell) for cell in (_cut(pool.names[row]), *cells, *values)))
    return table


def describer(pool: Pool, show: Sequence[str]) -> Callable[[int], str]:
    """A row as lines for the terminal."""
    columns, left = _columns(pool, show, _COLUMNS["terminal"])
    more = [f"(and {left} more; --show COLUMN ... chooses)"] if left else []

    def describe(row: int) -> str:
        cells = [f"{name} {_shown(pool, name, row)}" for name in columns] + more
        return "\n  ".join([f"{pool.key} {pool.names[row]}", *_packed(cells)])

    return describe


def labels_line(path: object, labels: Mapping[int, str], n_pool: int) -> str:
    """``labels.csv: 40 labels of 1,797 rows (cat 22, dog 18)``."""
    counts = Counter(labels.values())
    listed = ", ".join(f"{label} {n:,}" for label, n in sorted(counts.items())[:12])
    more = f", and {len(counts) - 12} more" if len(counts) > 12 else ""
    which = f" ({listed}{more})" if counts else ""
    return f"{path}: {len(labels):,} label{'' if len(labels) == 1 else 's'} of {n_pool:,} rows{which}"


def score_line(score: Score, *, measured_on: str, n_rows: int | None) -> str:
    """A score in a sentence: on ``n_rows`` of a test file, with an interval; or out of fold, with a warning."""
    gap = 100.0 * score.signed_gap
    sure = (
        "as sure as it is right"
        if abs(gap) < 0.05
        else f"{abs(gap):.1f} points too {'sure' if gap > 0 else 'cautious'}"
    )
    error = f"{100.0 * score.ece_debiased:.1f} points" if score.ece_debiased > 0.0 else "no larger than by chance"
    numbers = f"NLL {score.nll:.3f}, {sure}, calibration error {error}"
    share = f"accuracy {100.0 * score.accuracy:.1f} %"
    if n_rows is None:
        return (
            f"{share} on the {score.n_labels} labels, out of fold ({numbers}); rows that are asked for are no fair "
            "sample of the pool: for a number to report give --test FILE, labelled rows drawn at random"
        )
    low, high = _wilson(score.accuracy, n_rows)
    within = f"95 % interval {100.0 * low:.1f} to {100.0 * high:.1f}"
    return f"{share} ({within}) on the {n_rows:,} rows of {measured_on}, after {score.n_labels} labels; {numbers}"


def flags(values: Mapping[str, Any]) -> list[str]:
    """Settings as one would type them."""
    words = []
    for name, value in values.items():
        flag = "--" + name.replace("_", "-")
        if value is True or value is False:
            words.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, list | tuple):
            words.extend([flag, *map(str, value)])
        elif value is not None:
            words.extend([flag, str(value)])
    return [shlex.quote(word) for word in words]


def _cells(one: Said, *, scored: bool) -> list[str]:
    answer = f"{_cut(one.label)}  {100.0 * one.probability:.0f} %"
    second = f"{_cut(one.second)}  {100.0 * one.second_probability:.0f} %"
    entropy = f"{max(one.entropy, 0.0):.3f}"
    return [answer, second, entropy, *([f"{one.score:.3f}"] if scored else [])]


def _columns(pool: Pool, show: Sequence[str], most: int) -> tuple[list[str], int]:
    """Columns of the pool to show, and how many are left out."""
    if show:
        return list(show), 0
    own = list(pool.categories)
    return own[:most], max(len(own) - most, 0)


def _shown(pool: Pool, column: str, row: int) -> str:
    value = pool.table.columns[column][row]
    return f"{value:.5g}" if isinstance(value, float) else "" if value is None else " ".join(str(value).split())


def _packed(cells: Sequence[str]) -> list[str]:
    """Cells in as few lines as hold them whole."""
    lines: list[str] = []
    for cell in cells:
        if lines and len(lines[-1]) + len(cell) + 3 <= _LINE:
            lines[-1] += f"   {cell}"
        else:
            lines.append(cell)
    return lines


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def _wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a share of ``n``. Source: Wilson (1927), https://doi.org/10.2307/2276774."""
    weight = _NORMAL**2 / n
    centre = (share + weight / 2.0) / (1.0 + weight)
    half = _NORMAL * math.sqrt(share * (1.0 - share) / n + weight / (4.0 * n)) / (1.0 + weight)
    return max(centre - half, 0.0), min(centre + half, 1.0)
