"""How many layers, before gradients vanish? Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from entropic_rl.errors import ConfigError
from entropic_rl.studies.study import Request, Study

if TYPE_CHECKING:
    from entropic_rl.studies.findings import Findings

__all__ = ["KINDS", "STUDY"]

KINDS: Mapping[str, Mapping[str, Any]] = {
    "sigmoid": {"activation": "sigmoid"},
    "relu": {"activation": "relu"},
    "tanh": {"activation": "tanh"},
    "sigmoid+batch-norm": {"activation": "sigmoid", "batch_norm": True},
    "relu+batch-norm": {"activation": "relu", "batch_norm": True},
}
"""Networks that are compared, and what each changes of the training's settings."""

_DEEPEST = 100


def _changes(text: str) -> Mapping[str, Any]:
    if not text.isdecimal() or not 1 <= int(text) <= _DEEPEST:
        raise ConfigError(f"--values: expected numbers of hidden layers from 1 to {_DEEPEST}, got {text!r}")
    return {"net_arch": (1,) * int(text)}


def _program(request: Request) -> Findings:
    from entropic_rl.studies.deep import findings

    return findings(request)


STUDY = Study(
    name="depth",
    question="How many layers, before gradients vanish?",
    setting="hidden layers",
    values=("1", "2", "4", "8", "12", "20"),
    changes=_changes,
    sets=("net_arch", "activation", "batch_norm", "layer_norm"),
    fit={"optimizer": "sgd", "learning_rate": 0.01, "n_epochs": 20},
    flags={
        "--networks": {
            "nargs": "+",
            "choices": list(KINDS),
            "default": ["sigmoid", "sigmoid+batch-norm", "relu", "relu+batch-norm"],
            "metavar": "NAME",
            "help": f"among {', '.join(KINDS)} [sigmoid sigmoid+batch-norm relu relu+batch-norm]",
        },
        "--width": {"type": int, "default": 32, "metavar": "N", "help": "units of every hidden layer [32]"},
    },
    program=_program,
    description="Every kind of network at every depth; gradients of all layers before the first step.",
)
