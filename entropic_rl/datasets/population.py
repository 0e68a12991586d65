"""Generated data whose posterior is known: classes that are Gaussian mixtures in the plane (no torch).

A class is a measure on centres (a point, or a half circle) with isotropic Gaussian noise around them. Its density is a
mixture over centres: exact for points, by Gauss-Legendre quadrature over the angle for half circles.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from entropic_rl.errors import ConfigError

__all__ = ["DEFAULT_NOISE", "N_CLASSES", "Array", "Population"]

Array: TypeAlias = NDArray[np.float64]

DEFAULT_NOISE = {"blobs": 0.78, "moons": 0.3}
"""Bayes errors of 21.8 % and 8.5 %."""
N_CLASSES = {"blobs": 3, "moons": 2}

_SMALLEST_NOISE = 0.02  # below it, quadratures need more nodes than maps have points
_ENTRIES = 2_000_000  # of the largest intermediate array
_GRID = 16  # points per standard deviation when errors are integrated: off by less than 1e-5
_REACH = 8.0  # standard deviations around the centres


@dataclass(frozen=True, slots=True)
class Population:
    """What rows of ``blobs`` and ``moons`` are drawn from, one by one.

    ``blobs``: three Gaussians around the corners of an equilateral triangle, at distance 1 from the origin. ``moons``:
    two half circles of radius 1 as in :func:`sklearn.datasets.make_moons`, ``(cos t, sin t)`` and ``(1 - cos t, 0.5 -
    sin t)`` with t uniform in [0, pi], and a Gaussian around each point.

    Attributes:
        kind: ``blobs`` or ``moons``.
        noise: standard deviation of the Gaussians, at least 0.02.
        shares: probability of each class.

    Raises:
        ConfigError: the noise is out of range.
    """

    kind: str
    noise: float
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        if not _SMALLEST_NOISE <= self.noise < math.inf:  # NaN fails as well
            raise ConfigError(
                f"noise: expected a standard deviation of at least {_SMALLEST_NOISE} (the classes of {self.kind} must "
                f"overlap), got {self.noise}"
            )

    def draw(self, n: int, labels_rng: Generator, features_rng: Generator) -> tuple[Array, NDArray[np.int64]]:
        """Features ``[N, 2]`` and labels ``[N]`` of n rows."""
        steps = np.cumsum(self.shares)
        y = np.searchsorted(steps / steps[-1], labels_rng.random(n), side="right").astype(np.int64)
        place, around = features_rng.random(n), features_rng.standard_normal((n, 2))
        return _centres(self.kind, place)[y, np.arange(n)] + self.noise * around, y

    def posterior(self, points: ArrayLike) -> Array:
        """P(class | features), ``[M, 2] -> [M, C]``; within 1e-9 of exact.

        Raises:
            ConfigError: points are no finite ``[M, 2]``.
        """
        x = np.asarray(points, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != 2 or not np.isfinite(x).all():
            raise ConfigError(f"points: expected finite numbers [M, 2], got {x.shape}")
        centres, weights = _mixture(self.kind, self.noise)
        size = max(1, _ENTRIES // centres[..., 0].size)
        parts = [self._posterior(x[start : start + size], centres, weights) for start in range(0, len(x), size)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.shares)))

    def bayes_error(self, transition: Array | None = None) -> float:
        """The error rate of the best prediction, with label noise if ``transition [C, C]`` says so; within 1e-5."""
        rows = None if transition is None else tuple(map(tuple, transition.tolist()))
        return _bayes_error(self, rows)

    def _posterior(self, x: Array, centres: Array, weights: Array) -> Array:
        square = ((x[:, None, None] - centres) ** 2).sum(3)  # [M, C, K]
        exponent = -square / (2.0 * self.noise**2)
        top = exponent.max(2, keepdims=True)
        logs = np.log((np.exp(exponent - top) * weights).sum(2)) + top[..., 0] + np.log(self.shares)
        odds = np.exp(logs - logs.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)


@functools.lru_cache(maxsize=64)
def _bayes_error(population: Population, transition: tuple[tuple[float, ...], ...] | None) -> float:
    """One minus the integral over the plane of the largest joint density, by the trapezoidal rule."""
    centres, weights = _mixture(population.kind, population.noise)
    flat, noise = centres.reshape(-1, 2), population.noise
    low, high = flat.min(0) - _REACH * noise, flat.max(0) + _REACH * noise
    axes = [np.arange(low[d], high[d], noise / _GRID) for d in range(2)]
    # A Gaussian is a product over coordinates: the density on a grid is a product of matrices.
    bells = [np.exp(-((axes[d] - centres[..., d, None]) ** 2) / (2.0 * noise**2)) for d in range(2)]  # [C, K, points]
    joint = np.stack([share * (a.T * weights) @ b for share, a, b in zip(population.shares, *bells, strict=True)], -1)
    if transition is not None:
        joint = joint @ np.array(transition)
    return max(0.0, float(1.0 - joint.max(-1).sum() / (2.0 * math.pi * _GRID**2)))


@functools.lru_cache(maxsize=16)
def _mixture(kind: str, noise: float) -> tuple[Array, Array]:
    """Centres ``[C, K, 2]`` and their weights ``[K]``, summing to 1."""
    if kind == "blobs":
        return _centres(kind, np.zeros(1)), np.ones(1)
    # Integrands are as wide as the noise; these many nodes leave less than 1e-9 (tests hold them to that).
    nodes, weights = np.polynomial.legendre.leggauss(40 + math.ceil(16.0 / noise))
    return _centres(kind, 0.5 * (nodes + 1.0)), 0.5 * weights


def _centres(kind: str, place: Array) -> Array:
    """Where the middle of a class is at ``place [K]`` in [0, 1] along it, ``[C, K, 2]``."""
    if kind == "blobs":
        angle = math.pi * (0.5 + np.arange(3) * 2.0 / 3.0)
        corners = np.stack([np.cos(angle), np.sin(angle)], 1)  # [C, 2]
        return np.repeat(corners[:, None], len(place), 1)
    cos, sin = np.cos(math.pi * place), np.sin(math.pi * place)
    return np.stack([np.stack([cos, sin], 1), np.stack([1.0 - cos, 0.5 - sin], 1)])
