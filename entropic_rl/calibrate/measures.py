"""What the answers of every coefficient, seed and read-out are worth, as one long table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from entropic_rl.calibration.metrics import Meter, debiased

if TYPE_CHECKING:
    from entropic_rl.calibrate.experiment import Answers
    from entropic_rl.datasets import Dataset

__all__ = ["Record", "measure"]

_WORLDS = 200  # from which the noise floor of one record's ECE is taken

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Record:
    """One coefficient, seed and read-out.

    Attributes:
        ent_coef: as text.
        seed: of data, split and training.
        readout: ``raw``, ``proper`` or ``temperature``.
        values: by name; fractions and nats. ``ece_debiased`` may be negative. Where the posterior is known:
            ``distance``, mean |p - posterior| per class, and ``true_error``, the ECE against it, without any chance.
            With label noise: ``clean_nll`` and ``clean_accuracy``.
    """

    ent_coef: str
    seed: int
    readout: str
    values: dict[str, float]


def measure(answers: Sequence[Answers], datasets: dict[int, Dataset], n_bins: int) -> list[Record]:
    """Records of all answers."""
    found = []
    for given in answers:
        dataset = datasets[given.seed].take(given.rows)
        for readout, proba in given.proba.items():
            values = _values(proba, dataset, n_bins, given.seed)
            values["validation_nll"] = given.validation_nll[readout]
            values["temperature"] = float(np.mean([model.temperature for model in given.models]))
            values["fitted_coef"] = float(np.mean([model.ent_coef for model in given.models]))
            values["n_epochs"] = float(np.mean([model.n_epochs for model in given.models]))
            found.append(Record(given.name, given.seed, readout, values))
    return found


def _values(proba: Array, dataset: Dataset, n_bins: int, seed: int) -> dict[str, float]:
    meter = Meter(proba, n_bins)
    own = {name: float(value[0]) for name, value in meter.measure(dataset.y[None]).items()}
    values = {name: own[name] for name in ("accuracy", "nll", "brier", "ece", "signed_gap")}
    floor = meter.ece_floor(_WORLDS, np.random.default_rng(seed))
    values["ece_debiased"] = float(debiased(own["ece"], floor))
    log_p = np.log(np.maximum(proba, np.finfo(np.float64).tiny))
    values["entropy"] = float(-(proba * log_p).sum(1).mean())
    if (dataset.y != dataset.clean_y).any():
        rows = np.arange(len(proba))
        values["clean_nll"] = float(-log_p[rows, dataset.clean_y].mean())
        values["clean_accuracy"] = float((proba.argmax(1) == dataset.clean_y).mean())
    posterior = dataset.posterior
    if posterior is not None:
        values["distance"] = float(np.abs(proba - posterior).mean())
        values["true_error"] = meter.error_against(posterior)
    return values
