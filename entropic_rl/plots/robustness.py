"""Accuracy over how far rows are moved, in panels side by side.

Everything drawn for group i has an SVG id that begins with ``si-``, to be switched by, as in comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from entropic_rl.errors import ConfigError
from entropic_rl.plots.style import figure, series_look, tag

__all__ = ["plot_accuracy_curves"]

_LIGHT = 0.18
_RESAMPLES, _SEED = 1000, 20_000


def plot_accuracy_curves(
    file: Path | IO[str],
    x: Sequence[float],
    panels: Mapping[str, Mapping[str, ArrayLike]],
    *,
    xlabel: str,
    columns: int = 3,
    groups: str = "lines",
) -> None:
    """A panel per entry, a line per series in it, with the 95 % bootstrap interval of its mean over seeds as a band.

    Args:
        file: where to.
        x: ``[K]``, increasing.
        panels: title -> name of a series -> accuracies ``[K, S]`` in [0, 1].
        xlabel: below each.
        columns: panels beside each other.
        groups: what is switched together on a page: ``lines`` of a name in all panels, or ``panels``.

    Raises:
        ConfigError: there is nothing to draw, or accuracies are not ``[K, S]``.
    """
    if not panels or not all(panels.values()):
        raise ConfigError("panels: expected at least one, each with a series, got none")
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    legend_rows = math.ceil(len(names) / (2 * columns))
    panel = 3.0 if columns > 2 else 4.1
    width, height = panel * columns + 0.4, 0.9 * panel * rows + 0.25 * legend_rows + 0.2
    with figure(file, "", n_axes=len(panels), n_rows=rows, width=width, height=height, steps=False) as all_axes:
        for place, (axes, (title, lines)) in enumerate(zip(all_axes, panels.items(), strict=True)):
            for name, values in lines.items():
                i = names.index(name)
                drawn = _draw(axes, x, _checked(name, values, len(x)), i, len(names))
                tag(axes, i if groups == "lines" else place, *drawn)
            axes.set(title=title, ylim=(-2, 102), xlabel=xlabel if place + columns >= len(panels) else "")
            axes.title.set_fontsize(10.5)
            axes.set_xticks(list(x), [f"{value:g}" for value in x])
            if place % columns == 0:
                axes.set_ylabel("accuracy (%)")
        handles = [Line2D([], [], lw=1.8, marker="o", ms=3.5, **series_look(i, len(names))) for i in range(len(names))]
        all_axes[0].figure.legend(
            handles,
            names,
            loc="outside lower center",
            ncols=min(len(names), 2 * columns),
            fontsize=9,
            columnspacing=1.4,
        )


def _draw(axes: object, x: Sequence[float], values: np.ndarray, i: int, n: int) -> list[object]:
    look, mean = series_look(i, n), 100.0 * values.mean(1)
    drawn = list(axes.plot(x, mean, marker="o", ms=3.5, lw=1.8, **look))  # type: ignore[attr-defined]
    n_seeds = values.shape[1]
    if n_seeds > 1:
        picks = np.random.default_rng(_SEED).integers(n_seeds, size=(_RESAMPLES, n_seeds))
        low, high = 100.0 * np.quantile(values[:, picks].mean(2), (0.025, 0.975), axis=1)
        band = axes.fill_between(x, low, high, color=look["color"], alpha=_LIGHT, lw=0)  # type: ignore[attr-defined]
        drawn.append(band)
    return drawn


def _checked(name: str, values: ArrayLike, n: int) -> np.ndarray:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 2 or found.shape[0] != n or not found.shape[1] or not np.isfinite(found).all():
        raise ConfigError(f"{name}: expected finite accuracies [{n}, S], got an array {found.shape}")
    return found
