"""What a model makes of a person's labels: which rows it wants next, how sure it is, and how good it has become."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from entropic_rl.active import acquisition
from entropic_rl.active.config import parse_strategy
from entropic_rl.active.estimators import make_estimator
from entropic_rl.active.label_book import LabelBook
from entropic_rl.active.labelling_config import LabellingConfig
from entropic_rl.active.learner import ActiveLearner
from entropic_rl.active.said import Said
from entropic_rl.active.score import Score, score_of
from entropic_rl.active.stopping import Round
from entropic_rl.config import jsonable
from entropic_rl.datasets.data import generator
from entropic_rl.datasets.pools import Pool
from entropic_rl.entropy import categorical_entropy
from entropic_rl.errors import ConfigError, UserError, first_line
from entropic_rl.run_directory import strict
from entropic_rl.streams import Stream
from entropic_rl.supervised.config import FitConfig

__all__ = ["Labelling"]

Ints = NDArray[np.int64]

_FOLDS = 5
_LEAST = 10  # labels that an estimate is made from


class Labelling:
    """A pool, a person's labels of it, and the model that is fitted to them.

    Args:
        pool: whose rows are labelled.
        book: the labels.
        config: strategy, model, seed, stopping rules.
        fit: settings of the training of ``entropic``; None for its defaults.
    """

    def __init__(self, pool: Pool, book: LabelBook, config: LabellingConfig, fit: FitConfig | None) -> None:
        self._pool, self._book, self._config = pool, book, config
        self._estimator = make_estimator(config.model, fit, config.seed)
        settings = {} if fit is None else jsonable(fit)
        self._setup = [config.model, config.seed, *(f"{name}={value}" for name, value in settings.items())]
        self._learner: tuple[list[tuple[int, str]], ActiveLearner] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether labels of two classes are there, so that there is a model."""
        return len(set(self._book.labels.values())) > 1

    @property
    def learner(self) -> ActiveLearner:
        """All labels, and the model fitted to them."""
        entries = list(self._book.labels.items())
        if self._learner is None or self._learner[0] != entries:
            made = self._taught(*_split(entries))
            made.rounds = self._rounds(entries)
            self._learner = (entries, made)
        return self._learner[1]

    def query(self, n: int) -> list[int]:
        """The rows that are wanted next, the most wanted first; at random until there is a model."""
        if not self.is_ready:  # in one order, so that what was passed over comes again
            order = Stream([self._config.seed], "first rows").permutation(len(self._pool))[0].tolist()
            return [row for row in order if row not in self._book.labels][:n]
        with _plainly(self._config.model, len(self._book.labels)):
            found: list[int] = self.learner.query(n).tolist()
        rounds = [strict(asdict(one)) for one in self.learner.rounds]
        self._book.remember("rounds", {"setup": self._setup, "rounds": rounds})
        return found

    def said(self, rows: Sequence[int]) -> list[Said | None]:
        """What the model says of rows; None of each while there is no model."""
        if not self.is_ready:
            return [None] * len(rows)
        with _plainly(self._config.model, len(self._book.labels)):
            learner = self.learner
            picked = np.asarray(rows, dtype=np.int64)
            log_p = learner.pool_log_proba(picked)
            score = self._scores(learner, picked, log_p)
        entropy = categorical_entropy(log_p)
        best, columns = log_p.exp().topk(2, dim=-1)
        labels = learner.classes[columns.numpy()]
        return [
            Said(
                str(labels[i, 0]), float(best[i, 0]), str(labels[i, 1]), float(best[i, 1]), float(entropy[i]),
                None if score is None else float(score[i]),
            )
            for i in range(len(rows))
        ]  # fmt: skip

    def should_stop(self) -> str | None:
        """The first stopping rule that holds after the last query; None to go on."""
        return self.learner.should_stop() if self.is_ready else None

    def test(self, X: NDArray[np.float64], y: Sequence[str]) -> Score:
        """How good the model is on rows that it never saw, ``X [N, D]``, of labels ``y [N]``."""
        with _plainly(self._config.model, len(self._book.labels)):
            log_p = self.learner.log_proba(X)
        classes = self.learner.classes
        known = np.union1d(classes, np.asarray(y))
        wider = log_p.new_full((len(log_p), len(known)), -torch.inf)  # of classes without a label yet: never said
        wider[:, torch.as_tensor(np.searchsorted(known, classes))] = log_p
        return score_of(len(self._book.labels), wider, np.searchsorted(known, np.asarray(y)), seed=self._config.seed)

    def out_of_fold(self) -> Score | None:
        """The same on the labelled rows themselves, each judged by a model that was not shown it; None of too few.

        Rows were asked for because they are hard: it is no estimate of the accuracy on the rest of the pool. Rows whose
        class has no other label are always learned from and never measured.
        """
        rows, labels = _split(list(self._book.labels.items()))
        y = np.asarray(labels)
        fold = _folds(y, self._config.seed)
        measured = fold >= 0
        if measured.sum() < _LEAST or len(np.unique(y[measured])) < 2:
            return None
        classes = np.unique(y)
        log_p = torch.empty(len(y), len(classes), dtype=torch.float64)
        with _plainly(self._config.model, len(y)):
            for k in range(_FOLDS):
                out = np.flatnonzero(fold == k)
                kept = np.flatnonzero(fold != k)
                if len(out):
                    model = self._taught([rows[i] for i in kept], [labels[i] for i in kept], classes=classes.tolist())
                    log_p[out] = model.pool_log_proba(np.asarray(rows)[out])
        return score_of(len(y), log_p[measured], np.searchsorted(classes, y[measured]), seed=self._config.seed)

    def _taught(self, rows: Sequence[int], labels: Sequence[str], classes: Sequence[str] = ()) -> ActiveLearner:
        config = self._config
        made = ActiveLearner(
            self._estimator, self._pool.X, classes=classes or self._book.classes, strategy=config.strategy,
            seed=config.seed, n_members=config.n_members, stopping=config.stop,
        )  # fmt: skip
        made.teach(np.asarray(rows, dtype=np.int64), np.asarray(labels))
        return made

    def _rounds(self, entries: Sequence[tuple[int, str]]) -> list[Round]:
        """What models of earlier sessions said of themselves, if they were fitted as this one is."""
        kept = self._book.recall("rounds")
        try:
            found = [_round(one) for one in kept["rounds"]] if kept["setup"] == self._setup else []
        except (KeyError, TypeError):  # nothing was kept, or by someone else: rules begin anew
            return []
        classes = [len({label for _, label in entries[: one.n_labels]}) for one in found]
        return [one for one, n in zip(found, classes, strict=True) if one.n_labels <= len(entries) and n > 1]

    def _scores(self, learner: ActiveLearner, rows: Ints, log_p: Tensor) -> Tensor | None:
        kind, order = parse_strategy(self._config.strategy)
        if kind == "bald":
            return acquisition.bald(learner.members_log_proba(rows))
        if kind in ("tsallis", "renyi"):
            return acquisition.entropy(log_p, kind, float(order or 2.0))
        return _SCORES[kind](log_p) if kind in _SCORES else None


_SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "least-confidence": acquisition.least_confidence,
    "margin": acquisition.margin,
    "entropy": acquisition.entropy,
}


def _round(record: dict[str, Any]) -> Round:
    """A round of JSON, which has no NaN."""
    values: dict[str, Any] = {name: float("nan") if value is None else value for name, value in record.items()}
    return Round(**values)


def _split(entries: Sequence[tuple[int, str]]) -> tuple[list[int], list[str]]:
    return [row for row, _ in entries], [label for _, label in entries]


def _folds(y: NDArray[Any], seed: int) -> Ints:
    """A fold for each label, classes spread evenly, ``[N]``; -1 for those that are alone in their class."""
    rng = generator(seed, "folds of labels")
    fold = np.full(len(y), -1, dtype=np.int64)
    place = 0
    for label in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == label))
        if len(rows) > 1:
            fold[rows] = (place + np.arange(len(rows))) % _FOLDS
            place += len(rows)
    return fold


@contextmanager
def _plainly(model: str, n_labels: int) -> Iterator[None]:
    """Without the remarks that libraries make of few rows; what they refuse is said in one line."""
    with warnings.catch_warnings():
        for category in (ConvergenceWarning, UserWarning, RuntimeWarning):
            warnings.simplefilter("ignore", category)
        try:
            yield
        except UserError:
            raise
        except ValueError as error:
            raise ConfigError(
                f"model: {model} cannot be fitted to {n_labels} labels: {first_line(error)}; label more, or choose "
                "another --model"
            ) from None
