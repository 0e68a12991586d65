"""The look of every figure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

__all__ = [
    "BESIDE",
    "COLOURS",
    "STYLES",
    "Estimate",
    "draw_ceiling",
    "draw_level",
    "figure",
    "literally",
    "log_positions",
    "look",
    "name_ends",
    "save",
    "series_look",
    "step_axis",
    "tag",
    "thousands",
]

# Okabe & Ito's palette, told apart by colour-blind readers too; line styles repeat the distinction in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
BESIDE: dict[str, Any] = {
    "xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center", "fontsize": 9
}  # fmt: skip
"""How text stands beside the right end of a line."""

_LOOK = {
    "figure.dpi": 100,
    "font.family": "sans-serif",
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "entropic_rl",
    "text.usetex": False,  # whatever a matplotlibrc says: names are no programs for TeX
}


class Estimate(Protocol):
    """A number with its interval."""

    @property
    def value(self) -> float:
        """The number."""

    @property
    def low(self) -> float:
        """Where its interval begins."""

    @property
    def high(self) -> float:
        """Where it ends."""


def series_look(i: int, n: int) -> dict[str, Any]:
    """Colour and line style of the i-th of n ordered series: few are set apart by hue, many are shades in order."""
    if n <= len(COLOURS):
        return {"color": COLOURS[i], "ls": STYLES[i % len(STYLES)]}
    shade = mpl.colormaps["viridis"](0.88 * i / (n - 1))
    return {"color": mpl.colors.to_hex(shade), "ls": STYLES[i % len(STYLES)]}


def look() -> Any:
    """A context in which figures are drawn."""
    return mpl.rc_context(_LOOK)


@contextmanager
def figure(
    path: Path | IO[str],
    title: str,
    *,
    n_axes: int = 1,
    n_rows: int = 1,
    width: float = 7.2,
    height: float = 4.2,
    steps: bool = True,
    share_y: bool = False,
    height_ratios: Sequence[float] | None = None,
) -> Iterator[tuple[Any, ...]]:
    """Axes to draw on; written as SVG to ``path`` at the end, or as PNG if it ends so.

    ``steps``: the x axis counts env steps from 0. ``height_ratios``: of the rows.
    """
    with look():
        fig = Figure(figsize=(width, height), layout="constrained")
        axes = fig.subplots(n_rows, -(-n_axes // n_rows), squeeze=False, sharey=share_y, height_ratios=height_ratios)
        axes = axes.flatten()
        for ax in axes[n_axes:]:
            ax.set_axis_off()
        if title:
            fig.suptitle(title, fontsize=12, fontweight="bold")
        yield tuple(axes[:n_axes])
        for ax in axes[:n_axes] if steps else ():
            step_axis(ax)
        _take_literally(fig)
        save(fig, path)


def step_axis(axes: Any) -> None:
    """Make an x axis one of env steps, which are counted from 0."""
    axes.xaxis.set_major_formatter(thousands)
    axes.margins(x=0.01)
    axes.set_xlim(left=0)


def save(fig: Figure, path: Path | IO[str]) -> None:
    """Write a figure as SVG, the same bytes each time, or as PNG if the path ends so."""
    if isinstance(path, Path) and path.suffix.lower() == ".png":
        fig.savefig(path, format="png", dpi=200)
    else:
        # Not by savefig: with a layout engine that lays out and draws everything twice.
        FigureCanvasSVG(fig).print_svg(path, metadata={"Date": None})


def _take_literally(fig: Figure) -> None:
    """Show ``$`` in names as it is, where matplotlib would read what lies between two of them as mathematics."""
    for text in fig.findobj(Text):
        if "$" in text.get_text():
            text.set_text(literally(text.get_text()))
    for axis in (axis for axes in fig.axes for axis in (axes.xaxis, axes.yaxis)):
        formatter = axis.get_major_formatter()
        if isinstance(formatter, FuncFormatter):  # of names that were given; those of powers are mathematics
            axis.set_major_formatter(FuncFormatter(lambda x, i, own=formatter: literally(own(x, i))))


def literally(text: str) -> str:
    """The text so that matplotlib shows it as it is."""
    return text.replace("$", r"\$")


def tag(axes: Any, index: int, *artists: Any) -> None:
    """Give what was drawn an id of its own in the figure that says which series it belongs to."""
    place = f"s{index}-{axes.figure.axes.index(axes)}-{len(axes.get_children())}"
    for number, artist in enumerate(artists):
        artist.set_gid(f"{place}-{number}")


def name_ends(axes: Any, ends: Mapping[int, tuple[str, float]], n: int, *, gap: float) -> None:
    """Names of lines at their right ends, pushed apart where ends are closer than ``gap`` of the panel's height."""
    bottom, top = axes.get_ylim()
    gap *= top - bottom
    order = sorted(ends, key=lambda i: (ends[i][1], -i))
    heights = np.array([ends[i][1] for i in order])
    for _ in range(200):  # neighbours that are too close share the way
        short = np.maximum(gap - np.diff(heights), 0.0) / 2
        heights[:-1] -= short
        heights[1:] += short
    for i, height in zip(order, heights, strict=True):
        text = axes.annotate(ends[i][0], (1, height), (5, 0), color=series_look(i, n)["color"], **BESIDE)
        tag(axes, i, text)
    axes.set_ylim(bottom, top)


def log_positions(numbers: Sequence[float]) -> list[float] | None:
    """Places on a logarithmic axis with 0 apart; None where numbers are negative, NaN, or too few or close for one."""
    positive = sorted({x for x in numbers if x > 0})
    if not all(x >= 0 for x in numbers) or len(positive) < 2 or positive[-1] / positive[0] < 5:
        return None
    logs = [math.log10(x) for x in positive]
    gap = max((logs[-1] - logs[0]) / len(logs), 0.3)
    return [logs[0] - gap if x == 0 else math.log10(x) for x in numbers]


def draw_ceiling(axes: Any, max_entropy: float | None) -> None:
    """The entropy of the uniform policy as the top of the picture."""
    if max_entropy is None:
        return
    draw_level(axes, max_entropy, "uniform policy")
    axes.set_ylim(bottom=0, top=max_entropy * 1.1)


def draw_level(axes: Any, height: float, text: str) -> None:
    """A dotted line across, with its name."""
    axes.axhline(height, color="#777777", lw=1, ls=":")
    axes.annotate(text, (1, height), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="#555555",
                  fontsize=9)  # fmt: skip


def thousands(value: float, _: object = None) -> str:
    """``12k``, ``3M``."""
    return f"{value / 1e6:g}M" if abs(value) >= 1e6 else f"{value / 1e3:g}k" if abs(value) >= 1e3 else f"{value:g}"
