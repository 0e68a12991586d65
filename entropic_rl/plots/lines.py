"""Lines with intervals over anything, in panels beside each other that share their series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import ArrayLike

from entropic_rl.errors import ConfigError
from entropic_rl.plots.style import draw_level, figure, series_look, tag

__all__ = ["Line", "Panel", "plot_lines"]


@dataclass(frozen=True, slots=True)
class Line:
    """One series in one panel.

    Attributes:
        x: ``[N]``.
        y: ``[N]``; NaN is left out, and on a logarithmic axis what is not above 0.
        low: ``[N]``, ends of the intervals.
        high: ``[N]``.
    """

    x: ArrayLike
    y: ArrayLike
    low: ArrayLike
    high: ArrayLike


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes.

    Attributes:
        xlabel: what is below, with its unit.
        ylabel: what is beside, with its unit.
        lines: by the name of the series.
        ticks: names of places below; every tick is of matplotlib's choice if there are none.
        log_x: whether places below are logarithmic.
        log_y: whether heights are.
        level: a height and its name.
    """

    xlabel: str
    ylabel: str
    lines: Mapping[str, Line]
    ticks: Mapping[float, str] = field(default_factory=dict)
    log_x: bool = False
    log_y: bool = False
    level: tuple[float, str] | None = None


def plot_lines(
    file: Path | IO[str], panels: Sequence[Panel], *, series: Sequence[str], n_columns: int = 7, height: float = 4.2
) -> None:
    """Draw every panel, a colour and a style per series.

    Args:
        file: where to; SVG, or PNG if it ends so.
        panels: at least one.
        series: names of all, in the order of their colours.
        n_columns: of the legend, at most.
        height: of the figure, inches.

    Raises:
        ConfigError: there is no panel, or one has a line of no series.
    """
    unknown = [name for panel in panels for name in panel.lines if name not in series]
    if not panels or unknown:
        raise ConfigError(f"panels: expected lines of {', '.join(series)}, got {', '.join(unknown) or 'no panel'}")
    width = 3.9 * len(panels) + 0.4
    with figure(file, "", n_axes=len(panels), width=width, height=height, steps=False) as all_axes:
        named: set[str] = set()
        for axes, panel in zip(all_axes, panels, strict=True):
            for name, line in panel.lines.items():
                place = list(series).index(name)
                _draw(axes, place, line, {} if name in named else {"label": name}, series_look(place, len(series)))
                named.add(name)
            _finish(axes, panel)
        columns = min(len(series), n_columns)
        all_axes[0].figure.legend(loc="outside lower center", ncols=columns, fontsize=9, handlelength=2.8,
                                  columnspacing=1.6)  # fmt: skip


def _draw(axes: Any, place: int, line: Line, label: Mapping[str, str], look: Mapping[str, Any]) -> None:
    x, y, low, high = (np.asarray(own, dtype=np.float64) for own in (line.x, line.y, line.low, line.high))
    dots = {"marker": "o", "ms": 4.5} if len(x) <= 24 else {}
    drawn = axes.plot(x, y, lw=1.8, **label, **dots, **look)
    band = axes.fill_between(x, low, high, color=look["color"], alpha=0.15, lw=0)
    tag(axes, place, *drawn, band)


def _finish(axes: Any, panel: Panel) -> None:
    if panel.log_y:
        axes.set_yscale("log", nonpositive="mask")
        _plain(axes.yaxis)
    if panel.log_x:
        axes.set_xscale("log")
    if panel.ticks:
        axes.set_xticks(list(panel.ticks), list(panel.ticks.values()))
        axes.xaxis.set_minor_locator(NullLocator())
    if panel.level is not None:
        draw_level(axes, *panel.level)
    axes.set(xlabel=panel.xlabel, ylabel=panel.ylabel)


def _plain(axis: Any) -> None:
    """As people write numbers, powers of ten where they are far from 1."""
    low, high = axis.get_view_interval()
    decades = np.log10(max(high, 1e-300) / max(low, 1e-300))
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.5 else (1.0,), numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_locator(NullLocator())
