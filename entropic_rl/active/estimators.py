"""Classifiers by name, as a labelling session or a comparison of strategies uses them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading
from sklearn.svm import SVC

from entropic_rl.active.config import MODELS
from entropic_rl.config import suggestion
from entropic_rl.errors import ConfigError
from entropic_rl.supervised.config import FitConfig

__all__ = ["make_estimator"]

_OF_ONE_SCALE = ("entropic", "logistic-regression", "svm", "label-spreading")


def make_estimator(
    name: str, fit: FitConfig | None = None, seed: int | None = None, *, readout: str = "raw", standardize: bool = True
) -> Any:
    """An unfitted classifier.

    Args:
        name: one of :data:`entropic_rl.active.config.MODELS`.
        fit: how the networks of ``entropic`` are trained; of others None.
        seed: of whatever is random in it; None leaves that to who fits it.
        readout: of ``entropic``, ``raw`` or ``proper``.
        standardize: whether features are brought to mean 0, std 1 of the rows it is fitted to, where their scale
            matters; False if they are of one scale already.

    Raises:
        ConfigError: there is none of the name, or settings of a training are given to one that has no such training.
    """
    if name not in MODELS:
        raise ConfigError(f"model: expected one of {', '.join(MODELS)}, got {name!r}{suggestion(name, MODELS)}")
    if fit is not None and name != "entropic":
        raise ConfigError(f"expected the model entropic with settings of its training, got {name}")
    made = _made(name, fit or FitConfig(), seed, readout)
    return make_pipeline(StandardScaler(), made) if standardize and name in _OF_ONE_SCALE else made


def _made(name: str, fit: FitConfig, seed: int | None, readout: str) -> Any:
    if name == "entropic":
        from entropic_rl.calibration import EntropicClassifier

        return EntropicClassifier(**asdict(fit), readout=readout, random_state=seed)
    if name == "logistic-regression":
        return LogisticRegression(max_iter=1000)
    if name == "svm":
        return SVC(gamma="auto")  # no probabilities: its decision values are taken for logits
    if name == "random-forest":
        return RandomForestClassifier(100, random_state=seed)
    return GaussianNB() if name == "naive-bayes" else LabelSpreading(gamma=0.25, max_iter=100)
