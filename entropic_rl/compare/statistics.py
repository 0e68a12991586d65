"""Statistics of compared training runs: point estimates over seeds and tasks, and how far to trust them.

Scores are ``[N, M]``: N runs (seeds) of one setting on M tasks; ``[N]`` is one task. K counts thresholds, event times
or p-values, B resamples. What data cannot tell is NaN (an interval from one run); what a caller did wrong is a
ValueError. So are NaN scores: whoever knows why a run has none leaves it out or counts it as a failure. Percentile
intervals, which everything with ``n_resamples`` returns, are too narrow for few runs: 95 % intervals of the mean of 5
hold the truth in about 84 % of cases. Source, where none is named: Agarwal et al. (2021), section 4,
https://arxiv.org/abs/2108.13264.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Estimate", "Survival", "area_under_curve", "bootstrap", "explained_variance_share", "holm", "iqm", "kaplan_meier",
    "mean", "median", "paired_difference", "performance_profile", "performance_profile_interval",
    "probability_of_improvement", "probability_of_improvement_interval", "restricted_mean", "robust_range",
    "seed_median", "sign_flip_test",
]  # fmt: skip

Array: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Callable[[Array], Array]

_TIE = 1e-9  # relative: numbers closer than this differ by rounding alone


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its interval, 95 % unless said; ``low`` and ``high`` are NaN where there is none."""

    value: float
    low: float
    high: float


def iqm(scores: ArrayLike) -> Array:
    """Interquartile mean, ``[..., N, M] -> [...]``: the mean of all N * M but ``floor(N M / 4)`` at each end.

    Nearly as robust as the median and less noisy; ``scipy.stats.trim_mean(scores, 0.25, axis=None)``, which is
    rliable's ``aggregate_iqm``.
    """
    scores = _runs_by_tasks(scores)
    flat = scores.reshape(*scores.shape[:-2], -1)
    n = flat.shape[-1]
    cut = n // 4
    return np.partition(flat, (cut, n - cut - 1), axis=-1)[..., cut : n - cut].mean(-1)


def mean(scores: ArrayLike) -> Array:
    """Mean over tasks of the means over runs, ``[..., N, M] -> [...]``; rliable's ``aggregate_mean``."""
    return _runs_by_tasks(scores).mean(-2).mean(-1)


def median(scores: ArrayLike) -> Array:
    """Median over tasks of the means over runs, ``[..., N, M] -> [...]``; rliable's ``aggregate_median``.

    With one task that is the mean over runs; the middle run is :func:`seed_median`.
    """
    return np.median(_runs_by_tasks(scores).mean(-2), axis=-1)


def seed_median(scores: ArrayLike) -> Array:
    """Median of all N * M scores, ``[..., N, M] -> [...]``; rliable has none."""
    return np.median(_runs_by_tasks(scores), axis=(-2, -1))


def bootstrap(
    scores: ArrayLike, statistic: Statistic, generator: Generator, *, confidence: float = 0.95, n_resamples: int = 2000
) -> Estimate:
    """A statistic of the runs and its interval by stratified bootstrap: each task's runs are resampled on their own.

    Args:
        scores: ``[N]`` or ``[N, M]``; one run has no interval.
        statistic: ``[..., N, M] -> [...]``, such as :func:`iqm`.
        generator: draws the resamples.
        confidence: in (0, 1).
        n_resamples: B, at least 1.
    """
    _check_resampling(confidence, n_resamples)
    scores = _table("scores", scores)
    picks = generator.integers(len(scores), size=(n_resamples, *scores.shape))
    draws = statistic(np.take_along_axis(scores[None], picks, axis=1))
    if np.shape(draws) != (n_resamples,):  # np.mean, say, would have made one number of all resamples
        raise ValueError(f"statistic must map [B, N, M] to [B], got {np.shape(draws)} from {picks.shape}")
    return Estimate(float(statistic(scores)), *_interval(draws, confidence, len(scores)).tolist())


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> Array:
    """Share of runs above each threshold, mean over tasks; ``[N]`` or ``[N, M]``, and ``[K]``, to ``[K]``.

    ``F(tau) = 1/M sum_m 1/N sum_n 1[x_nm > tau]``: the score distribution of rliable's ``create_performance_profile``.
    """
    return _above(scores, thresholds).mean((0, 1))


