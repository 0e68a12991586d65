"""How many rows should a gradient be of? Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from entropic_rl.studies.study import Study

__all__ = ["STUDY"]


def _changes(text: str) -> Mapping[str, Any]:
    return {"batch_size": None if text == "none" else text}


STUDY = Study(
    name="batch-size",
    question="How many rows should a gradient be of?",
    setting="batch size, rows",
    values=("32", "64", "128", "256", "512", "1024"),
    changes=_changes,
    sets=("batch_size",),
    fit={"optimizer": "sgd", "learning_rate": 0.01, "n_epochs": 30},
)
