"""An entropy coefficient to begin a search with, from how large the gradients are that it weighs against each other.

The loss is ``task - ent_coef * entropy``, and both parts reach the same parameters. ``suggest_ent_coef`` measures the
norms of the two gradients over minibatches of the size that training has, and proposes the coefficient at which the
entropy's is a stated share of the task's,

    ent_coef = share * mean |g_task| / mean |g_entropy|.

It says where the term begins to be felt, not where it is best, and not whether 0 is: a weak heuristic, as balances of
gradient norms between tasks are (Chen, Badrinarayanan, Lee & Rabinovich 2018, https://arxiv.org/abs/1711.02257).
Held to the best of a grid (docs/benchmarks.md, "Suggested coefficients") it ranks in the middle, and a share of .3 can
cost much. It gives a grid its order of magnitude; a comparison over the grid is what decides.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from entropic_rl.calibration.classifier import EntropicClassifier
from entropic_rl.cell import read_cell
from entropic_rl.errors import ConfigError
from entropic_rl.suggest.classifiers import norms_of_classifier
from entropic_rl.suggest.evidence import Suggestion, suggestion
from entropic_rl.suggest.runs import norms_of_run

__all__ = ["SHARE", "Suggestion", "suggest_ent_coef"]

SHARE = 0.03
"""Of the task's gradient that the entropy's is to be; of .03, .1 and .3 that of least regret where they differ."""


def suggest_ent_coef(
    source: Any, X: Any = None, y: Any = None, *, share: float = SHARE, n_batches: int = 8, seed: int = 0
) -> Suggestion:
    """Measure both gradients and propose a coefficient.

    Of a run directory: rollouts of its policy, each with a seed of its own, in minibatches as it trained on; the task's
    gradient is the policy gradient of its advantages. Of a classifier: a copy without entropy is trained on all folds
    but one, and both gradients are taken on that one: on rows it was fitted to the task's would be next to nothing.

    Args:
        source: the directory of a PPO or A2C run, or an ``EntropicClassifier``, fitted or not; it stays as it is.
        X: ``[N, D]``, of a classifier.
        y: ``[N]``, its labels.
        share: of the task's gradient that the entropy's is to be, > 0.
        n_batches: rollouts, or folds; the interval is over them. At least 2.
        seed: of the rollouts, or the folds.

    Raises:
        UserError: there is no such run, it is of another agent or has its entropy in the reward, data are missing, or
            the entropy has no gradient (a uniform or a settled policy).
    """
    if not 0.0 < share < math.inf or n_batches < 2 or seed < 0:
        raise ConfigError(
            f"share, n_batches, seed: expected numbers above 0, from 2 and from 0, got {share}, {n_batches}, {seed}; "
            f"the defaults are {SHARE}, 8 and 0"
        )
    if isinstance(source, EntropicClassifier):
        if X is None or y is None:
            raise ConfigError("X and y: expected rows and labels for a classifier, got none; pass those to train on")
        norms = norms_of_classifier(source, np.asarray(X), np.asarray(y), n_batches, seed)
        return suggestion(norms, share, source.ent_coef, type(source).__name__)
    if not isinstance(source, str | Path):
        raise ConfigError(
            f"source: expected a run directory or an EntropicClassifier, got {type(source).__name__}; pass a "
            "--run-dir, or measure a policy in memory by suggest.runs.measure_policy"
        )
    cell = read_cell(Path(source))
    return suggestion(
        norms_of_run(cell, n_batches, seed), share, cell.config.ent_coef, f"{cell.agent} on {cell.run.env}"
    )
