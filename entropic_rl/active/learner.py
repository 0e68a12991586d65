"""A pool, a classifier and a strategy: ask for labels, take them, and say how good the classifier has become."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_array
from torch import Tensor

from entropic_rl.active import models
from entropic_rl.active.config import parse_stopping
from entropic_rl.active.labels import LabelFile
from entropic_rl.active.score import Score, score_of
from entropic_rl.active.stopping import Round, describe_round, should_stop
from entropic_rl.active.strategies import Source, find_strategy
from entropic_rl.errors import ConfigError
from entropic_rl.run_directory import read_json, strict, write_json
from entropic_rl.streams import Stream

__all__ = ["ActiveLearner"]

Ints = NDArray[np.int64]


class ActiveLearner:
    """Asks for the labels of those rows of a pool that its classifier would learn most from.

    What it asks is a function of the pool, the labels so far, the strategy and the seed, and of nothing else: the same
    question comes again until it is answered, and a learner that is opened on its folder once more goes on where it
    was. Until two classes have been met it asks at random.

    Args:
        estimator: any scikit-learn classifier; a copy is fitted to all labels whenever there are new ones. One of
            :mod:`sklearn.semi_supervised`, or with ``takes_unlabelled``, is given the whole pool, -1 where unlabelled.
        X: the pool ``[P, D]``.
        classes: all labels there can be, so that one without rows yet has its column.
        strategy: such as ``margin``; see :data:`entropic_rl.active.config.STRATEGIES`.
        seed: of ties, sampling, and of the estimator where its ``random_state`` is None.
        directory: where labels are kept, line by line; None for memory alone.
        n_members: of the committee, where a strategy asks members and the estimator has none: draws from the posterior
            of a logistic regression, of others copies fitted to bootstrap samples.
        stopping: rules such as ``stable:0.99:3``; see :meth:`should_stop`.

    Attributes:
        classes: labels of the C columns, sorted.
        rounds: what each model said of itself (:class:`Round`), one per :meth:`query`.

    Raises:
        ConfigError: a setting is out of range; the folder is that of another pool, strategy, seed or set of classes.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> X, y = np.array([[0.0], [0.1], [0.4], [0.6], [1.0]]), np.array([0, 0, 0, 1, 1])
        >>> learner = ActiveLearner(LogisticRegression(), X, classes=[0, 1], strategy="margin")
        >>> learner.teach([0, 4], y[[0, 4]])
        >>> int(learner.query(1)[0]) in (2, 3)
        True
    """

    def __init__(
        self,
        estimator: Any,
        X: ArrayLike,
        *,
        classes: Sequence[Any] | NDArray[Any],
        strategy: str = "margin",
        seed: int = 0,
        directory: str | Path | None = None,
        n_members: int = 20,
        stopping: Sequence[str] = (),
    ) -> None:
        self.X: NDArray[np.float64] = check_array(X, dtype=np.float64)
        self.classes: NDArray[Any] = np.unique(np.asarray(classes))
        if len(self.classes) < 2:
            raise ConfigError(f"classes: expected at least 2 labels to tell apart, got {self.classes.tolist()}")
        if n_members < 2:
            raise ConfigError(f"n_members: expected at least 2, got {n_members}")
        self._strategy = find_strategy(strategy)
        self._estimator, self._seed, self._n_members = estimator, seed, n_members
        self._rules = [parse_stopping(spec) for spec in stopping]
        self._takes_unlabelled = models.is_semi_supervised(estimator)
        self.rounds: list[Round] = []
        self._answers: Ints | None = None  # of the last round's model
        self._order: list[int] = []
        self._y: Ints = np.full(len(self.X), -1, dtype=np.int64)
        self._fitted: tuple[int, Any] | None = None
        self._directory = None if directory is None else Path(directory)
        self._file = None if self._directory is None else self._open(self._directory)

    @property
    def labelled(self) -> Ints:
        """Rows that have labels, in the order in which they came."""
        return np.array(self._order, dtype=np.int64)

    @property
    def unlabelled(self) -> Ints:
        """The others, in theirs."""
        return np.flatnonzero(self._y < 0)

    @property
    def labels(self) -> NDArray[Any]:
        """Labels of :attr:`labelled`."""
        return self.classes[self._y[self.labelled]]

    @property
    def is_ready(self) -> bool:
        """Whether two classes have been met, so that there is something to fit."""
        return len(np.unique(self._y[self.labelled])) > 1

    @property
    def model(self) -> Any:
        """The estimator, fitted to all labels.

        Raises:
            ConfigError: there are labels of fewer than two classes.
        """
        if not self.is_ready:
            raise ConfigError(
                f"expected labels of at least 2 classes to fit, got {len(self._order)} labels of "
                f"{len(np.unique(self._y[self.labelled]))}; teach more"
            )
        if self._fitted is None or self._fitted[0] != len(self._order):
            self._fitted = (len(self._order), self._fit(len(self._order)))
        return self._fitted[1]

    def query(self, n: int = 1) -> Ints:
        """The ``n`` rows whose labels are wanted next, the most wanted first, ``[n]``.

        Raises:
            ConfigError: so many are not left; the strategy cannot be asked of this estimator.
        """
        left = self.unlabelled
        if not 1 <= n <= len(left):
            raise ConfigError(f"query: expected between 1 and the {len(left)} rows that have no label yet, got {n}")
        stream = Stream([self._seed], f"query {self._strategy.name}")
        stream.position = len(self._order) << 20  # the same question until there is an answer
        if not self.is_ready:
            return left[stream.permutation(len(left))[0, :n].numpy()]
        view = _PoolView(self, left)
        self._keep_round(view)
        return left[self._strategy.select(view, n, stream).numpy()]

    def teach(self, rows: ArrayLike, y: ArrayLike) -> None:
        """Take labels ``y [n]`` of ``rows [n]``; on disk, where there is a folder, when this returns.

        What is known already may be said again, the same.

        Raises:
            ConfigError: nothing is taken: there is no such row or class, or a row has another label already.
        """
        asked, columns = self._checked(np.atleast_1d(np.asarray(rows)), np.atleast_1d(np.asarray(y)))
        told = dict(zip(asked.tolist(), columns.tolist(), strict=True))
        new = [row for row in told if self._y[row] < 0]
        if self._file is not None and new:
            self._file.append(new, [self.classes[told[row]] for row in new])
        self._take(new, [told[row] for row in new])

    def score(self, X: ArrayLike, y: ArrayLike) -> Score:
        """How good the model is on rows that it never saw, ``X [N, D]`` and ``y [N]``; their calibration too."""
        truth = _columns(np.asarray(y), self.classes)
        return score_of(len(self._order), self.log_proba(np.asarray(X, dtype=np.float64)), truth, seed=self._seed)

    def should_stop(self) -> str | None:
        """The first stopping rule that holds after the last :meth:`query`, in words; None to go on."""
        held = [str(rule) for rule in self._rules if should_stop(rule, self.rounds)]
        return held[0] if held else None

    def log_proba(self, X: NDArray[np.float64]) -> Tensor:
        """Log-probabilities of the model, ``[N, D] -> [N, C]``."""
        return models.log_proba(self.model, X, self._known)

    def pool_log_proba(self, rows: Ints) -> Tensor:
        """The same of rows of the pool; of models that spread labels over it, what they spread."""
        return self._log_proba(self.model, rows)

    def members_log_proba(self, rows: Ints) -> Tensor:
        """Log-probabilities of the model's members, or of a committee if it has none, ``[N, K, C]``."""
        own = models.members_log_proba(self.model, self.X[rows], self._known)
        if own is None:
            own = models.members_log_proba(self._committee(), self.X[rows], self._known)
        if own is None:
            raise ConfigError(f"{self._strategy.name}: expected at least 2 members, got 1; give n_members")
        return own

    def _log_proba(self, model: Any, rows: Ints) -> Tensor:
        spread = getattr(model, "label_distributions_", None)
        if spread is None:
            return models.log_proba(model, self.X[rows], self._known)
        return models.spread_log_proba(spread[rows], model.classes_, self._known)

    @property
    def _known(self) -> NDArray[Any]:
        """Labels as the estimator is given them."""
        return np.arange(len(self.classes)) if self._takes_unlabelled else self.classes

    def _fit(self, n: int) -> Any:
        """The estimator fitted to the first ``n`` labels."""
        estimator, rows = models.seeded(self._estimator, self._seed), self.labelled[:n]
        if not self._takes_unlabelled:
            return estimator.fit(self.X[rows], self.classes[self._y[rows]])
        target = np.full(len(self.X), -1, dtype=np.int64)
        target[rows] = self._y[rows]
        return estimator.fit(self.X, target)

    def _committee(self) -> list[Any]:
        """Models that disagree: draws from the posterior where it is known, else fitted to bootstrap samples."""
        if self._takes_unlabelled:
            raise ConfigError(
                f"{self._strategy.name}: expected an estimator with members, or one that is fitted to labelled rows "
                "alone, of which copies make members; take margin or entropy"
            )
        X, y = self.X[self.labelled], self.labels
        return models.committee(self.model, X, y, self._n_members, self._seed)

    def _keep_round(self, view: _PoolView) -> None:
        """Remember what the model says of itself, once."""
        n = len(self._order)
        if self.rounds and self.rounds[-1].n_labels == n:
            return
        if self.rounds and self._answers is None:  # opened again: what the last model answered is worked out once more
            self._answers = self._answers_of(self._fit(self.rounds[-1].n_labels))
        answers = view.whole.argmax(-1).numpy()
        self.rounds.append(describe_round(n, view.log_p, answers, self._answers))
        self._answers = answers
        if self._directory is not None:
            write_json(self._directory / "rounds.json", {"rounds": [strict(asdict(r)) for r in self.rounds]})

    def _answers_of(self, model: Any) -> Ints:
        """The likeliest column of every row of the pool, ``[P]``."""
        return self._log_proba(model, np.arange(len(self.X))).argmax(-1).numpy()

    def _take(self, rows: Sequence[int], columns: Sequence[int]) -> None:
        self._y[list(rows)] = columns
        self._order.extend(rows)

    def _checked(self, rows: NDArray[Any], y: NDArray[Any]) -> tuple[Ints, Ints]:
        if rows.shape != y.shape or rows.ndim != 1:
            raise ConfigError(f"teach: expected one label per row, got {rows.shape} rows and {y.shape} labels")
        if not np.issubdtype(rows.dtype, np.integer) and len(rows):
            raise ConfigError(f"teach: expected rows as whole numbers, got {rows[0]!r}")
        outside = rows[(rows < 0) | (rows >= len(self.X))]
        if len(outside):
            raise ConfigError(f"teach: expected rows 0 to {len(self.X) - 1} of the pool, got {outside[0]}")
        columns = _columns(y, self.classes)
        told: dict[int, int] = {}
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            before = told.setdefault(row, int(self._y[row]) if self._y[row] >= 0 else column)
            if before != column:
                raise ConfigError(
                    f"teach: row {row} has the label {self.classes[before]!s} already, got {self.classes[column]!s}; "
                    "nothing was taken"
                )
        return rows.astype(np.int64), columns

    def _open(self, directory: Path) -> LabelFile:
        """The labels of a folder, if they are of this pool and strategy; a new one is begun."""
        about = {
            "strategy": self._strategy.name,
            "seed": self._seed,
            "classes": self.classes.tolist(),
            "pool": f"{len(self.X)} rows, {hashlib.sha256(self.X.tobytes()).hexdigest()[:16]}",
        }
        path = directory / "learner.json"
        if path.exists():
            before = read_json(path, expected="a folder of an active learner")
            changed = [name for name in about if before.get(name) != about[name]]
            if changed:
                name = changed[0]
                raise ConfigError(
                    f"{directory}: it is of another {name}, {before.get(name)}, got {about[name]}; give a new folder, "
                    "or what it was begun with"
                )
        else:
            directory.mkdir(parents=True, exist_ok=True)
            write_json(path, about)
        if (directory / "rounds.json").exists():
            self.rounds = _read_rounds(directory / "rounds.json")
        file = LabelFile(directory / "labels.csv")
        by_text = {str(label): column for column, label in enumerate(self.classes)}
        for row, label in file.read():
            if not row.isdigit() or int(row) >= len(self.X) or label not in by_text:
                raise ConfigError(f"{file.path}: expected a row of the pool and one of its classes, got {row},{label}")
            if self._y[int(row)] not in (-1, by_text[label]):
                raise ConfigError(f"{file.path}: expected one label for row {row}, got two; delete the wrong line")
            if self._y[int(row)] < 0:
                self._take([int(row)], [by_text[label]])
        return file


