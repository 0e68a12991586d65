"""Logistic regressions drawn from the posterior of a fitted one: what disagrees where data is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

__all__ = ["Linear", "has_posterior", "posterior"]

_MOST_PARAMETERS = 3000  # whose matrix is factored in about a second
_FREE = 1e-2  # precision of intercepts, which have none: a common shift of all changes nothing

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Linear:
    """A logistic regression as drawn.

    Attributes:
        weight: ``[C, D + 1]``, or ``[1, D + 1]`` of two classes, intercepts last.
        classes_: labels of the columns.
        before: what rows go through first; None for nothing.
    """

    weight: Array
    classes_: NDArray[Any]
    before: Pipeline | None = None

    def predict_proba(self, X: NDArray[Any]) -> Array:
        """Probabilities, ``[N, D] -> [N, C]``."""
        return _softmax(_with_ones(X if self.before is None else self.before.transform(X)) @ self.weight.T)


def has_posterior(model: Any) -> bool:
    """Whether :func:`posterior` knows this one's: ridge-penalised, rows weighted alike, and not too large."""
    last = model[-1] if isinstance(model, Pipeline) else model
    return (
        isinstance(last, LogisticRegression)
        and not last.l1_ratio
        and last.class_weight is None
        and np.isfinite(last.C)
        and last.fit_intercept
        and last.coef_.size + len(last.coef_) <= _MOST_PARAMETERS
    )


def posterior(model: Any, X: NDArray[Any], n_draws: int, seed: int) -> list[Linear]:
    """Draws from the Gaussian at the minimum of the loss whose precision is the loss's Hessian there.

    Laplace's approximation: MacKay (1992), "The evidence framework applied to classification networks", section 2. The
    ridge penalty is the prior.

    Args:
        model: a fitted logistic regression, or a pipeline that ends in one.
        X: ``[N, D]``, the rows it was fitted to.
        n_draws: how many.
        seed: of them.
    """
    before = model[:-1] if isinstance(model, Pipeline) else None
    last = model if before is None else model[-1]
    rows = _with_ones(X if before is None else before.transform(X))
    mean = np.concatenate([last.coef_, np.broadcast_to(last.intercept_, len(last.coef_))[:, None]], 1)
    p = _softmax(rows @ mean.T)[:, -len(mean) :]  # [N, K], K = 1 of two classes
    n_rows, n_columns = mean.shape
    scatter = np.einsum("nk,nd,ne->kde", p, rows, rows, optimize=True)
    precision = -np.einsum("nj,nk,nd,ne->jdke", p, p, rows, rows, optimize=True)
    for k in range(n_rows):
        precision[k, :, k] += scatter[k] + np.diag([1.0 / last.C] * (n_columns - 1) + [_FREE])
    factor = cholesky(precision.reshape(mean.size, mean.size), lower=True)
    noise = np.random.default_rng([seed, n_draws]).standard_normal((mean.size, n_draws))
    steps = solve_triangular(factor, noise, lower=True, trans="T").T.reshape(n_draws, *mean.shape)
    return [Linear(mean + step, last.classes_, before) for step in steps]


def _with_ones(X: NDArray[Any]) -> Array:
    return np.concatenate([np.asarray(X, dtype=np.float64), np.ones((len(X), 1))], 1)


def _softmax(z: Array) -> Array:
    z = np.concatenate([np.zeros_like(z), z], 1) if z.shape[1] == 1 else z
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)
