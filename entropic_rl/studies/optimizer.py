"""Which optimizer, each at a learning rate of its own? Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from entropic_rl.config import suggestion
from entropic_rl.errors import ConfigError
from entropic_rl.studies.study import Study

__all__ = ["STUDY"]

_SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd", "momentum": 0.0},
    "momentum": {"optimizer": "sgd", "momentum": 0.9},
    "rmsprop": {"optimizer": "rmsprop"},
    "adam": {"optimizer": "adam"},
    "adamw": {"optimizer": "adamw"},
    "lbfgs": {"optimizer": "lbfgs", "batch_size": None},
}


def _changes(text: str) -> Mapping[str, Any]:
    if text not in _SETTINGS:
        raise ConfigError(
            f"--values: expected optimizers among {', '.join(_SETTINGS)}, got {text!r}{suggestion(text, _SETTINGS)}"
        )
    return _SETTINGS[text]


STUDY = Study(
    name="optimizer",
    question="Which optimizer, each at a learning rate of its own?",
    setting="optimizer",
    values=tuple(_SETTINGS),
    changes=_changes,
    sets=("optimizer", "momentum", "learning_rate"),
    fit={"n_epochs": 30},
    rates=(0.001, 0.01, 0.1, 1.0),
)
