"""Figures of active learning: what is gained by asking, over labels; ids as in the figures of classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from entropic_rl.errors import ConfigError
from entropic_rl.plots.style import draw_level, figure, name_ends, series_look, tag

__all__ = ["plot_area_differences", "plot_learning_curves"]

_File: TypeAlias = Path | IO[str]

_WIDTH, _HEIGHT = 9.0, 3.2
_LIGHT = 0.15
_RESAMPLES, _SEED = 1000, 20_000


def plot_learning_curves(
    file: _File,
    n_labels: Sequence[int],
    measures: Mapping[str, Mapping[str, ArrayLike]],
    *,
    levels: Mapping[str, tuple[float, str]] | None = None,
) -> None:
    """Measures over the number of labels, below each other: a line per strategy, its band over seeds.

    Lines are means over seeds, bands their 95 % bootstrap interval.

    Args:
        file: where to.
        n_labels: ``[K]``, increasing.
        measures: label with its unit -> strategy -> ``[S, K]``.
        levels: label -> a height and what it is, drawn across.

    Raises:
        ConfigError: shapes differ, or there is nothing to draw.
    """
    places = np.asarray(n_labels, dtype=float)
    if not len(places) or not measures or not all(measures.values()):
        raise ConfigError("expected at least one number of labels, measure and strategy, got none")
    names = list(dict.fromkeys(name for lines in measures.values() for name in lines))
    n = len(measures)
    height = _HEIGHT * (1.3 if n == 1 else n)
    with figure(file, "", n_axes=n, n_rows=n, width=_WIDTH, height=height, steps=False) as all_axes:
        for axes, (label, lines) in zip(all_axes, measures.items(), strict=True):
            ends = {}
            for name, values in lines.items():
                table = np.asarray(values, dtype=float)
                if table.ndim != 2 or table.shape[1] != len(places):
                    raise ConfigError(f"{label}, {name}: expected [seeds, {len(places)}] numbers, got {table.shape}")
                _draw_curve(axes, names.index(name), len(names), places, table)
                ends[names.index(name)] = (name, float(table[:, -1].mean()))
            axes.margins(x=0.01, y=0.06)
            if levels and label in levels:
                draw_level(axes, *levels[label])
            name_ends(axes, ends, len(names), gap=0.19 / _HEIGHT * (1 if n > 1 else 0.8))
            axes.set_ylabel(label)
            axes.tick_params(labelbottom=axes is all_axes[-1])
        all_axes[-1].set_xlabel("labels")
        all_axes[0].figure.align_ylabels(all_axes)


def plot_area_differences(
    file: _File,
    differences: Mapping[str, tuple[float, float, float]],
    *,
    baseline: str,
    index: Mapping[str, int],
    n_series: int,
) -> None:
    """Areas under the curve less the baseline's, with intervals, the largest on top.

    Args:
        file: where to.
        differences: strategy -> (mean, low, high) of the paired differences; NaN bounds where there is no interval.
        baseline: whose area is subtracted.
        index: strategy -> its number among the series of the report.
        n_series: how many those are.
    """
    order = sorted(differences, key=lambda name: differences[name][0])
    with figure(file, "", width=_WIDTH, height=0.6 + 0.34 * max(len(order), 2), steps=False) as (axes,):
        axes.axvline(0.0, color="#777777", lw=1, ls=":")
        for height, name in enumerate(order):
            value, low, high = (100.0 * x for x in differences[name])
            look: dict[str, Any] = {"color": series_look(index[name], n_series)["color"]}
            line = axes.plot([low, high], [height, height], lw=2.2, solid_capstyle="butt", **look)
            tag(axes, index[name], *line, *axes.plot([value], [height], "o", ms=6, **look))
        axes.set_yticks(range(len(order)), order)
        axes.set_ylim(-0.6, len(order) - 0.4)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"mean accuracy along the curve less that of {baseline} (points)")


def _draw_curve(axes: Any, i: int, n: int, places: NDArray[Any], table: NDArray[Any]) -> None:
    look = series_look(i, n)
    drawn = axes.plot(places, table.mean(0), lw=1.8, **look)
    if len(table) > 1:
        picks = np.random.default_rng(_SEED).integers(len(table), size=(_RESAMPLES, len(table)))
        low, high = np.quantile(table[picks].mean(1), (0.025, 0.975), axis=0)
        drawn.append(axes.fill_between(places, low, high, color=look["color"], alpha=_LIGHT, lw=0))
    tag(axes, i, *drawn)
