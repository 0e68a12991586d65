"""What errors of calibration read where the truth is known: simulated two-class models, beside the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from entropic_rl.calibration import CalibrationReport, calibration_report

__all__ = ["metrics_table", "simulate"]


def simulate(gap: float, n: int, trials: int, *, n_resamples: int = 200, seed: int = 0) -> list[CalibrationReport]:
    """Reports of models with confidences from Beta(20, .5), of which ``gap`` less is right, each on ``n`` rows."""
    reports = []
    for trial in range(trials):
        rng = np.random.default_rng([seed, trial])
        confidence, right = _draw(gap, n, rng)
        # The likelier class is always the second: confidences below one half do not occur in practice.
        reports.append(calibration_report(right, np.maximum(confidence, 0.5), n_resamples=n_resamples, rng=rng))
    return reports


def metrics_table(gap: float, n: int, trials: int, n_resamples: int) -> str:
    """A row of Markdown: what the errors read on average, what the interval holds, how often p < .05."""
    reports = simulate(gap, n, trials, n_resamples=n_resamples)

    def mean(name: str) -> float:
        return 100.0 * float(np.mean([report[name].value for report in reports]))

    plain = [100.0 * report["ece"].value for report in reports]
    spread = 100.0 * float(np.std([report["ece_debiased"].value for report in reports], ddof=1)) / np.sqrt(trials)
    held, held_debiased = (
        100.0 * np.mean([report[name].low <= gap <= report[name].high for report in reports])
        for name in ("ece", "ece_debiased")
    )
    detected = 100.0 * np.mean([report.p_value < 0.05 for report in reports])
    return (
        f"| {100 * gap:g} | {n} | {mean('ece'):.2f} ({np.quantile(plain, 0.95):.2f}) | {mean('ece_mass'):.2f} "
        f"| {mean('ece_smooth'):.2f} | {mean('ece_debiased'):.2f} +- {1.96 * spread:.2f} "
        f"| {held:.0f} %, {held_debiased:.0f} % | {detected:.0f} % |"
    )


def _draw(gap: float, n: int, rng: Generator) -> tuple[NDArray[Any], NDArray[Any]]:
    confidence = rng.beta(20.0, 0.5, n)
    return confidence, (rng.random(n) < np.maximum(confidence - gap, 0.0)).astype(np.int64)
