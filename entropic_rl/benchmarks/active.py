"""Active learning beside published figures: strategies on three data sets, always beside chance."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.semi_supervised import LabelSpreading

from entropic_rl.active.analysis import Group, Results, analyse, labels_text, percent
from entropic_rl.active.batched import run_together
from entropic_rl.active.config import ComparisonConfig
from entropic_rl.active.experiment import Curve, run_alone, starts_of, trials_of
from entropic_rl.active.learner import ActiveLearner
from entropic_rl.compare.statistics import bootstrap, mean
from entropic_rl.compare.words import p_value
from entropic_rl.supervised.config import FitConfig

__all__ = ["CASES", "case_table", "spreading_table"]

_SEED = 20_000


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked about, by whom, for whom."""

    config: dict[str, Any]
    strategies: Sequence[str]
    seeds: int
    ent_coefs: Sequence[float] = (0.0,)


_DIGITS = {"data": "digits", "scale": "range", "initial_per_class": True}
CASES = {
    # Lu et al. (2023), https://arxiv.org/abs/2306.08954: their Wdbc, to exhaustion.
    "breast_cancer": Case(
        {"data": "breast_cancer", "model": "svm", "test_fraction": 0.4, "batch": 1, "budget": None},
        ("random", "margin", "k-center"), 30,
    ),
    "digits": Case(
        _DIGITS | {"model": "logistic-regression", "n_members": 20},
        ("random", "margin", "least-confidence", "entropy", "bald", "batch-bald", "badge", "k-center",
         "entropy-density", "skactiveml:QueryByCommittee"), 20,
    ),
    "networks": Case(
        _DIGITS | {"n_members": 5}, ("random", "margin", "entropy", "bald", "badge"), 10, (0.0, 0.3)
    ),
}  # fmt: skip


def case_table(name: str, n_seeds: int | None) -> str:
    """A case over so many paired seeds, its own number if None, as a Markdown table."""
    case = CASES[name]
    config, seeds = ComparisonConfig(**case.config), range(n_seeds or case.seeds)
    began = time.perf_counter()
    starts, _ = starts_of(config, seeds)
    trials = trials_of(case.strategies, case.ent_coefs, seeds)
    curves: list[Curve]
    if config.model == "entropic":
        fit = FitConfig(batch_size=None, learning_rate=0.01, n_epochs=100)
        curves = run_together(config, fit, trials, starts)
    else:
        curves = [run_alone(config, trial, starts[trial.seed]) for trial in trials]
    results = analyse(curves, target=config.target_accuracy, tie=config.tie)
    lines = [
        "| strategy | mean accuracy, % | trapezoids / queries | labels to 90 % | fewer | less chance, points | "
        "won / tied / lost | p | final accuracy, % | final NLL |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_row(results, group) for group in results.groups),
        "",
        f"{config.model}, {len(seeds)} seeds, {results.n_labels[0]} to {results.n_labels[-1]} labels, {config.batch} a "
        f"query; {len(curves)} curves in {time.perf_counter() - began:.0f} s.",
    ]
    return "\n".join(lines)


def spreading_table() -> str:
    """LabelSpreading asked by entropy, five rows a round, on the 330 digits of scikit-learn's own example."""
    images, labels = load_digits(return_X_y=True)
    order = np.arange(len(labels))
    np.random.RandomState(0).shuffle(order)
    X, y = images[order[:330]], labels[order[:330]]
    learner = ActiveLearner(LabelSpreading(gamma=0.25, max_iter=20), X, classes=range(10), strategy="entropy")
    learner.teach(np.arange(40), y[:40])
    lines = ["| labels | accuracy on the rows that have none |", "| --- | --- |"]
    for _ in range(5):
        rows = learner.unlabelled
        answers = learner.pool_log_proba(rows).argmax(-1).numpy()
        lines.append(f"| {len(learner.labelled)} | {(answers == y[rows]).mean():.3f} |")
        asked = learner.query(5)
        learner.teach(asked, y[asked])
    return "\n".join(lines)


def _row(results: Results, group: Group) -> str:
    accuracy = group.curves["accuracy"]
    published = bootstrap(np.trapezoid(accuracy, axis=1) / accuracy.shape[1], mean, np.random.default_rng(_SEED))
    ours, against = group.median_to_target, group.against
    cells = [group.name, percent(group.area), f"{published.value:.4f}", labels_text(ours)]
    if against is None:
        cells += ["", "", "", ""]
    else:
        a = against.area
        cells += [
            f"{1 - ours / results.chance(group).median_to_target:.0%}",
            f"{100 * a.value:+.2f} [{100 * a.low:+.2f}, {100 * a.high:+.2f}]",
            " / ".join(map(str, against.record)),
            p_value(against.p),
        ]
    cells += [percent(group.final), f"{group.curves['nll'][:, -1].mean():.3f}"]
    return f"| {' | '.join(cells)} |"
