"""How should weights begin? Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from entropic_rl.studies.study import Request, Study

if TYPE_CHECKING:
    from entropic_rl.studies.findings import Findings

__all__ = ["STUDY"]


def _changes(text: str) -> Mapping[str, Any]:
    return {"initialisation": text}


def _program(request: Request) -> Findings:
    from entropic_rl.studies.first_step import findings

    return findings(request)


STUDY = Study(
    name="initialisation",
    question="How should weights begin?",
    setting="initialisation",
    values=("orthogonal", "glorot", "he", "uniform", "small", "large", "zeros"),
    changes=_changes,
    sets=("initialisation", "learning_rate"),
    fit={"optimizer": "sgd", "net_arch": (64,) * 5, "n_epochs": 20},
    rates=(0.001, 0.003, 0.01, 0.03, 0.1),
    program=_program,
    description="Beside what becomes of the runs: outputs and gradients of every layer before the first step.",
)
