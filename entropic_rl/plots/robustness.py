"""Accuracy over how far rows are moved, and by which attack.

Everything drawn for series i has an SVG id that begins with ``si-``, to be switched by, as in comparisons. Bands and
whiskers are 95 % bootstrap intervals of means over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from entropic_rl.errors import ConfigError
from entropic_rl.plots.style import figure, series_look, tag

__all__ = ["plot_accuracy_curves", "plot_attacks"]

_File: TypeAlias = Path | IO[str]
_Array: TypeAlias = NDArray[np.float64]

_LIGHT = 0.18
_GREY = "#777777"
_RESAMPLES, _SEED = 1000, 20_000


def plot_accuracy_curves(
    file: _File,
    x: Sequence[float],
    panels: Mapping[str, Mapping[str, ArrayLike]],
    *,
    xlabel: str,
    columns: int = 3,
    beside: str | None = None,
) -> None:
    """A panel per entry, a line per series in it.

    Args:
        file: where to.
        x: ``[K]``, increasing.
        panels: title -> name of a series -> accuracies ``[K, S]`` in [0, 1], seeds in the same order.
        xlabel: below.
        columns: panels beside each other.
        beside: a series; a second row of panels shows how many points the others are above it, paired by seed.

    Raises:
        ConfigError: there is nothing to draw, accuracies are not ``[K, S]``, or a panel lacks the series.
    """
    if not panels or not all(panels.values()):
        raise ConfigError("panels: expected at least one, each with a series, got none")
    found = {
        title: {name: _checked(name, v, (len(x),)) for name, v in lines.items()} for title, lines in panels.items()
    }
    if beside is not None and not all(beside in lines for lines in found.values()):
        raise ConfigError(f"beside: expected a series of every panel, got {beside!r}")
    names = list(dict.fromkeys(name for lines in found.values() for name in lines))
    least = min(values.mean(1).min() for lines in found.values() for values in lines.values())
    bottom = 10 * math.floor(10.0 * least) - 2
    columns = len(panels) if beside is not None else min(columns, len(panels))
    rows = math.ceil(len(panels) / columns) * (1 if beside is None else 2)
    panel = 3.0 if columns > 2 else 4.1
    width, height = panel * columns + 0.4, (0.9 if beside is None else 0.72) * panel * rows + 0.5
    n_axes = len(panels) * (1 if beside is None else 2)
    with figure(file, "", n_axes=n_axes, n_rows=rows, width=width, height=height, steps=False) as all_axes:
        for place, (axes, (title, lines)) in enumerate(zip(all_axes, found.items(), strict=False)):
            for name, values in lines.items():
                _draw_line(axes, x, 100.0 * values, names.index(name), len(names))
            axes.set_title(title, fontsize=10.5)
            axes.set_ylim(bottom, 102)
            if place % columns == 0:
                axes.set_ylabel("accuracy (%)")
        if beside is not None:
            _draw_differences(all_axes[len(panels) :], x, list(found.values()), names, beside)
        for place, axes in enumerate(all_axes):
            axes.set_xticks(list(x), [f"{value:g}" for value in x])
            axes.set_xlabel(xlabel if place + columns >= n_axes else "")
        all_axes[0].figure.align_ylabels(all_axes)
        _legend(all_axes[0].figure, names, 2 * columns)


def plot_attacks(file: _File, accuracies: Mapping[str, Mapping[str, ArrayLike]]) -> None:
    """Accuracy that each attack leaves, attacks below each other, a line of dots per series.

    Args:
        file: where to.
        accuracies: name of a series -> attack -> ``[S]`` in [0, 1], the attacks in the same order.

    Raises:
        ConfigError: there is nothing to draw, accuracies are not ``[S]``, or series have different attacks.
    """
    attacks = list(next(iter(accuracies.values()), {}))
    if not attacks or any(list(own) != attacks for own in accuracies.values()):
        raise ConfigError("accuracies: expected at least one series, each with the same attacks")
    n = len(accuracies)
    with figure(file, "", width=8.6, height=0.42 * len(attacks) + 1.2, steps=False) as (axes,):
        for i, (name, own) in enumerate(accuracies.items()):
            values = 100.0 * np.stack([_checked(name, own[attack], ()) for attack in attacks])
            low, high = _interval(values)
            heights = np.arange(len(attacks)) + 0.09 * (i - (n - 1) / 2)
            look = series_look(i, n)
            line = axes.plot(values.mean(1), heights, marker="o", ms=5, lw=1.0, alpha=0.9, **look)
            whiskers = axes.hlines(heights, low, high, color=look["color"], lw=2.2, alpha=0.5)
            tag(axes, i, *line, whiskers)
        axes.set_yticks(range(len(attacks)), attacks)
        axes.invert_yaxis()
        axes.set_xlabel("accuracy (%)")
        _legend(axes.figure, list(accuracies), 6)


def _draw_differences(
    all_axes: Sequence[Any], x: Sequence[float], panels: Sequence[Mapping[str, _Array]], names: list[str], beside: str
) -> None:
    """Points above the series ``beside``, on one scale."""
    for place, (axes, lines) in enumerate(zip(all_axes, panels, strict=True)):
        axes.axhline(0.0, color=_GREY, lw=1.2, ls=":", zorder=1)
        for name, values in lines.items():
            if name != beside:
                _draw_line(axes, x, 100.0 * (values - lines[beside]), names.index(name), len(names))
        if place == 0:
            axes.set_ylabel(f"points above {beside}")
    limits = [axes.get_ylim() for axes in all_axes]
    for axes in all_axes:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def _draw_line(axes: Any, x: Sequence[float], values: _Array, i: int, n: int) -> None:
    look = series_look(i, n)
    drawn = list(axes.plot(x, values.mean(1), marker="o", ms=3.5, lw=1.8, **look))
    if values.shape[1] > 1:
        drawn.append(axes.fill_between(x, *_interval(values), color=look["color"], alpha=_LIGHT, lw=0))
    tag(axes, i, *drawn)


def _interval(values: _Array) -> tuple[_Array, _Array]:
    """Bounds of the means ``[K]`` of ``[K, S]``; the value itself for one seed."""
    n = values.shape[1]
    picks = np.random.default_rng(_SEED).integers(n, size=(_RESAMPLES, n))
    low, high = np.quantile(values[:, picks].mean(2), (0.025, 0.975), axis=1)
    return low, high


def _legend(fig: Any, names: Sequence[str], columns: int) -> None:
    handles = [Line2D([], [], lw=1.8, marker="o", ms=3.5, **series_look(i, len(names))) for i in range(len(names))]
    ncols = min(len(names), columns if len(names) > columns + 1 else columns + 1)
    fig.legend(handles, names, loc="outside lower center", ncols=ncols, fontsize=9, columnspacing=1.4)


def _checked(name: str, values: ArrayLike, shape: tuple[int, ...]) -> _Array:
    found = np.asarray(values, dtype=np.float64)
    if found.shape[:-1] != shape or not found.size or not np.isfinite(found).all():
        expected = ", ".join([*map(str, shape), "S"])
        raise ConfigError(f"{name}: expected finite accuracies [{expected}], got an array {found.shape}")
    return found
