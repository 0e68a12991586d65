"""All studies by name; free of torch."""

from __future__ import annotations

from entropic_rl.studies import batch_size, learning_rate, optimizer, schedule
from entropic_rl.studies.study import Study

__all__ = ["STUDIES"]

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        learning_rate.STUDY,
        batch_size.STUDY,
        optimizer.STUDY,
        schedule.STUDY,
    )
}  # fmt: skip
