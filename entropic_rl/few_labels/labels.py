"""Labels of which some are missing, as people mark them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._missing import is_pandas_na

from entropic_rl.errors import ConfigError

__all__ = ["UNLABELED", "split_labels"]

UNLABELED = -1  # as in sklearn.semi_supervised


def split_labels(y: ArrayLike) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Labels with the missing ones filled by any other, and which are there; both in the shape of ``y``.

    A row has no label if ``y`` is -1 there, as in scikit-learn, so that no class can be called -1; in an array of
    objects None and NaN mark it as well, for labels that are text, or read from a table with blanks.

    Raises:
        ConfigError: text and numbers are mixed, a text is empty or "-1" (which may be a mark that lost its type), or no
            row has a label.
    """
    labels = np.asarray(y)
    if labels.dtype == object:
        known = np.array([not _is_mark(value) for value in labels.flat], dtype=bool).reshape(labels.shape)
        labels = _of_one_kind(labels, known)
    else:
        known = labels != UNLABELED if labels.dtype.kind in "iuf" else np.ones(labels.shape, dtype=bool)
    if labels.dtype.kind in "US" or labels.dtype == object:
        _refuse_doubtful(labels[known])
    if labels.size and not known.any():
        raise ConfigError(
            f"y: expected at least 2 rows with a label, got none among {labels.size} (-1 marks rows without)"
        )
    filled = labels.copy()
    if labels.size:
        filled[~known] = labels[known][0]
    return filled, known


def _is_mark(value: Any) -> bool:
    if value is None or is_pandas_na(value) or (isinstance(value, float | np.floating) and math.isnan(value)):
        return True
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and value == UNLABELED


def _of_one_kind(labels: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[Any]:
    """Objects that are all numbers as numbers; text stays objects, which have no longest length."""
    kinds = sorted({_kind(value) for value in labels[known].tolist()})
    if len(kinds) > 1:
        raise ConfigError(
            f"y: expected labels of one kind, beside the marks of unlabelled rows, got {' and '.join(kinds)}"
        )
    if kinds in (["numbers"], ["truth values"]):
        typed = np.asarray(labels[known].tolist())
        filled = np.full(labels.shape, typed[0])
        filled[known] = typed
        return filled
    return labels


def _kind(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "truth values"
    return "numbers" if isinstance(value, int | float | np.number) else "text" if isinstance(value, str) else "objects"


def _refuse_doubtful(labels: NDArray[Any]) -> None:
    """Texts that are as likely a mark as a class."""
    for text in ("", str(UNLABELED)):
        if (labels == text).any():
            raise ConfigError(
                f"y: expected a class, or None for a row without a label, got the text {text!r}, which may be "
                "either; make y an array of objects (dtype=object) with None there, or rename the class"
            )
