"""Figures of numbers with their intervals: over something that is varied, or side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from entropic_rl.errors import ConfigError
from entropic_rl.plots.style import COLOURS, Estimate, figure, series_look, tag

__all__ = ["plot_estimate_curves", "plot_estimates"]

_GREY = "#777777"
_LIGHT = 0.15


def plot_estimate_curves(
    file: Path | IO[str],
    x: Sequence[float],
    curves: Mapping[str, Sequence[Estimate]],
    *,
    xlabel: str,
    ylabel: str,
) -> None:
    """A line and its band of intervals per series over a logarithmic axis, named at its end by a legend.

    Args:
        file: where to; SVG, or PNG if it ends so.
        x: ``[K]``, > 0, increasing.
        curves: name -> ``[K]`` numbers with ``value``, ``low`` and ``high``.
        xlabel: with its unit.
        ylabel: the same.

    Raises:
        ConfigError: a curve has another number of points, or there is none.
    """
    if not curves or any(len(curve) != len(x) for curve in curves.values()):
        raise ConfigError(f"curves: expected {len(x)} numbers each, got {[len(curve) for curve in curves.values()]}")
    with figure(file, "", width=5.4, height=4.6, steps=False) as (axes,):
        for i, (name, curve) in enumerate(curves.items()):
            look = series_look(i, len(curves))
            (line,) = axes.plot(x, [e.value for e in curve], marker="o", ms=4.5, lw=1.6, label=name, **look)
            band = axes.fill_between(
                x, [e.low for e in curve], [e.high for e in curve], color=look["color"], alpha=_LIGHT, lw=0
            )
            tag(axes, i, line, band)
        axes.set(xscale="log", xlabel=xlabel, ylabel=ylabel)
        axes.set_xticks(list(x), [f"{number:g}" for number in x])
        axes.minorticks_off()
        axes.figure.legend(loc="outside lower center", ncols=2, fontsize=8.5, columnspacing=1.2, handlelength=2.6)


def plot_estimates(
    file: Path | IO[str], panels: Mapping[str, Mapping[str, Estimate]], *, xlabel: str, level: float = 0.0
) -> None:
    """Dots with their intervals below each other, a panel beside another; where the level lies decides their colour.

    Args:
        file: where to; SVG, or PNG if it ends so.
        panels: title -> name -> number with ``value``, ``low`` and ``high``; the same names in all.
        xlabel: with its unit.
        level: what numbers are to be above of: blue where the whole interval is, orange where it is below.

    Raises:
        ConfigError: there is nothing to draw, or panels have different names.
    """
    names = list(next(iter(panels.values()), {}))
    if not names or any(list(own) != names for own in panels.values()):
        raise ConfigError(f"panels: expected the same names in each, got {[list(own) for own in panels.values()]}")
    ends = [end for own in panels.values() for e in own.values() for end in (e.low, e.high)]
    left, right = min(level, *ends), max(level, *ends)
    margin = 0.05 * (right - left)
    height = 0.27 * len(names) + 1.0
    with figure(file, "", n_axes=len(panels), width=3.1 + 2.6 * len(panels), height=height, steps=False,
                share_y=True) as all_axes:  # fmt: skip
        for axes, (title, own) in zip(all_axes, panels.items(), strict=True):
            axes.axvline(level, color=_GREY, lw=1.0, ls=":")
            for i, name in enumerate(names):
                estimate = own[name]
                colour = COLOURS[0] if estimate.low > level else COLOURS[1] if estimate.high < level else _GREY
                span = axes.plot([estimate.low, estimate.high], [i, i], color=colour, lw=2.0, solid_capstyle="butt")
                dot = axes.plot(estimate.value, i, "o", color=colour, ms=5.5)
                tag(axes, i, *span, *dot)
            axes.set(xlim=(left - margin, right + margin))
            axes.set_title(title, fontsize=10.5)
            axes.grid(visible=False, axis="y")
        all_axes[0].figure.supxlabel(xlabel, fontsize=10.5)
        all_axes[0].set_yticks(range(len(names)), names, fontsize=9)
        all_axes[0].set_ylim(len(names) - 0.4, -0.6)
