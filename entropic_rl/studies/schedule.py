"""Should the learning rate move during training? Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from entropic_rl.config import suggestion
from entropic_rl.errors import ConfigError
from entropic_rl.studies.study import Study

__all__ = ["STUDY"]

_SPECS = {
    "constant": "constant:{rate}",
    "linear": "linear:{rate}:0",
    "cosine": "cosine:{rate}:0",
    "step": "step:{rate}:{last}",
    "warmup": "warmup:{rate}:0",
    "onecycle": "onecycle:{rate}:0",
}
_LAST = 0.01  # of the first rate, where a schedule cannot end at 0


def _changes(text: str) -> Mapping[str, Any]:
    if text not in _SPECS:
        raise ConfigError(
            f"--values: expected schedules among {', '.join(_SPECS)}, got {text!r}{suggestion(text, _SPECS)}"
        )
    return _at_rate(text, "1")


def _at_rate(text: str, rate: str) -> Mapping[str, Any]:
    try:
        last = f"{_LAST * float(rate):g}"
    except ValueError:
        last = rate
    return {"learning_rate": _SPECS[text].format(rate=rate, last=last)}


STUDY = Study(
    name="schedule",
    question="Should the learning rate move during training?",
    setting="schedule",
    values=tuple(_SPECS),
    changes=_changes,
    sets=("learning_rate",),
    fit={"optimizer": "sgd", "n_epochs": 30},
    rates=(0.003, 0.01, 0.03, 0.1, 0.3),
    at_rate=_at_rate,
)
