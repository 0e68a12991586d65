"""How far probabilities are from what happens, for B variants of N rows at once (no torch).

A variant is a choice of rows (a bootstrap sample) or of labels (a world in which the model is calibrated); both are
measured by the same code, on probabilities that are binned once: bins are part of the measuring rod and stay those of
the whole data. Conventions: bins ``(a, b]``, 0 in the first and 1 in the last; the mean confidence of a bin, not its
centre; bins weighted by their rows; empty ones count nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from entropic_rl.calibration.checks import Array, Ints

__all__ = [
    "ABSOLUTE",
    "ERRORS",
    "MEASURES",
    "Meter",
    "Reliability",
    "debiased",
    "equal_mass_bins",
    "equal_width_bins",
]

MEASURES = (
    "accuracy", "nll", "brier", "reliability", "resolution", "uncertainty", "ece", "ece_mass", "ece_classwise",
    "ece_smooth", "max_error", "signed_gap",
)  # fmt: skip
ABSOLUTE = ("ece", "ece_mass", "ece_classwise", "ece_smooth", "max_error")
"""Those that add up absolute gaps of bins."""
ERRORS = ("reliability", *ABSOLUTE)
"""Those that only the error of calibration moves away from 0, upwards."""

_ENTRIES = 4_000_000  # of the largest intermediate array
_CELLS, _WAVES, _HALVINGS = 256, 192, 18  # of the smooth error: rounding of confidences, cosines, digits
_DENSITY = 40  # cells of the histogram of confidences


@dataclass(frozen=True, slots=True)
class Reliability:
    """Bins of the likeliest class's probability, K of them that hold rows, in order.

    Attributes:
        counts: ``[K]``, rows.
        left: ``[K]``, where each begins: its edge for bins of equal width, its lowest confidence for equal mass.
        right: ``[K]``, where it ends.
        confidence: ``[K]``, mean of its rows.
        accuracy: ``[K]``, share of its rows that are right.
        low: ``[K]``, 2.5 % quantile of the accuracy that a calibrated model shows on as many rows.
        high: ``[K]``, 97.5 % quantile.
        density: ``[40]``, share of all rows in cells of equal width from confidence 0 to 1.
    """

    counts: Ints
    left: Array
    right: Array
    confidence: Array
    accuracy: Array
    low: Array
    high: Array
    density: Array


class Meter:
    """Measures variants of labelled rows against fixed probabilities ``[N, C]``.

    Args:
        proba: ``[N, C]``, rows summing to 1.
        n_bins: of every binned error.
    """

    def __init__(self, proba: Array, n_bins: int) -> None:
        self.proba, self.n_bins = proba, n_bins
        self.confidence = proba.max(1)
        self.predicted = proba.argmax(1)
        self._log = np.log(np.maximum(proba, np.finfo(np.float64).tiny))
        self._square = (proba**2).sum(1)
        self._width = equal_width_bins(self.confidence, n_bins)
        self._mass = equal_mass_bins(self.confidence, n_bins)
        self._class_bins = equal_width_bins(proba, n_bins) + n_bins * np.arange(proba.shape[1])  # [N, C]
        self._cells = np.minimum((self.confidence * _CELLS).astype(np.int64), _CELLS - 1)
        waves, middles = np.arange(_WAVES), (np.arange(_CELLS) + 0.5) / _CELLS
        self._cosines = np.cos(np.pi * np.outer(waves, middles))  # [waves, cells]

    def measure(self, labels: Ints, rows: Ints | None = None) -> dict[str, Array]:
        """Every measure of B variants, ``[B]`` each.

        Args:
            labels: ``[B, N]``, columns of the probabilities.
            rows: ``[B, N]``, whose probabilities; by default every row once.
        """
        n_variants, n = labels.shape
        rows = np.broadcast_to(np.arange(n), labels.shape) if rows is None else rows
        correct = labels == self.predicted[rows]
        confidence = self.confidence[rows]
        gap = confidence - correct
        own = self.proba[rows, labels]
        brier = (self._square[rows] - 2.0 * own + 1.0).mean(1)
        width, counts = _sums(self._width[rows], gap, self.n_bins), _sums(self._width[rows], None, self.n_bins)
        mass = _sums(self._mass[rows], gap, self.n_bins)
        n_classes = self.proba.shape[1]
        class_gap = self.proba[rows]  # [B, N, C], a copy
        np.put_along_axis(class_gap, labels[..., None], (own - 1.0)[..., None], 2)
        bins = self._class_bins[rows].reshape(n_variants, -1)
        by_class = _sums(bins, class_gap.reshape(n_variants, -1), n_classes * self.n_bins)
        class_counts = _sums(bins, None, n_classes * self.n_bins)
        reliability = (by_class**2 / np.maximum(class_counts, 1.0)).sum(1) / n
        shares = _sums(labels, None, n_classes) / n
        uncertainty = 1.0 - (shares**2).sum(1)
        return {
            "accuracy": correct.mean(1),
            "nll": -self._log[rows, labels].mean(1),
            "brier": brier,
            "reliability": reliability,
            "resolution": uncertainty + reliability - brier,
            "uncertainty": uncertainty,
            "ece": np.abs(width).sum(1) / n,
            "ece_mass": np.abs(mass).sum(1) / n,
            "ece_classwise": np.abs(by_class).sum(1) / (n * n_classes),
            "ece_smooth": self._smooth(_sums(self._cells[rows], gap, _CELLS) / n),
            "max_error": (np.abs(width) / np.maximum(counts, 1.0)).max(1),
            "signed_gap": gap.mean(1),
        }

    def calibrated(self, n_variants: int, rng: Generator) -> dict[str, Array]:
        """The measures, ``[B]`` each, in worlds where labels are drawn from the probabilities themselves."""
        steps = self.proba.cumsum(1)
        steps[:, -1] = 1.0
        parts = []
        for size in self._chunks(n_variants):
            draws = rng.random((size, len(steps)))
            # Counting the steps below a draw is inverting the distribution function.
            labels = (draws[..., None] >= steps).sum(2)
            parts.append(self.measure(labels))
        return _joined(parts)

    def resampled(self, labels: Ints, n_variants: int, rng: Generator) -> dict[str, Array]:
        """The measures, ``[B]`` each, of bootstrap samples of the rows with their labels ``[N]``."""
        parts = []
        for size in self._chunks(n_variants):
            rows = rng.integers(len(labels), size=(size, len(labels)))
            parts.append(self.measure(labels[rows], rows))
        return _joined(parts)

    def reliability(self, labels: Ints, n_variants: int, rng: Generator) -> dict[str, Reliability]:
        """The bins of equal ``width`` and equal ``mass`` of labels ``[N]``, beside calibrated worlds."""
        schemes = {"width": self._width, "mass": self._mass}
        worlds: dict[str, list[Array]] = {scheme: [] for scheme in schemes}
        for size in self._chunks(n_variants):
            # A calibrated model's answer is right as often as it says: no need to draw the class of wrong ones.
            right = (rng.random((size, len(labels))) < self.confidence).astype(np.float64)
            for scheme, bins in schemes.items():
                worlds[scheme].append(_sums(np.broadcast_to(bins, right.shape), right, self.n_bins))
        right = (labels == self.predicted).astype(np.float64)
        cells = equal_width_bins(self.confidence, _DENSITY)
        density = np.bincount(cells, minlength=_DENSITY) / len(labels)
        found = {}
        for scheme, bins in schemes.items():
            counts, hits, total = (
                _sums(bins[None], values, self.n_bins)[0] for values in (None, right, self.confidence)
            )
            held = counts > 0
            low, high = np.quantile(np.concatenate(worlds[scheme])[:, held] / counts[held], (0.025, 0.975), axis=0)
            ends = np.flatnonzero(held)[:, None] + np.array([0.0, 1.0])  # [K, 2]
            if scheme == "mass":
                own = [self.confidence[bins == k] for k in np.flatnonzero(held)]
                ends = self.n_bins * np.array([[rows.min(), rows.max()] for rows in own])
            found[scheme] = Reliability(
                counts=counts[held].astype(np.int64),
                left=ends[:, 0] / self.n_bins,
                right=ends[:, 1] / self.n_bins,
                confidence=total[held] / counts[held],
                accuracy=hits[held] / counts[held],
                low=low,
                high=high,
                density=density,
            )
        return found

    def ece_floor(self, n_variants: int, rng: Generator) -> float:
        """The mean ECE that a calibrated model of these confidences shows, by chance alone."""
        errors = []
        for size in self._chunks(n_variants):
            gap = self.confidence - (rng.random((size, len(self.confidence))) < self.confidence)
            bins = np.broadcast_to(self._width, gap.shape)
            errors.append(np.abs(_sums(bins, gap, self.n_bins)).sum(1) / len(self.confidence))
        return float(np.concatenate(errors).mean())

    def error_against(self, posterior: Array) -> float:
        """The ECE against true probabilities ``[N, C]`` in place of labels: nothing in it is chance of labels."""
        own = posterior[np.arange(len(posterior)), self.predicted]
        gaps = _sums(self._width[None], (self.confidence - own)[None], self.n_bins)
        return float(np.abs(gaps).sum() / len(posterior))

    def _chunks(self, n_variants: int) -> Iterator[int]:
        most = max(1, _ENTRIES // self.proba.size)
        for start in range(0, n_variants, most):
            yield min(most, n_variants - start)

    def _smooth(self, gaps: Array) -> Array:
        """Smooth ECE from the mean gaps per cell of confidence, ``[B, cells] -> [B]``.

        Gaps are smoothed by a Gaussian of width s reflected at 0 and 1, which in the basis of cosines multiplies the
        k-th coefficient by ``exp(-(pi k s)^2 / 2)``; the error is the width at which the mean absolute smoothed gap
        equals the width itself. Source: Blasiok & Nakkiran (2023), section 3, https://arxiv.org/abs/2309.12236.
        """
        coefficients = gaps @ self._cosines.T  # [B, waves]
        coefficients[:, 1:] *= 2.0
        frequency = 0.5 * (np.pi * np.arange(_WAVES)) ** 2
        low, high = np.zeros(len(gaps)), np.ones(len(gaps))
        for _ in range(_HALVINGS):
            width = 0.5 * (low + high)
            smoothed = (coefficients * np.exp(-np.outer(width**2, frequency))) @ self._cosines
            above = np.abs(smoothed).mean(1) > width
            low, high = np.where(above, width, low), np.where(above, high, width)
        return 0.5 * (low + high)


def debiased(error: Array | float, floor: Array | float) -> Array:
    """``sign(p - f) sqrt|p^2 - f^2|``: an error p that chance alone would lift from 0 to the floor f.

    Chance and miscalibration add up in squares, so that subtracting the floor would read too low; the sign lets a
    calibrated model read 0 on average. On 360 rows of a calibrated model the plain error reads 1.1 points.
    """
    return np.sign(np.subtract(error, floor)) * np.sqrt(np.abs(np.square(error) - np.square(floor)))


def equal_width_bins(p: Array, n_bins: int) -> Ints:
    """The bin of each probability among ``(k/n, (k+1)/n]``, with 0 in the first."""
    return np.searchsorted(np.linspace(0.0, 1.0, n_bins + 1)[1:-1], p, side="left").astype(np.int64)


def equal_mass_bins(p: Array, n_bins: int) -> Ints:
    """The bin of each number ``[N]`` among ``n_bins`` of equally many rows; equal numbers stay together."""
    ordered = np.sort(p)
    inner = np.arange(1, n_bins) * len(p) // n_bins
    edges = ordered[np.maximum(inner - 1, 0)]  # each the last of its bin
    return np.searchsorted(edges, p, side="left").astype(np.int64)


def _sums(bins: Ints, values: Array | None, n_bins: int) -> Array:
    """Sums (or counts) per bin of each variant, ``[B, M] -> [B, bins]``."""
    flat = bins + n_bins * np.arange(len(bins))[:, None]
    weights = None if values is None else values.ravel()
    return (
        np.bincount(flat.ravel(), weights, minlength=len(bins) * n_bins).reshape(len(bins), n_bins).astype(np.float64)
    )


def _joined(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
