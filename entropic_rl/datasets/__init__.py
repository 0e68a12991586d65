"""Labelled data: bundled, generated with a known posterior, or the user's own (no torch).

Features come as they are: put :class:`sklearn.preprocessing.StandardScaler` into a pipeline, fitted on training rows.
"""

from entropic_rl.datasets.data import Dataset, from_arrays
from entropic_rl.datasets.label_noise import transition_matrix, with_label_noise
from entropic_rl.datasets.population import Population
from entropic_rl.datasets.sources import SOURCES, load
from entropic_rl.datasets.splits import Split, folds, split
from entropic_rl.datasets.thinning import class_shares, thinned

__all__ = [
    "SOURCES",
    "Dataset",
    "Population",
    "Split",
    "class_shares",
    "folds",
    "from_arrays",
    "load",
    "split",
    "thinned",
    "transition_matrix",
    "with_label_noise",
]
