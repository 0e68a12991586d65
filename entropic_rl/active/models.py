"""What classifiers of any kind say of rows: probabilities, those of members, and what the last layer sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.ensemble import BaggingClassifier, VotingClassifier
from sklearn.ensemble._forest import ForestClassifier
from sklearn.pipeline import Pipeline
from sklearn.semi_supervised import LabelPropagation, LabelSpreading, SelfTrainingClassifier
from sklearn.utils import check_random_state
from torch import Tensor, nn

from entropic_rl.active import laplace
from entropic_rl.errors import ConfigError
from entropic_rl.supervised.modules import last_inputs

__all__ = [
    "committee",
    "embeddings",
    "is_semi_supervised",
    "log_proba",
    "members_log_proba",
    "seeded",
    "with_dropout",
]

Labels = NDArray[Any]


def log_proba(model: Any, X: ArrayLike, classes: Labels | None = None) -> Tensor:
    """Log-probabilities of each row, ``[N, C]``, float64.

    Args:
        model: a fitted scikit-learn classifier, with ``predict_proba`` or else ``decision_function`` (whose values are
            then taken for logits: the order of rows is what counts); or a torch module that gives logits.
        X: ``[N, D]``.
        classes: labels of the C columns, those that the model was not shown among them (probability 0); the model's own
            if None.

    Raises:
        ConfigError: the model gives no probabilities, or is not fitted with all labels known.
    """
    if isinstance(model, nn.Module):
        return _module_log_proba(model, X)
    if hasattr(model, "predict_log_proba") and not isinstance(model, Pipeline):
        with np.errstate(divide="ignore"):
            own = model.predict_log_proba(X)
    elif hasattr(model, "predict_proba"):
        own = _log(model.predict_proba(X))
    elif hasattr(model, "decision_function"):
        own = _logits(model.decision_function(X))
    else:
        raise ConfigError(
            f"expected a classifier with predict_proba or decision_function, or a torch module, got "
            f"{type(model).__name__}"
        )
    return _columns(torch.as_tensor(np.asarray(own, dtype=np.float64)), model.classes_, classes)


def spread_log_proba(distributions: NDArray[Any], known: Labels, classes: Labels) -> Tensor:
    """What label propagation has spread to rows of its pool, ``[N, C]``."""
    return _columns(torch.as_tensor(_log(distributions)), known, classes)


def members_log_proba(
    model: Any, X: ArrayLike, classes: Labels | None = None, *, mc_samples: int = 0, seed: int = 0
) -> Tensor | None:
    """Log-probabilities of each member, ``[N, K, C]``, float64; None where there are not two.

    Args:
        model: what has members: an :class:`EntropicClassifier` of several or with ``mc_samples``, a forest, bagging, a
            vote, a sequence of models; or a torch module with dropout.
        X: ``[N, D]``.
        classes: labels of the C columns; the model's own if None.
        mc_samples: of a torch module, predictions with dropout.
        seed: of dropout.
    """
    if isinstance(model, nn.Module):
        return None if mc_samples < 2 else torch.stack(with_dropout(model, X, mc_samples, seed), 1)
    if isinstance(model, Sequence):
        found = [log_proba(member, X, classes) for member in model]
        return torch.stack(found, 1) if len(found) > 1 else None
    if isinstance(model, Pipeline):
        return members_log_proba(model[-1], model[:-1].transform(X), classes, mc_samples=mc_samples, seed=seed)
    if hasattr(model, "member_proba"):
        own = _log(model.member_proba(X)).swapaxes(0, 1)  # [N, K, C]
        return _columns(torch.as_tensor(own), model.classes_, classes) if own.shape[1] > 1 else None
    members = list(_members(model))
    return (
        torch.stack([_columns(p, known, classes) for p, known in _asked(members, X)], 1) if len(members) > 1 else None
    )


def embeddings(model: Any, X: ArrayLike) -> Tensor:
    """What the last layer sees of each row, ``[N, D']``, float64: the features where there are no layers."""
    if isinstance(model, nn.Module):
        with _evaluating(model):
            return last_inputs(model, _for(model, X)).double().cpu()
    if isinstance(model, Pipeline):
        return embeddings(model[-1], model[:-1].transform(X))
    own = model.embed(X) if hasattr(model, "embed") else X
    return torch.as_tensor(np.asarray(own, dtype=np.float64))


def committee(model: Any, X: NDArray[Any], y: Labels, n_members: int, seed: int) -> list[Any]:
    """Models that agree as far as the rows ``X [N, D]`` that ``model`` was fitted to say it.

    Draws from the posterior where it is known (:mod:`entropic_rl.active.laplace`), else copies fitted to bootstrap
    samples that hold every class. The latter know less than the model: with few labels they disagree on everything.
    Source: Abe & Mamitsuka (1998), "Query learning strategies using boosting and bagging".
    """
    if laplace.has_posterior(model):
        return laplace.posterior(model, X, n_members, seed)
    rng = np.random.default_rng([seed, n_members])
    first = np.unique(y, return_index=True)[1]
    fitted = []
    for _ in range(n_members):
        rows = rng.integers(len(y), size=len(y))
        missing = first[~np.isin(y[first], y[rows])]  # a member that has never seen a class cannot vote on it
        rows = np.concatenate([rows, missing])
        fitted.append(seeded(model, int(rng.integers(2**31))).fit(X[rows], y[rows]))
    return fitted


def seeded(estimator: Any, seed: int) -> Any:
    """An unfitted copy that draws from ``seed`` wherever ``random_state`` was left open."""
    copy = clone(estimator)
    names = [name for name, value in copy.get_params().items() if _is_open(name, value)]
    numbers = check_random_state(seed).randint(2**31, size=len(names)).tolist()
    return copy.set_params(**dict(zip(sorted(names), numbers, strict=True)))


def is_semi_supervised(estimator: Any) -> bool:
    """Whether it is fitted to unlabelled rows as well, whose label is -1."""
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    peers = (LabelPropagation, LabelSpreading, SelfTrainingClassifier)
    return isinstance(last, peers) or bool(getattr(last, "takes_unlabelled", False))


def with_dropout(module: nn.Module, X: ArrayLike, n_samples: int, seed: int = 0) -> list[Tensor]:
    """Log-probabilities with dropout, and dropout alone, as in training: ``n_samples`` times ``[N, C]``.

    Source: Gal & Ghahramani (2016), https://arxiv.org/abs/1506.02142.
    """
    found = []
    with torch.random.fork_rng(), _evaluating(module):
        torch.manual_seed(seed)
        for part in module.modules():
            if isinstance(part, nn.modules.dropout._DropoutNd):
                part.train()
        for _ in range(n_samples):
            found.append(module(_for(module, X)).double().log_softmax(-1).cpu())  # noqa: PERF401  # under no_grad
    return found


def _module_log_proba(module: nn.Module, X: ArrayLike) -> Tensor:
    with _evaluating(module):
        return module(_for(module, X)).double().log_softmax(-1).cpu()


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Every part in evaluation, without gradients; as they were afterwards."""
    training = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, was in training:
            part.training = was


def _for(module: nn.Module, X: ArrayLike) -> Tensor:
    """Rows where the module is, in its type."""
    of = next(module.parameters(), torch.zeros(()))
    return torch.as_tensor(X if isinstance(X, Tensor) else np.asarray(X)).to(device=of.device, dtype=of.dtype)


def _members(model: Any) -> Iterator[tuple[Any, Callable[[Any], Any], Labels]]:
    """Each member, the columns that it sees of rows, and its classes."""
    if isinstance(model, ForestClassifier):
        for tree in model.estimators_:
            yield tree, np.asarray, model.classes_
    elif isinstance(model, BaggingClassifier):
        for member, columns in zip(model.estimators_, model.estimators_features_, strict=True):
            yield member, partial(_picked, columns=columns), model.classes_[member.classes_.astype(int)]
    elif isinstance(model, VotingClassifier):
        for member in model.estimators_:
            yield member, np.asarray, model.classes_[member.classes_.astype(int)]


def _picked(X: ArrayLike, columns: NDArray[np.int64]) -> NDArray[Any]:
    return np.asarray(X)[:, columns]


def _asked(
    members: Sequence[tuple[Any, Callable[[Any], Any], Labels]], X: ArrayLike
) -> Iterator[tuple[Tensor, Labels]]:
    for member, view, known in members:
        yield torch.as_tensor(_log(member.predict_proba(view(X)))), known


def _columns(log_p: Tensor, known: Labels, classes: Labels | None) -> Tensor:
    """Columns of ``known`` labels ``[..., C']`` among those of all ``classes``, ``[..., C]``; -inf for the others."""
    if classes is None or np.array_equal(known, classes):
        return log_p
    unknown = np.setdiff1d(known, classes)
    if len(unknown):
        raise ConfigError(f"classes: expected all labels of the model among them, {unknown[:3].tolist()} are not")
    out = log_p.new_full((*log_p.shape[:-1], len(classes)), -torch.inf)
    out[..., torch.as_tensor(np.searchsorted(classes, known))] = log_p
    return out


def _logits(values: NDArray[Any]) -> NDArray[np.float64]:
    """Values of a decision function as log-probabilities; of two classes there is one value."""
    both = np.stack([np.zeros_like(values), values], 1) if values.ndim == 1 else values
    return torch.as_tensor(both, dtype=torch.float64).log_softmax(-1).numpy()


def _log(p: NDArray[Any]) -> NDArray[np.float64]:
    """Logarithms of probabilities; rows that nothing is known of (NaN, of label propagation) are uniform."""
    p = np.where(np.isnan(p).any(-1, keepdims=True), 1.0 / p.shape[-1], p)
    with np.errstate(divide="ignore"):
        return np.log(p)


def _is_open(name: str, value: Any) -> bool:
    return value is None and (name == "random_state" or name.endswith("__random_state"))