def _read_rounds(path: Path) -> list[Round]:
    """The rounds of JSON, which has no NaN."""
    try:
        rows, nan = read_json(path)["rounds"], cast(Any, math.nan)
        return [Round(**{name: nan if x is None else x for name, x in row.items()}) for row in rows]
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: expected the rounds of an active learner ({error}); delete it") from None


class _PoolView:
    """What a learner's model says of rows of its pool, worked out once."""

    def __init__(self, learner: ActiveLearner, rows: Ints) -> None:
        self._learner, self._rows = learner, rows

    @cached_property
    def whole(self) -> Tensor:
        """Of the whole pool, ``[P, C]``."""
        return self._learner.pool_log_proba(np.arange(len(self._learner.X)))

    @property
    def log_p(self) -> Tensor:
        return self.whole[torch.from_numpy(self._rows)]

    @cached_property
    def members(self) -> Tensor:
        return self._learner.members_log_proba(self._rows)

    @cached_property
    def embeddings(self) -> Tensor:
        return models.embeddings(self._learner.model, self._learner.X[self._rows])

    @cached_property
    def labelled_embeddings(self) -> Tensor:
        return models.embeddings(self._learner.model, self._learner.X[self._learner.labelled])

    @property
    def source(self) -> Source:
        learner = self._learner
        return Source(learner.X, learner._y, self._rows, learner.model, learner.classes)


def _columns(y: NDArray[Any], classes: NDArray[Any]) -> Ints:
    """Labels ``[N]`` as columns ``[N]``.

    Raises:
        ConfigError: one is of no class.
    """
    unknown = [label for label in np.unique(y).tolist() if label not in set(classes.tolist())]
    if unknown:
        raise ConfigError(f"expected labels among the classes {classes.tolist()}, got {unknown[0]!r}")
    return np.searchsorted(classes, y).astype(np.int64)
