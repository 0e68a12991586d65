"""How much does the best of many flatter itself? Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from entropic_rl.errors import ConfigError
from entropic_rl.studies.study import Request, Study

if TYPE_CHECKING:
    from entropic_rl.studies.findings import Findings

__all__ = ["STUDY"]

_MOST = 1000


def _changes(text: str) -> Mapping[str, Any]:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise ConfigError(f"--values: expected numbers of candidates from 1 to {_MOST}, got {text!r}")
    return {}


def _program(request: Request) -> Findings:
    from entropic_rl.studies.choosing import findings

    return findings(request)


STUDY = Study(
    name="splits",
    question="How much does the best of many flatter itself on the rows that it was chosen by?",
    setting="candidates tried",
    values=("1", "2", "4", "8", "16", "32", "64"),
    changes=_changes,
    sets=("learning_rate", "l2", "early_stopping"),
    fit={"net_arch": (32,), "n_epochs": 20, "test_fraction": 0.7, "validation_fraction": 0.2},
    program=_program,
    description="Candidates differ in learning rate, l2, first weights and minibatches, drawn at random. Of the test "
    "side as many rows as there are validation rows are the test; the rest, which nobody looks at, says what is true.",
)