def performance_profile_interval(
    scores: ArrayLike, thresholds: ArrayLike, generator: Generator, *, confidence: float = 0.95, n_resamples: int = 2000
) -> tuple[Array, Array]:
    """Bounds ``[K]`` below and above :func:`performance_profile` at each threshold; the rest as in bootstrap."""
    _check_resampling(confidence, n_resamples)
    above = _above(scores, thresholds)
    n, m, _ = above.shape
    draws = (_counts(n, m, n_resamples, generator) @ above.swapaxes(0, 1)).mean(0) / n  # [M, B, N] @ [M, N, K]
    low, high = _interval(draws, confidence, n)
    return low, high


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """How probably a run of x beats a run of y on the same task, mean over tasks; rliable's.

    ``1/M sum_m 1/(N N2) sum_ij S(x_im, y_jm)``, where S is 1 above, 1/2 at a tie: the Mann-Whitney U over N N2. x is
    ``[N, M]`` or ``[N]``, y ``[N2, M]`` or ``[N2]``.
    """
    return float(_wins(x, y).mean())


def probability_of_improvement_interval(
    x: ArrayLike, y: ArrayLike, generator: Generator, *, confidence: float = 0.95, n_resamples: int = 2000
) -> Estimate:
    """The same with its interval, x and y resampled independently; other arguments as in :func:`bootstrap`."""
    _check_resampling(confidence, n_resamples)
    wins = _wins(x, y)
    m, n, n2 = wins.shape
    # Bilinear in how often each run was picked, so that there is no array of B times N N2.
    wins_of_x = _counts(n, m, n_resamples, generator) @ wins  # [M, B, N2]
    draws = (wins_of_x * _counts(n2, m, n_resamples, generator)).sum(-1).mean(0) / (n * n2)
    return Estimate(float(wins.mean()), *_interval(draws, confidence, min(n, n2)).tolist())


def paired_difference(
    x: ArrayLike, y: ArrayLike, generator: Generator, *, confidence: float = 0.95, n_resamples: int = 2000
) -> Estimate:
    """Mean of ``x - y``, ``[N]`` each and paired by seed, with its interval over pairs; the rest as in bootstrap."""
    x, y = _numbers("x", x), _numbers("y", y)
    if x.shape != y.shape:
        raise ValueError(f"pairs need as many x as y, got {len(x)} and {len(y)}; keep the seeds that both have")
    return bootstrap(x - y, mean, generator, confidence=confidence, n_resamples=n_resamples)


def sign_flip_test(differences: ArrayLike, generator: Generator, *, max_exact: int = 14, n_draws: int = 20000) -> float:
    """Two-sided p-value of "the differences ``[N]`` are symmetric about 0": ``P(|sum s_n d_n| >= |sum d_n|)``.

    Over all signs s for N up to ``max_exact`` (memory ``2^N``), else over B = ``n_draws``, as ``(1 + hits) / (1 + B)``.
    Sums that differ by rounding are equal. Never below ``2^(1-N)``: it takes 6 pairs to fall under 0.05.
    Source: Fisher (1935), The Design of Experiments, section 21; Phipson and Smyth (2010) for the 1 +.
    """
    differences = _numbers("differences", differences)
    n, bar = len(differences), abs(differences.sum()) - _TIE * np.abs(differences).sum()
    if n <= max_exact:
        sums = differences[:1]  # never flipped: flipping all signs changes no absolute sum
        for difference in differences[1:]:
            sums = np.concatenate([sums + difference, sums - difference])
        return float((np.abs(sums) >= bar).mean())
    sums = (2.0 * generator.integers(2, size=(n_draws, n)) - 1.0) @ differences
    return float((1 + (np.abs(sums) >= bar).sum()) / (1 + n_draws))


