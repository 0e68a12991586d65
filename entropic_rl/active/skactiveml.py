"""Query strategies of scikit-activeml (Kottke et al., 2021) among our own: ``skactiveml:UncertaintySampling``."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.ensemble import BaggingClassifier
from torch import Tensor

from entropic_rl.errors import ConfigError
from entropic_rl.extras import missing_package
from entropic_rl.streams import Stream

if TYPE_CHECKING:
    from entropic_rl.active.strategies import Source, View

__all__ = ["peer_strategy"]

_N_MEMBERS = 10  # of the bagging that stands for an ensemble
_CLASSIFIERS, _ENSEMBLES = ("clf", "discriminator", "estimator"), ("ensemble",)


def peer_strategy(name: str) -> Callable[[View, int, Stream], Tensor]:
    """The strategy of a class of ``skactiveml.pool``, with its defaults.

    It is given the whole pool and an unfitted copy of the classifier, which it fits itself; where it wants an ensemble,
    bagging of ten copies.

    Raises:
        ConfigError: the package is missing, has no such class, or the class asks for what classifiers do not have.
    """
    chosen = _found(name)
    wanted = inspect.signature(chosen.query).parameters
    if "reg" in wanted or "query_kwargs" in wanted:
        raise ConfigError(f"skactiveml:{name}: expected a strategy for classifiers, got one for something else")

    def select(view: View, n: int, stream: Stream) -> Tensor:
        source, seed = view.source, stream.seeds(1)[0][0]
        given = {name: value for name, value in _arguments(source, seed).items() if name in wanted}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the peer's, about what it does with its own arguments
            asked = _made(chosen, source, seed).query(**given, batch_size=n)
        places = {row: place for place, row in enumerate(source.candidates.tolist())}
        return torch.tensor([places[int(row)] for row in asked], dtype=torch.int64)

    return select


def _found(name: str) -> type[Any]:
    try:
        import skactiveml.pool
    except ImportError as error:
        needed = missing_package(error)
        if needed is None:
            raise
        raise ConfigError(f"skactiveml:{name}: it is part of {needed}") from None
    found = getattr(skactiveml.pool, name, None)
    if not (inspect.isclass(found) and hasattr(found, "query")):
        known = [key for key in skactiveml.pool.__all__ if hasattr(getattr(skactiveml.pool, key), "query")]
        raise ConfigError(f"skactiveml:{name}: expected one of {', '.join(known)}")
    return found


def _made(chosen: type[Any], source: Source, seed: int) -> Any:
    known = {"random_state": seed, "missing_label": np.nan, "classes": list(range(len(source.classes)))}
    names = inspect.signature(chosen).parameters
    return chosen(**{name: value for name, value in known.items() if name in names})


def _arguments(source: Source, seed: int) -> dict[str, Any]:
    """What its strategies may ask for, by name."""
    from skactiveml.classifier import SklearnClassifier

    classes = list(range(len(source.classes)))

    def wrapped(estimator: Any) -> Any:
        return SklearnClassifier(estimator, classes=classes, missing_label=np.nan, random_state=seed)

    plain = clone(source.model)
    ensemble = BaggingClassifier(plain, _N_MEMBERS, random_state=seed)
    return {
        "X": source.X,
        "y": np.where(source.y < 0, np.nan, source.y.astype(np.float64)),
        "candidates": source.candidates,
        **{name: wrapped(clone(plain)) for name in _CLASSIFIERS},
        **{name: wrapped(ensemble) for name in _ENSEMBLES},
    }
