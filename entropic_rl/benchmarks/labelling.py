"""A labelling session on the digits with someone who knows all answers: what labels bring, and how long one waits."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from entropic_rl.active.label_book import LabelBook
from entropic_rl.active.labelling import Labelling
from entropic_rl.active.labelling_config import LabellingConfig
from entropic_rl.active.score import Score
from entropic_rl.datasets.data import generator
from entropic_rl.datasets.pools import pool_of, read_table
from entropic_rl.plots.labelling import plot_labelling

__all__ = ["Session", "draw", "labelling_row", "play"]

_N_TEST = 540


@dataclass(frozen=True, slots=True)
class Session:
    """What came of it.

    Attributes:
        scores: on rows that are never asked about, after each round.
        out_of_fold: on the labelled rows themselves, at the end.
        waits: CPU seconds of each round, from its answers to the next questions and the estimate out of fold.
    """

    scores: list[Score]
    out_of_fold: Score
    waits: list[float]


def play(model: str, seed: int, *, n_labels: int, batch: int, strategy: str = "margin") -> Session:
    """Label digits by rounds of ``batch`` until there are ``n_labels``."""
    X, y = load_digits(return_X_y=True)
    order = generator(seed, "digits to label").permutation(len(y))
    test, rest = order[:_N_TEST], order[_N_TEST:]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.npz"
        np.savez(path, X=X[rest])
        pool = pool_of(read_table(path))
        labels = Path(folder) / "labels.csv"
        config = LabellingConfig(pool=str(path), labels=str(labels), strategy=strategy, model=model, seed=seed)  # type: ignore[arg-type]
        book = LabelBook(pool, labels)
        session = Labelling(pool, book, config, None)
        scores, waits, last = [], [], None
        while len(book.labels) < n_labels:
            began = time.process_time()
            rows = session.query(batch)
            last = session.out_of_fold()
            waits.append(time.process_time() - began)
            book.take([(str(row), str(y[rest[row]])) for row in rows], "the answers")
            scores.append(session.test(X[test], [str(label) for label in y[test]]))
        last = session.out_of_fold() or last
    if last is None:
        raise ValueError(f"expected enough labels for an estimate, got {n_labels}")
    return Session(scores, last, waits)


def draw(file: Path, model: str, session: Session) -> None:
    """The picture that a session leaves."""
    plot_labelling(file, [asdict(score) for score in session.scores], title=f"digits, {model}, {_N_TEST} test rows")


def labelling_row(model: str, sessions: Sequence[Session], at: Sequence[int]) -> str:
    """A Markdown row: mean accuracy after so many labels, confidence less accuracy, out of fold, and the wait."""

    def mean(values: list[float]) -> str:
        return f"{100.0 * statistics.mean(values):.1f}"

    reached = [mean([s.accuracy for one in sessions for s in one.scores if s.n_labels == n]) for n in at]
    last = [one.scores[-1] for one in sessions]
    gap = mean([score.signed_gap for score in last])
    own = mean([one.out_of_fold.accuracy for one in sessions])
    waits = [wait for one in sessions for wait in one.waits[1:]]  # the first round has no model
    return f"| {model} | {' | '.join(reached)} | {gap} | {own} | {statistics.median(waits):.1f} ({max(waits):.1f}) |"
