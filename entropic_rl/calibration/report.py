"""How calibrated probabilities are, how sure that statement is, and what a calibrated model would have shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from entropic_rl.calibration.checks import Array, check_counts, labels_and_probabilities
from entropic_rl.calibration.metrics import ABSOLUTE, ERRORS, Meter, Reliability, debiased
from entropic_rl.calibration.selective import RiskCoverage, risk_coverage

__all__ = ["CalibrationReport", "Measure", "calibration_report"]

_NAMES = {
    "accuracy": "accuracy",
    "nll": "negative log-likelihood, nats",
    "brier": "Brier score",
    "reliability": "  reliability (smaller is better)",
    "resolution": "  resolution (larger is better)",
    "uncertainty": "  uncertainty (of the labels)",
    "ece": "ECE, bins of equal width",
    "ece_debiased": "ECE, debiased",
    "ece_mass": "ECE, bins of equal mass",
    "ece_classwise": "ECE, class-wise",
    "ece_smooth": "ECE, smooth",
    "max_error": "largest error of a bin",
    "signed_gap": "confidence - accuracy",
}
_PERCENT = {"accuracy", "ece", "ece_debiased", "ece_mass", "ece_classwise", "ece_smooth", "max_error", "signed_gap"}
_UNTESTED = {"resolution", "uncertainty"}  # they describe the data more than the model's honesty


@dataclass(frozen=True, slots=True)
class Measure:
    """A number, how sure it is, and how it compares with a calibrated model's.

    Attributes:
        value: of the data.
        low: lower end of the 95 % bootstrap interval over rows; of errors without the bias of resampling.
        high: its upper end.
        floor: the mean if labels were drawn from the probabilities themselves: what chance alone shows at this n.
        floor_high: 95 % of such models show less.
        p_value: how often such a model shows as much (errors of calibration) or is as far from the floor on this side,
            doubled (the others); None where that says nothing about calibration.
    """

    value: float
    low: float
    high: float
    floor: float
    floor_high: float
    p_value: float | None


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """What :func:`calibration_report` found; ``print`` shows a table, ``report["ece"]`` is a :class:`Measure`.

    Attributes:
        n: rows.
        n_classes: columns of the probabilities.
        n_bins: of every binned error.
        n_resamples: of every interval and floor.
        measures: by name, fractions and nats. ``ece*`` and ``signed_gap`` are of the likeliest class, ``ece_classwise``
            of all, averaged; ``brier = reliability - resolution + uncertainty``, with the forecasts' variance within
            bins counted as resolution (Stephenson et al. 2008).
        mean_confidence: of the likeliest class: sharpness.
        mean_entropy: of the probabilities, nats: sharpness.
        selective: errors among the most confident answers.
        reliability: the bins, of equal ``width`` and equal ``mass``, beside what a calibrated model shows in them.
    """

    n: int
    n_classes: int
    n_bins: int
    n_resamples: int
    measures: Mapping[str, Measure]
    mean_confidence: float
    mean_entropy: float
    selective: RiskCoverage
    reliability: Mapping[str, Reliability]

    def __getitem__(self, name: str) -> Measure:
        return self.measures[name]

    @property
    def p_value(self) -> float:
        """How often a calibrated model shows an ECE like this one's, or a larger one."""
        p = self.measures["ece"].p_value
        return math.nan if p is None else p

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dicts, for JSON."""
        found = asdict(self)
        found["measures"] = {name: asdict(measure) for name, measure in self.measures.items()}
        found["selective"] = {
            "coverage": self.selective.coverage.tolist(),
            "risk": self.selective.risk.tolist(),
            "area": self.selective.area,
            "excess": self.selective.excess,
        }
        found["reliability"] = {
            scheme: {name: values.tolist() for name, values in asdict(bins).items()}
            for scheme, bins in self.reliability.items()
        }
        return found | {"p_value": self.p_value}

    def __str__(self) -> str:
        head = ["", "value", "95 % interval", "if calibrated", "95 % of those", "p"]
        rows = [_row(name, measure) for name, measure in self.measures.items()]
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in [head, *rows]
        ]
        lines += [
            f"{self.n} rows, {self.n_classes} classes, {self.n_bins} bins, {self.n_resamples} resamples. Sharpness: "
            f"mean confidence {100 * self.mean_confidence:.2f} %, mean entropy {self.mean_entropy:.4f} nats.",
            f"Errors among the most confident half: {100 * self.selective.at(0.5):.2f} %; area under risk over "
            f"coverage {self.selective.area:.4f} ({self.selective.excess:.4f} above the best order).",
        ]
        return "\n".join(lines)


def calibration_report(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    classes: Sequence[Any] | None = None,
    n_bins: int = 15,
    n_resamples: int = 1000,
    rng: Generator | None = None,
) -> CalibrationReport:
    """Measure probabilities against labels; read ECE beside its floor, and never across different n.

    Args:
        y: ``[N]``, columns of ``proba``, or labels if ``classes`` names them.
        proba: ``[N, C]``, or ``[N]`` for the probability of the second of two classes. Never those of training data.
        classes: the label of each column.
        n_bins: of every binned error.
        n_resamples: bootstrap samples, and worlds in which the model is calibrated.
        rng: of both; by default a generator with seed 0, so that the same data give the same report.

    Raises:
        ConfigError: what :func:`entropic_rl.calibration.checks.labels_and_probabilities` refuses, or a count below 1.
    """
    check_counts(n_bins=n_bins, n_resamples=n_resamples)
    labels, p = labels_and_probabilities(y, proba, classes)
    rng = np.random.default_rng(0) if rng is None else rng
    meter = Meter(p, n_bins)
    values = {name: float(value[0]) for name, value in meter.measure(labels[None]).items()}
    worlds, samples = meter.calibrated(n_resamples, rng), meter.resampled(labels, n_resamples, rng)
    resampled = samples["ece"]
    # A bootstrap sample adds chance to the chance that is in the data: once too often for what grows with it.
    for name in ("reliability", "resolution"):  # squares, whose biases are equal and add up
        samples[name] = np.maximum(samples[name] - worlds["reliability"].mean(), 0.0)
    for name in ABSOLUTE:
        samples[name] = np.maximum(debiased(samples[name], worlds[name].mean()), 0.0)
    measures = {name: _measure(name, values[name], samples[name], worlds[name]) for name in values}
    measures["ece_debiased"] = _debiased(values["ece"], resampled, worlds["ece"])
    return CalibrationReport(
        n=len(labels),
        n_classes=p.shape[1],
        n_bins=n_bins,
        n_resamples=n_resamples,
        measures={name: measures[name] for name in _NAMES},
        mean_confidence=float(meter.confidence.mean()),
        mean_entropy=_mean_entropy(p),
        selective=risk_coverage(meter.predicted == labels, meter.confidence),
        reliability=meter.reliability(labels, n_resamples, rng),
    )


def _measure(name: str, value: float, samples: Array, worlds: Array) -> Measure:
    low, high = np.quantile(samples, (0.025, 0.975)).tolist()
    return Measure(
        value, low, high, float(worlds.mean()), float(np.quantile(worlds, 0.95)), _p_value(name, value, worlds)
    )


def _debiased(value: float, samples: Array, worlds: Array) -> Measure:
    """The debiased ECE: its interval is rid of the chance in the data and of that of resampling."""
    floor = float(worlds.mean())
    low, high = np.quantile(debiased(samples, math.sqrt(2.0) * floor), (0.025, 0.975)).tolist()
    shown = debiased(worlds, floor)
    return Measure(
        float(debiased(value, floor)),
        low,
        high,
        float(shown.mean()),
        float(np.quantile(shown, 0.95)),
        _p_value("ece", value, worlds),
    )


def _p_value(name: str, value: float, worlds: Array) -> float | None:
    if name in _UNTESTED:
        return None
    tolerance = 1e-12 * max(1.0, abs(value))  # equal but for rounding counts as equal
    above = (1.0 + (worlds >= value - tolerance).sum()) / (1.0 + len(worlds))
    if name in ERRORS:
        return float(above)
    below = (1.0 + (worlds <= value + tolerance).sum()) / (1.0 + len(worlds))
    return float(min(1.0, 2.0 * min(above, below)))


def _mean_entropy(p: Array) -> float:
    import torch

    from entropic_rl.entropy import categorical_entropy

    return categorical_entropy(torch.from_numpy(p).log()).mean().item()


def _row(name: str, measure: Measure) -> list[str]:
    def show(number: float) -> str:
        return f"{100 * number:.2f}" if name in _PERCENT else f"{number:.4f}"

    return [
        _NAMES[name] + (", %" if name in _PERCENT else ""),
        show(measure.value),
        f"{show(measure.low)} to {show(measure.high)}",
        show(measure.floor),
        f"< {show(measure.floor_high)}",
        "-" if measure.p_value is None else f"{measure.p_value:.3f}",
    ]
