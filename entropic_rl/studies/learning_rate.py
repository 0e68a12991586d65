"""How large may a step be? Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from entropic_rl.studies.study import Request, Study, standard

if TYPE_CHECKING:
    from entropic_rl.studies.findings import Findings

__all__ = ["STUDY"]

_ONE_WEIGHT = "one-weight"


def _changes(text: str) -> Mapping[str, Any]:
    return {"learning_rate": text}


def _program(request: Request) -> Findings:
    if request.config.data == _ONE_WEIGHT:
        from entropic_rl.studies.one_weight import findings

        return findings(request)
    if request.flags["range_test"]:
        from entropic_rl.studies.growing_rate import findings as range_findings

        return range_findings(request)
    return standard(request)


STUDY = Study(
    name="learning-rate",
    question="How large may a step be?",
    setting="learning rate",
    values=("0.0001", "0.001", "0.01", "0.1", "1", "10"),
    values_on={_ONE_WEIGHT: ("0.01", "0.1", "1")},
    changes=_changes,
    sets=("learning_rate",),
    fit={"optimizer": "sgd", "n_epochs": 30},
    flags={
        "--range-test": {
            "action": "store_true",
            "help": "instead of values, one rate that grows from step to step: where the loss falls fastest, is lowest "
            "and diverges",
        }
    },
    program=_program,
    description="--data one-weight is the problem of textbooks: a single weight, and a loss whose optimum is about 3.",
)
