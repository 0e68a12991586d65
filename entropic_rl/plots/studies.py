"""Figures of studies: what a setting of training does to the error, and on the way there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike

from entropic_rl.errors import ConfigError
from entropic_rl.plots.style import Estimate, draw_level, figure, series_look, tag

__all__ = ["Series", "plot_study"]

_GREY = "#555555"
_LETTERS = 30  # of all names below an axis, from which on they are slanted
_NEAR = 6.0  # times the largest mean, up to which a level is worth its room
_FAR = 8.0  # largest over smallest number, from which on an axis is logarithmic


@dataclass(frozen=True, slots=True)
class Series:
    """One value of a setting.

    Attributes:
        name: of the value.
        scores: ``[S]`` by panel: what each run reached; NaN or infinite for runs that diverged.
        estimates: their means with intervals, by panel; NaN where all diverged.
        curve: training loss by epoch, ``[E]``; empty where all diverged.
        diverged: runs that did.
    """

    name: str
    scores: Mapping[str, ArrayLike]
    estimates: Mapping[str, Estimate]
    curve: ArrayLike
    diverged: int = 0


def plot_study(
    file: Path | IO[str],
    series: Sequence[Series],
    *,
    setting: str,
    numbers: Sequence[float] | None = None,
    chosen: int | None = None,
    levels: Mapping[str, tuple[float, str]] = MappingProxyType({}),
) -> None:
    """What runs reached over the values of a setting, a panel per measure, and their training loss over epochs.

    Args:
        file: where to; SVG, or PNG if it ends so.
        series: the K values, with the same panels.
        setting: what is varied, with its unit.
        numbers: ``[K]``, their places on a logarithmic axis; None for what are no numbers above 0.
        chosen: place of the value that validation chose; None for none.
        levels: a height and its name, by panel.

    Raises:
        ConfigError: there is nothing to draw, or values have different panels.
    """
    panels = list(series[0].scores) if series else []
    if not panels or any(list(own.scores) != panels for own in series):
        raise ConfigError(f"series: expected the same panels in each, got {[list(own.scores) for own in series]}")
    with figure(file, "", n_axes=len(panels) + 1, width=3.6 * (len(panels) + 1), height=4.4, steps=False) as all_axes:
        for axes, panel in zip(all_axes, panels, strict=False):
            places = _places(axes, [own.name for own in series], numbers)
            for i, (place, own) in enumerate(zip(places, series, strict=True)):
                _reached(axes, place, own, panel, look=(i, len(series)))
            means = [own.estimates[panel].value for own in series]
            if numbers is not None:
                known = [i for i, value in enumerate(means) if not np.isnan(value)]
                axes.plot([places[i] for i in known], [means[i] for i in known], color="#bbbbbb", lw=1.2, zorder=1)
            if chosen is not None:
                axes.plot(places[chosen], means[chosen], "o", ms=14, mfc="none", mec=_GREY, mew=1.4, zorder=5)
            _logarithmic(axes, np.concatenate([np.asarray(own.scores[panel], dtype=np.float64) for own in series]))
            if panel in levels and levels[panel][0] < _NEAR * np.nanmax([0.0, *means]):
                draw_level(axes, *levels[panel])
            axes.set(xlabel=setting, ylabel=panel)
        _training(all_axes[-1], series)
        all_axes[-1].figure.legend(loc="outside lower center", ncols=min(len(series), 7), fontsize=9, handlelength=2.6,
                                   columnspacing=1.6)  # fmt: skip


def _places(axes: Any, names: Sequence[str], numbers: Sequence[float] | None) -> Sequence[float]:
    """Where values stand, with their names below."""
    if numbers is None:
        axes.set_xlim(-0.6, len(names) - 0.4)
        slanted = len(names) * max(map(len, names)) > _LETTERS
        axes.set_xticks(range(len(names)), names, rotation=30 if slanted else 0, ha="right" if slanted else "center")
        return range(len(names))
    margin = (max(numbers) / min(numbers)) ** (0.6 / len(numbers))
    axes.set(xscale="log", xlim=(min(numbers) / margin, max(numbers) * margin))
    axes.set_xticks(list(numbers), list(names), fontsize=9)
    axes.minorticks_off()
    return numbers


def _reached(axes: Any, place: float, own: Series, panel: str, *, look: tuple[int, int]) -> None:
    """A dot per run, the mean with its interval, and how many diverged."""
    i, colour = look[0], series_look(*look)["color"]
    scores, e = np.asarray(own.scores[panel], dtype=np.float64), own.estimates[panel]
    finite = scores[np.isfinite(scores)]
    dots = axes.plot(np.full(len(finite), place), finite, "o", color=colour, ms=4.0, alpha=0.3, mew=0, zorder=2)
    span = axes.plot([place, place], [e.low, e.high], color=colour, lw=2.4, solid_capstyle="butt", zorder=3)
    mark = axes.plot(place, e.value, "o", color=colour, ms=6.5, zorder=4)
    tag(axes, i, *dots, *span, *mark)
    if own.diverged:
        text = f"{own.diverged} of {len(scores)}" if own.diverged < len(scores) else "all"
        note = axes.annotate(f"{text} diverged", (place, 0.0), (0, 5), xycoords=("data", "axes fraction"),
                             ha="center", va="bottom", textcoords="offset points", fontsize=8.5,
                             color=_GREY, rotation=90)  # fmt: skip
        tag(axes, i, note)


def _training(axes: Any, series: Sequence[Series]) -> None:
    """Training loss over epochs."""
    for i, own in enumerate(series):
        curve = np.asarray(own.curve, dtype=np.float64)
        (line,) = axes.plot(np.arange(1, len(curve) + 1), curve, lw=1.7, label=own.name, **series_look(i, len(series)))
        tag(axes, i, line)
    _logarithmic(axes, np.concatenate([np.asarray(own.curve, dtype=np.float64) for own in series]))
    lengths = [len(np.asarray(own.curve)) for own in series if len(np.asarray(own.curve))]
    if lengths and max(lengths) > _FAR * min(lengths):
        axes.set_xscale("log")
        _plain(axes.xaxis)
    axes.set(xlabel="epoch", ylabel="training loss (nats)")
    axes.margins(x=0.02)


def _logarithmic(axes: Any, drawn: ArrayLike) -> None:
    """A logarithmic axis, where what is drawn is above 0 and far apart."""
    finite = np.asarray(drawn, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if len(finite) and finite.min() > 0.0 and finite.max() > _FAR * finite.min():
        axes.set_yscale("log")
        _plain(axes.yaxis)


def _plain(axis: Any) -> None:
    """Numbers of a logarithmic axis as people write them."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())
