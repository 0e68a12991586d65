"""All studies by name; free of torch."""

from __future__ import annotations

from entropic_rl.studies import (
    activation,
    batch_size,
    depth,
    initialisation,
    learning_rate,
    optimizer,
    pruning,
    regularisation,
    schedule,
    splits,
)
from entropic_rl.studies.study import Study

__all__ = ["STUDIES"]

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        learning_rate.STUDY,
        batch_size.STUDY,
        optimizer.STUDY,
        schedule.STUDY,
        activation.STUDY,
        initialisation.STUDY,
        depth.STUDY,
        regularisation.STUDY,
        pruning.STUDY,
        splits.STUDY,
    )
}  # fmt: skip
