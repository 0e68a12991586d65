"""Classifiers of scikit-learn by name, as a comparison or a labelling session uses them."""

from __future__ import annotations

from typing import Any

from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import LabelSpreading
from sklearn.svm import SVC

__all__ = ["make_estimator"]


def make_estimator(name: str) -> Any:
    """An unfitted classifier; features are expected to be of one scale."""
    if name == "logistic-regression":
        return LogisticRegression(max_iter=1000)
    if name == "svm":
        return SVC(gamma="auto")
    if name == "random-forest":
        return RandomForestClassifier(100)
    return LabelSpreading(gamma=0.25, max_iter=100)
