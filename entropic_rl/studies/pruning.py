"""How many weights does a network need? Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from entropic_rl.errors import ConfigError
from entropic_rl.studies.study import Request, Study

if TYPE_CHECKING:
    from entropic_rl.studies.findings import Findings

__all__ = ["STUDY"]


def _changes(text: str) -> Mapping[str, Any]:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share < 100.0:
        raise ConfigError(f"--values: expected percentages of weights from 0 to below 100, got {text!r}")
    return {}


def _program(request: Request) -> Findings:
    from entropic_rl.studies.sparse import findings

    return findings(request)


STUDY = Study(
    name="pruning",
    question="How many weights does a network need?",
    setting="weights pruned, %",
    values=("0", "50", "70", "80", "90", "95", "98"),
    changes=_changes,
    sets=("early_stopping", "l1"),
    fit={"net_arch": (128,), "n_epochs": 30},
    flags={
        "--fine-tuning": {
            "type": int, "default": 30, "metavar": "N",
            "help": "epochs after pruning; networks that are sparse from the start train so much longer [30]",
        },
        "--sparse-l1": {
            "type": float, "default": 0.001, "metavar": "X",
            "help": "weight of the sum of |weights| where pruning is prepared for by it [0.001]",
        },
    },
    program=_program,
    description="The smallest weights go after training, with and without fine-tuning; beside networks that begin with "
    "as few, drawn at random.",
)  # fmt: skip
