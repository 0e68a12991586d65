"""Gradient descent on one weight: where it steps on the loss, and how the distance to the optimum changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from entropic_rl.plots.style import draw_level, figure, series_look, tag

__all__ = ["plot_one_weight"]

_SPAN = 3.0  # of the largest first distance, that is shown on either side
_FLOOR, _CEILING = 1e-12, 1e12  # of distances that are shown


def plot_one_weight(
    file: Path | IO[str],
    *,
    names: Sequence[str],
    paths: NDArray[np.float64],
    distances: NDArray[np.float64],
    factors: NDArray[np.float64],
    optimum: float,
    loss: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> None:
    """Three panels: the loss with steps on it, weights over steps, distances over steps with what they should be.

    Args:
        file: where to; SVG, or PNG if it ends so.
        names: of the K rates.
        paths: weights ``[K, S, T + 1]``.
        distances: to the optimum ``[K, S, T + 1]``, >= 0.
        factors: ``[K]``, what a step multiplies the distance by, >= 0.
        optimum: of the first seed.
        loss: of the first seed, ``[N] -> [N]``.
    """
    reach = _SPAN * float(distances[..., 0].max())
    low, high = optimum - reach, optimum + reach
    with figure(file, "", n_axes=3, width=10.8, height=4.2, steps=False) as (bowl, ways, away):
        grid = np.linspace(low, high, 200)
        bowl.plot(grid, loss(grid), color="#777777", lw=1.4)
        top = float(loss(grid).max())
        for k, name in enumerate(names):
            look = series_look(k, len(names))
            shown = [_until_outside(path, low, high) for path in paths[k]]
            _steps(bowl, k, shown[0][(shown[0] >= low) & (shown[0] <= high)], loss, look)
            _lines(ways, k, name, shown, look)
            _distances(away, k, distances[k], float(factors[k]), look)
        bowl.set(xlim=(low, high), ylim=(-0.03 * top, 1.03 * top), xlabel="weight", ylabel="loss")
        ways.set(ylim=(low, high), xlabel="step", ylabel="weight")
        draw_level(ways, optimum, "optimum")
        away.set(yscale="log", xlabel="step", ylabel="distance to the optimum")
        away.set_ylim(bottom=max(0.3 * float(distances[distances > 0.0].min()), _FLOOR))
        ways.figure.legend(loc="outside lower center", ncols=len(names), title="learning rate", fontsize=9,
                           title_fontsize=9.5)  # fmt: skip


def _steps(axes: Any, k: int, path: NDArray[np.float64], loss: Any, look: Any) -> None:
    """The steps on the loss, as far as they are inside."""
    (line,) = axes.plot(path, loss(path), marker="o", ms=4.0, lw=1.0, color=look["color"], alpha=0.85)
    tag(axes, k, line)


def _until_outside(path: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """The weights up to the first that lies outside."""
    inside = (path >= low) & (path <= high)
    return path if inside.all() else path[: int(inside.argmin()) + 1]


def _lines(axes: Any, k: int, name: str, paths: Sequence[NDArray[np.float64]], look: Any) -> None:
    for s, path in enumerate(paths):
        (line,) = axes.plot(path, lw=1.1, alpha=0.7, label=name if s == 0 else None, color=look["color"])
        tag(axes, k, line)


def _distances(axes: Any, k: int, distances: NDArray[np.float64], factor: float, look: Any) -> None:
    for own in distances:
        with np.errstate(invalid="ignore"):
            shown = np.where(own < _CEILING, np.maximum(own, _FLOOR), np.nan)
        (line,) = axes.plot(shown, lw=1.1, alpha=0.7, color=look["color"])
        tag(axes, k, line)
    steps = np.arange(distances.shape[1])
    logs = np.log(np.maximum(distances[:, 0], _FLOOR)).mean() + steps * np.log(max(factor, _FLOOR))
    seen = (logs >= np.log(_FLOOR)) & (logs <= np.log(_CEILING))
    (dots,) = axes.plot(steps[seen], np.exp(logs[seen]), ".", color="black", ms=3.0, zorder=5)
    tag(axes, k, dots)
