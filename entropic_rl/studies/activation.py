"""Which activation, each at a learning rate of its own? Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from entropic_rl.config import suggestion
from entropic_rl.errors import ConfigError
from entropic_rl.studies.study import Request, Study

if TYPE_CHECKING:
    from entropic_rl.studies.findings import Findings

__all__ = ["STUDY"]

_NAMES = ("sigmoid", "tanh", "relu", "leaky_relu", "prelu", "elu", "gelu", "silu")


def _changes(text: str) -> Mapping[str, Any]:
    if text not in _NAMES:
        raise ConfigError(
            f"--values: expected activations among {', '.join(_NAMES)}, got {text!r}{suggestion(text, _NAMES)}"
        )
    return {"activation": text}


def _program(request: Request) -> Findings:
    from entropic_rl.studies.activation_curves import findings

    return findings(request)


STUDY = Study(
    name="activation",
    question="Which activation, each at a learning rate of its own?",
    setting="activation",
    values=_NAMES,
    changes=_changes,
    sets=("activation", "learning_rate"),
    fit={"net_arch": (64, 64), "n_epochs": 30},
    rates=(0.0003, 0.001, 0.003, 0.01),
    program=_program,
)
