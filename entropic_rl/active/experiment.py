"""A comparison of strategies: the same pools, tests and first labels for all of them, seed by seed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from entropic_rl.active.config import ComparisonConfig
from entropic_rl.active.estimators import make_estimator
from entropic_rl.active.learner import ActiveLearner
from entropic_rl.active.score import Score
from entropic_rl.active.stopping import Round
from entropic_rl.datasets import Dataset, load, split
from entropic_rl.datasets.data import generator
from entropic_rl.errors import ConfigError
from entropic_rl.parts import ALONE, Parts
from entropic_rl.schedules import shortest
from entropic_rl.snapshots import Snapshot

__all__ = ["Curve", "Start", "Trial", "n_labels", "run_alone", "starts_of", "trials_of"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Trial:
    """One strategy, entropy weight and seed."""

    strategy: str
    ent_coef: float | str
    seed: int

    @property
    def coefficient(self) -> str:
        """The weight as text."""
        return self.ent_coef if isinstance(self.ent_coef, str) else shortest(self.ent_coef)


@dataclass(frozen=True, slots=True)
class Start:
    """What all strategies of a seed share.

    Attributes:
        X: the pool, ``[P, D]``.
        y: its labels as columns, ``[P]``, which are told when they are asked for.
        X_test: rows that are never asked about, ``[M, D]``.
        y_test: theirs.
        initial: rows of the pool whose labels are known at first.
        n_classes: C.
    """

    X: NDArray[np.float64]
    y: Ints
    X_test: NDArray[np.float64]
    y_test: Ints
    initial: Ints
    n_classes: int

    @property
    def numbers(self) -> tuple[NDArray[Any], ...]:
        """All of it."""
        return self.X, self.y, self.X_test, self.y_test, self.initial


@dataclass(slots=True)
class Curve:
    """What came of a trial.

    Attributes:
        trial: which.
        scores: on the test rows, one per model.
        rounds: what each model said of itself.
        asked: rows of the pool, the first ones left out, in the order of asking.
    """

    trial: Trial
    scores: list[Score] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)

    def as_plain(self) -> dict[str, Any]:
        """All but the trial, as JSON has it."""
        plain = asdict(self)
        return {name: plain[name] for name in ("scores", "rounds", "asked")}

    def extend(self, plain: Mapping[str, Any]) -> None:
        """Add what :meth:`as_plain` gave."""
        self.scores += [Score(**own) for own in plain["scores"]]
        self.rounds += [Round(**own) for own in plain["rounds"]]
        self.asked += plain["asked"]


def trials_of(strategies: Sequence[str], ent_coefs: Sequence[float | str], seeds: Sequence[int]) -> list[Trial]:
    """Every strategy with every weight and seed."""
    return [Trial(strategy, coef, seed) for strategy in strategies for coef in ent_coefs for seed in seeds]


def starts_of(config: ComparisonConfig, seeds: Sequence[int]) -> tuple[dict[int, Start], str]:
    """What each seed begins with, and what data it is, in words.

    Raises:
        ConfigError: the data cannot be had; the pool has fewer rows than the budget, or not two classes to begin with.
    """
    names = ("target", "group", "n", "noise", "label_noise", "imbalance")
    chosen: dict[str, Any] = {name: getattr(config, name) for name in names}
    datasets = {seed: load(config.data, **chosen, seed=seed) for seed in seeds}
    return {seed: _start(config, dataset, seed) for seed, dataset in datasets.items()}, datasets[seeds[0]].summary()


def n_labels(config: ComparisonConfig, n_rows: int) -> list[int]:
    """Labels after each query, the first ones before any; the last query may be smaller."""
    budget = n_rows if config.budget is None else config.budget
    return [*range(config.initial, budget, config.batch), budget]


def run_alone(
    config: ComparisonConfig,
    trial: Trial,
    start: Start,
    *,
    on_query: Callable[[float], None] | None = None,
    parts: Parts = ALONE,
) -> Curve:
    """A trial of a scikit-learn classifier, one of the ``parts``; ``on_query`` hears the error after each round."""

    def make() -> Snapshot:
        return Snapshot({"curve": _run_alone(config, trial, start, on_query, parts).as_plain()})

    def read(made: Snapshot) -> Curve:
        curve = Curve(trial)
        curve.extend(made.tree["curve"])
        return curve

    return parts.part(make, read, asdict(trial), *start.numbers)


def _run_alone(
    config: ComparisonConfig, trial: Trial, start: Start, on_query: Callable[[float], None] | None, parts: Parts
) -> Curve:
    learner = ActiveLearner(
        make_estimator(config.model, standardize=False),
        start.X,
        classes=range(start.n_classes),
        strategy=trial.strategy,
        seed=trial.seed,
        n_members=config.n_members or 20,
    )
    learner.teach(start.initial, start.y[start.initial])
    curve = Curve(trial, rounds=learner.rounds)
    counts = n_labels(config, len(start.X))
    for now, following in zip(counts, [*counts[1:], None], strict=True):
        parts.check()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            curve.scores.append(learner.score(start.X_test, start.y_test))
            if on_query is not None:
                on_query(1.0 - curve.scores[-1].accuracy)
            if following is not None:
                asked = learner.query(following - now)
                learner.teach(asked, start.y[asked])
                curve.asked.extend(asked.tolist())
    return curve


def _start(config: ComparisonConfig, dataset: Dataset, seed: int) -> Start:
    pool, _, test = split(dataset, (1.0 - config.test_fraction, 0.0, config.test_fraction), seed=seed)
    X, X_test = dataset.X[pool], dataset.X[test]
    if config.scale != "none":
        scaler = (StandardScaler() if config.scale == "standard" else MinMaxScaler()).fit(X)
        X, X_test = scaler.transform(X), scaler.transform(X_test)
    y = dataset.y[pool]
    if config.budget is not None and config.budget > len(pool):
        raise ConfigError(
            f"budget: expected at most the {len(pool)} rows of the pool, got {config.budget}; lower it, or give none"
        )
    if config.initial >= len(pool):
        raise ConfigError(f"initial: expected fewer than the {len(pool)} rows of the pool, got {config.initial}")
    initial = _first(config, y, len(dataset.classes), seed)
    return Start(X, y, X_test, dataset.y[test], initial, len(dataset.classes))


def _first(config: ComparisonConfig, y: Ints, n_classes: int, seed: int) -> Ints:
    """Rows whose labels everyone begins with, of at least two classes."""
    order = generator(seed, "first labels").permutation(len(y))
    if config.initial_per_class:
        if config.initial % n_classes:
            raise ConfigError(f"initial: expected a multiple of the {n_classes} classes, got {config.initial}")
        each = config.initial // n_classes
        return np.concatenate([_some(order, y, c, each) for c in range(n_classes)])
    rows = order[: config.initial]
    if len(np.unique(y[rows])) < 2:
        raise ConfigError(
            f"initial: expected labels of two classes among the first {config.initial}, seed {seed} has one alone; "
            "give more, or --initial-per-class"
        )
    return rows


def _some(order: Ints, y: Ints, label: int, n: int) -> Ints:
    own = order[y[order] == label][:n]
    if len(own) < n:
        raise ConfigError(f"initial: expected {n} rows of every class in the pool, class {label} has {len(own)}")
    return own