def holm(p_values: ArrayLike) -> Array:
    """Adjusted p-values, ``[K] -> [K]``: those at most alpha are significant, one falsely so with probability <= alpha.

    ``max_{j <= i} min(1, (K - j + 1) p_(j))``, p sorted; valid under any dependence. NaN stays NaN and does not count.
    Source: Holm (1979), https://www.jstor.org/stable/4615733.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    tested = ~np.isnan(p_values)
    p = p_values[tested]
    if p_values.ndim != 1 or not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError(f"p_values must be [K] numbers in [0, 1] or NaN, got {p_values}")
    order = np.argsort(p)
    p[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    adjusted = np.full_like(p_values, np.nan)
    adjusted[tested] = p
    return adjusted


def area_under_curve(
    steps: ArrayLike, values: ArrayLike, *, start: float | None = None, stop: float | None = None
) -> float:
    """Mean over time of a learning curve, in units of ``values``: trapezoids from start to stop, over that width.

    ``steps`` ``[T]`` increase; start and stop are the first and last of them if not given. Beyond these the first and
    last of the ``values`` ``[T]`` are held. Equal start and stop give the value there.
    """
    steps, values = _numbers("steps", steps), _numbers("values", values)
    if steps.shape != values.shape or not (np.diff(steps) > 0).all():
        raise ValueError(f"expected one increasing step for each of {len(values)} values, got steps {steps}")
    start = float(steps[0]) if start is None else start
    stop = float(steps[-1]) if stop is None else stop
    if not -np.inf < start <= stop < np.inf:
        raise ValueError(f"expected a finite start, not after stop, got {start} and {stop}")
    knots = np.concatenate([[start], steps[(steps > start) & (steps < stop)], [stop]])
    heights = np.interp(knots, steps, values)  # holds the ends
    return float(np.trapezoid(heights, knots) / (stop - start) if stop > start else heights[0])


@dataclass(frozen=True, slots=True, eq=False)
class Survival:
    """Share of runs still without the event, by :func:`kaplan_meier`: 1, and a step down at each time of an event."""

    times: Array  # [K], distinct, increasing
    survival: Array  # [K], from each of these times to the next
    low: Array  # [K], pointwise band; NaN where survival is 0
    high: Array
    at_risk: NDArray[np.int64]  # [K], runs with neither event nor censoring before this time
    end: float  # last time of any run; survival is unknown after it, unless it is 0

    def at(self, time: ArrayLike) -> Array:
        """S(t), in the shape of ``time``; NaN where it is unknown."""
        steps = np.concatenate([[1.0], self.survival])
        known = (np.asarray(time) <= self.end) | (steps[-1] == 0.0)
        return np.where(known, steps[np.searchsorted(self.times, time, side="right")], np.nan)[()]

    def median(self) -> Estimate:
        """First times at which S and its band are at most 1/2, inf if never; NaN bounds where there is no band.

        Source: Brookmeyer and Crowley (1982).
        """
        # Where S is 0 so is its lower bound; the upper one remains unknown.
        curves = self.survival, np.where(self.survival == 0.0, 0.0, self.low), self.high
        value, low, high = (float(np.append(self.times[curve <= 0.5 + _TIE], np.inf)[0]) for curve in curves)
        return Estimate(value, low, high) if np.isfinite(self.low).any() else Estimate(value, np.nan, np.nan)


def kaplan_meier(times: ArrayLike, observed: ArrayLike, *, confidence: float = 0.95) -> Survival:
    """Share of runs still without an event (a first success, a threshold reached) over time, where some never see it.

    ``S(t) = prod_{t_k <= t} (1 - d_k / n_k)``, d events among n at risk; band ``S^exp(-+z se / log S)``, inside (0, 1),
    with Greenwood's ``se^2 = sum d_k / (n_k (n_k - d_k))``. ``times`` ``[N]`` are of the event where ``observed``, else
    of the run's end (censoring), which counts as after events of that time.
    Source: Kaplan and Meier (1958); Kalbfleisch and Prentice (1980).
    """
    _check_resampling(confidence)
    times, observed = _numbers("times", times), np.asarray(observed)
    if observed.dtype != np.bool_ or observed.shape != times.shape or (times < 0).any():
        raise ValueError(f"expected times >= 0 and a boolean for each, got times {times}, observed {observed}")
    distinct, events = np.unique(times[observed], return_counts=True)
    at_risk = len(times) - np.searchsorted(np.sort(times), distinct)
    left = at_risk - events
    survival = np.cumprod(left / at_risk, dtype=np.float64)
    # Only the last event can leave nobody; there the band's 0/0 is NaN.
    variance = np.cumsum(np.divide(events, at_risk * left, where=left > 0, out=np.full(len(left), np.nan)))
    log_survival = np.log(survival, where=left > 0, out=np.full(len(left), np.nan))
    spread = NormalDist().inv_cdf((1.0 + confidence) / 2.0) * np.sqrt(variance) / -log_survival
    low, high = survival ** np.exp(spread), survival ** np.exp(-spread)
    return Survival(distinct, survival, low, high, at_risk, float(times.max()))


def restricted_mean(survival: Survival, horizon: float) -> float:
    """``E[min(time, horizon)]``, the area under S(t) up to the horizon; NaN if S is unknown there.

    Source: Royston and Parmar (2013), https://doi.org/10.1186/1471-2288-13-152.
    """
    if not 0.0 < horizon < np.inf:
        raise ValueError(f"horizon must be a finite time above 0, got {horizon}")
    knots = np.concatenate([[0.0], survival.times[survival.times < horizon], [horizon]])
    heights = survival.at(knots)
    return float(np.diff(knots) @ heights[:-1]) if np.isfinite(heights[-1]) else np.nan


def explained_variance_share(groups: Sequence[ArrayLike]) -> float:
    """Share of the variance of scores that lies between groups ``[N_g]``: omega squared of one-way ANOVA, in [0, 1].

    ``(SSB - df_b MSW) / (SST + MSW)``, nearly unbiased, where eta squared grows with the number of groups. 0 if nothing
    varies; NaN for fewer than 2 groups, or if none has 2 runs. Source: Hays (1963), Statistics.
    """
    arrays = [_numbers("each group", group) for group in groups]
    k, n = len(arrays), sum(map(len, arrays))
    if k < 2 or n == k:
        return np.nan
    arrays = [array - arrays[0][0] for array in arrays]  # scores that are all equal become exact zeros
    grand = np.concatenate(arrays).mean()
    within = sum(float(((array - array.mean()) ** 2).sum()) for array in arrays)
    between = sum(len(array) * float((array.mean() - grand) ** 2) for array in arrays)
    noise = within / (n - k)
    total = between + within + noise
    return min(max((between - (k - 1) * noise) / total, 0.0), 1.0) if total > 0 else 0.0


def robust_range(estimates: Sequence[Estimate]) -> list[int]:
    """Indices of the estimates whose interval meets that of the best (highest, then first): what may be as good.

    The best is always in, a NaN value never; without an interval an estimate is a point. No test: intervals can meet
    where :func:`paired_difference` tells the two apart.
    """
    values = np.array([estimate.value for estimate in estimates])
    if np.isnan(values).all():
        return []
    ends = np.array([[estimate.low, estimate.high] for estimate in estimates])
    low, high = np.where(np.isnan(ends), values[:, None], ends).T
    best = np.nanargmax(values)
    return [int(i) for i in np.flatnonzero((low <= high[best]) & (high >= low[best]) & ~np.isnan(values))]


def _above(scores: ArrayLike, thresholds: ArrayLike) -> Array:
    """1 where a score is above a threshold, ``[N, M, K]``."""
    return (_table("scores", scores)[..., None] > _numbers("thresholds", thresholds)).astype(np.float64)


def _wins(x: ArrayLike, y: ArrayLike) -> Array:
    """1, 1/2 or 0 where a run of x is above, equal to or below one of y, ``[M, N, N2]``."""
    x, y = _table("x", x), _table("y", y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x and y must have the same tasks, got {x.shape[1]} and {y.shape[1]} columns")
    return 0.5 + 0.5 * np.sign(x.T[:, :, None] - y.T[:, None, :])


def _counts(n: int, m: int, n_resamples: int, generator: Generator) -> Array:
    """How often each of n runs is in a resample, ``[M, B, N]``: enough for statistics that are linear in these."""
    return generator.multinomial(n, np.full(n, 1.0 / n), size=(m, n_resamples)).astype(np.float64)


def _interval(draws: Array, confidence: float, n_runs: int) -> Array:
    """Percentile bounds over the resamples, ``[B, ...] -> [2, ...]``; NaN for one run."""
    bounds = np.quantile(draws, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0], axis=0)
    return bounds if n_runs > 1 else np.full_like(bounds, np.nan)


def _check_resampling(confidence: float, n_resamples: int = 1) -> None:
    if not (0.0 < confidence < 1.0 and n_resamples >= 1):
        raise ValueError(f"expected 0 < confidence < 1 and n_resamples >= 1, got {confidence} and {n_resamples}")


def _runs_by_tasks(scores: ArrayLike) -> Array:
    return _numbers("scores", scores, range(2, 65), "[..., N, M]")


def _table(name: str, scores: ArrayLike) -> Array:
    """``[N]`` or ``[N, M]`` as ``[N, M]``."""
    scores = _numbers(name, scores, (1, 2), "[N] or [N, M]")
    return scores.reshape(len(scores), -1)


def _numbers(name: str, values: ArrayLike, n_axes: Sequence[int] = (1,), shape: str = "one-dimensional") -> Array:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim not in n_axes or values.size == 0:
        raise ValueError(f"{name} must be {shape} and not empty, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, got {values[~np.isfinite(values)][0]} among {values.size} numbers")
    return values
