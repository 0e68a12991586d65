"""All studies by name; free of torch."""

from __future__ import annotations

from entropic_rl.studies import learning_rate
from entropic_rl.studies.study import Study

__all__ = ["STUDIES"]

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        learning_rate.STUDY,
    )
}  # fmt: skip
