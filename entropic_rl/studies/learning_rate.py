"""How large may a step be? Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from entropic_rl.studies.study import Study

__all__ = ["STUDY"]


def _changes(text: str) -> Mapping[str, Any]:
    return {"learning_rate": text}


STUDY = Study(
    name="learning-rate",
    question="How large may a step be?",
    setting="learning rate",
    values=("0.0001", "0.001", "0.01", "0.1", "1", "10"),
    changes=_changes,
    sets=("learning_rate",),
    fit={"optimizer": "sgd", "n_epochs": 30},
)
