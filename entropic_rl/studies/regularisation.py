"""What keeps a network from learning its rows by heart? Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from entropic_rl.config import suggestion
from entropic_rl.errors import ConfigError
from entropic_rl.studies.study import Study

__all__ = ["STUDY"]

_STRENGTHS = {
    "l1": "l1",
    "l2": "l2",
    "dropout": "dropout",
    "entropy": "ent_coef",
    "label-smoothing": "label_smoothing",
}
_SWITCHES: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "batch-norm": {"batch_norm": True},
    "layer-norm": {"layer_norm": True},
    "early-stopping": {"early_stopping": True},
}
_FIELDS = (*_STRENGTHS.values(), "batch_norm", "layer_norm", "early_stopping")


def _changes(text: str) -> Mapping[str, Any]:
    name, _, strength = text.partition(":")
    if name in _SWITCHES and not strength:
        return _SWITCHES[name]
    if name in _STRENGTHS and strength:
        return {_STRENGTHS[name]: strength}
    names = [*_SWITCHES, *(f"{own}:STRENGTH" for own in _STRENGTHS)]
    raise ConfigError(
        f"--values: expected some of {', '.join(names)}, got {text!r}{suggestion(name, [*_SWITCHES, *_STRENGTHS])}"
    )


STUDY = Study(
    name="regularisation",
    question="What keeps a network from learning its rows by heart?",
    setting="regularisation",
    values=("none", "l1:0.001", "l2:0.01", "dropout:0.5", "batch-norm", "layer-norm", "early-stopping", "entropy:0.3",
            "label-smoothing:0.1"),
    changes=_changes,
    sets=_FIELDS,
    fit={"net_arch": (128,), "n_epochs": 100, "test_fraction": 0.8, "validation_fraction": 0.5},
    shows_gap=True,
    description="On few training rows, so that a network that nothing holds back learns them by heart. Values are "
    "NAME or NAME:STRENGTH, chosen on validation rows and reported on test rows.",
)  # fmt: skip
