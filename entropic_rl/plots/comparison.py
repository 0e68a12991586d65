"""Figures of a comparison. Everything drawn for series i has an SVG id that begins with ``si-``, to be switched by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from entropic_rl.plots.style import draw_ceiling, draw_level, figure, series_look, tag, thousands

__all__ = [
    "Panel",
    "Series",
    "plot_curves",
    "plot_heat_maps",
    "plot_policies",
    "plot_profiles",
    "plot_quantiles",
    "plot_response",
    "plot_steps",
]

_WIDTH, _HEIGHT = 5.4, 3.7  # inches; small, so that text stays legible on a phone
_LIGHT = 0.15
_COLUMNS = 4
_MOST_NAMED = 12


@dataclass(frozen=True, slots=True)
class Series:
    """A line with a band, one of n.

    Attributes:
        index: its place among the series, which decides colour, style and what switches it.
        n: how many series there are.
        label: its name.
        x: ``[T]``.
        y: ``[T]``.
        low: ``[T]``, lower edge of the band.
        high: ``[T]``, upper edge.
    """

    index: int
    n: int
    label: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def look(self) -> dict[str, Any]:
        """Colour and line style."""
        return series_look(self.index, self.n)


@dataclass(frozen=True, slots=True)
class Panel:
    """One measure over the swept setting: label, and per value its estimate and interval."""

    ylabel: str
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray


def plot_curves(
    file: IO[str],
    series: Sequence[Series],
    *,
    ylabel: str,
    ceiling: float | None = None,
    level: tuple[float, str] | None = None,
    markers: Sequence[Series] = (),
) -> None:
    """Curves over environment steps with their bands; ``markers`` are points joined by thin lines, on top."""
    with figure(file, "", width=_WIDTH, height=_HEIGHT) as (axes,):
        for one in series:
            _draw(axes, one)
        for one in markers:
            artist = axes.errorbar(one.x, one.y, [one.y - one.low, one.high - one.y], fmt="o", ms=4, lw=1, capsize=2,
                                   color=one.look["color"])  # fmt: skip
            tag(axes, one.index, artist.lines[0], *artist.lines[1], *artist.lines[2])
        if level is not None:
            draw_level(axes, *level)
        draw_ceiling(axes, ceiling)
        axes.set(xlabel="environment steps", ylabel=ylabel)
        _legend(axes, series)


def plot_steps(file: IO[str], series: Sequence[Series], *, ylabel: str, horizon: float) -> None:
    """Step functions in [0, 1] over environment steps: shares of runs to which something has happened."""
    with figure(file, "", width=_WIDTH, height=_HEIGHT) as (axes,):
        for one in series:
            x, y = np.append(one.x, horizon), np.append(one.y, one.y[-1])
            low, high = np.append(one.low, one.low[-1]), np.append(one.high, one.high[-1])
            (line,) = axes.step(x, y, where="post", lw=1.8, label=one.label, **one.look)
            fill = axes.fill_between(x, low, high, step="post", color=one.look["color"], alpha=_LIGHT, lw=0)
            tag(axes, one.index, line, fill)
        axes.set(xlabel="environment steps", ylabel=ylabel, ylim=(-0.02, 1.04))
        axes.set_xlim(0, horizon)
        _legend(axes, series)


def plot_profiles(file: IO[str], series: Sequence[Series], *, xlabel: str, level: tuple[float, str] | None) -> None:
    """Performance profiles: the share of runs that end above each return."""
    with figure(file, "", width=_WIDTH, height=_HEIGHT, steps=False) as (axes,):
        for one in series:
            _draw(axes, one)
        if level is not None:
            axes.axvline(level[0], color="#777777", lw=1, ls=":")
        axes.set(xlabel=xlabel, ylabel="share of runs above", ylim=(-0.02, 1.04))
        _legend(axes, series)


def plot_response(
    file: IO[str],
    positions: Sequence[float],
    ticks: Mapping[float, str],
    panels: Sequence[Panel],
    lines: Mapping[str, Sequence[int]],
    *,
    xlabel: str,
) -> None:
    """Measures over the swept setting, a point and its interval per series; ``lines`` join those alike in all else.

    A lone line has points in the colours of their series; of several, each has its own, and a legend names them.
    """
    n_rows = math.ceil(len(panels) / 2)
    width, height = 2 * _WIDTH * 0.8, 2.9 * n_rows + 0.35 * (len(lines) > 1)
    with figure(file, "", n_axes=len(panels), n_rows=n_rows, width=width, height=height, steps=False) as all_axes:
        for axes, panel in zip(all_axes, panels, strict=True):
            for k, (name, members) in enumerate(lines.items()):
                shared = series_look(k, len(lines)) if len(lines) > 1 else {"color": "#999999"}
                axes.plot(
                    [positions[i] for i in members], panel.values[[*members]], lw=1.2, zorder=1, label=name, **shared
                )
                for i in members:
                    own = shared["color"] if len(lines) > 1 else series_look(i, len(positions))["color"]
                    _draw_point(axes, i, positions[i], panel, own)
            axes.set_xticks([*ticks], [*ticks.values()], rotation=0 if sum(map(len, ticks.values())) < 40 else 30)
            axes.set(ylabel=panel.ylabel, xlabel=xlabel)
            axes.margins(x=0.08, y=0.12)
        if len(lines) > 1:
            handles, names = all_axes[0].get_legend_handles_labels()
            all_axes[0].figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 4))


def _draw_point(axes: Any, i: int, x: float, panel: Panel, colour: str) -> None:
    value, low, high = (float(values[i]) for values in (panel.values, panel.low, panel.high))
    error = None if math.isnan(low) or math.isnan(high) else [[max(value - low, 0.0)], [max(high - value, 0.0)]]
    artist = axes.errorbar([x], [value], error, fmt="o", ms=5.5, capsize=3, lw=1.6, color=colour)
    tag(axes, i, artist.lines[0], *artist.lines[1], *artist.lines[2])


def plot_quantiles(file: IO[str], panels: Sequence[Series], *, ylabel: str, ceiling: float | None) -> None:
    """A small picture per series: the median as a line, the band from the 10 % to the 90 % quantile."""
    with _small(file, len(panels)) as all_axes:
        for axes, one in zip(all_axes, panels, strict=True):
            _draw(axes, one)
            axes.set_title(one.label, fontsize=10)
            if ceiling is not None:
                axes.axhline(ceiling, color="#777777", lw=1, ls=":")
                axes.set_ylim(0, ceiling * 1.08)
            axes.xaxis.set_major_formatter(thousands)
            axes.set_xlim(left=0)
        all_axes[0].set_ylabel(ylabel)


def plot_heat_maps(file: IO[str], maps: Sequence[tuple[str, np.ndarray]], *, label: str) -> None:
    """A map of visits per group ``[H, W]`` on one logarithmic colour scale; NaN is no state, 0 was never met."""
    from matplotlib.colors import LogNorm

    visited = np.concatenate([values[values > 0] for _, values in maps])
    smallest, largest = (visited.min(), visited.max()) if len(visited) else (1e-6, 1.0)
    wide = maps[0][1].shape[1] > 3 * maps[0][1].shape[0]  # a row of states: pictures below each other
    columns = 1 if wide else min(_COLUMNS, len(maps))
    rows = math.ceil(len(maps) / columns)
    size = (6.4, 0.75 * rows + 0.9) if wide else (2.1 * columns + 0.9, 2.25 * rows)
    with figure(file, "", n_axes=len(maps), n_rows=rows, width=size[0], height=size[1], steps=False) as all_axes:
        for axes, (title, values) in zip(all_axes, maps, strict=True):
            axes.set_facecolor("#d9d9d9")
            axes.grid(visible=False)
            shown = np.ma.masked_invalid(np.where(values == 0, smallest / 3, values))
            image = axes.imshow(shown, norm=LogNorm(smallest / 3, largest), cmap="magma", aspect="auto" if wide else 1,
                                interpolation="nearest")  # fmt: skip
            axes.set_title(title, fontsize=10)
            axes.set_xticks([])
            axes.set_yticks([])
        all_axes[0].figure.colorbar(image, ax=list(all_axes), label=label, shrink=0.9)


def plot_policies(
    file: IO[str],
    panels: Sequence[tuple[str, np.ndarray, np.ndarray | None, np.ndarray | None]],
    *,
    ylabel: str,
) -> None:
    """Per group, the probability of an action in every state: each run ``[N, S]`` beside exact policies ``[S]``."""
    with _small(file, len(panels)) as all_axes:
        for i, (axes, (title, runs, optimum, loss_only)) in enumerate(zip(all_axes, panels, strict=True)):
            states = np.arange(runs.shape[1])
            for line in runs:
                (dots,) = axes.plot(
                    states, line, "o", ms=4.5, alpha=0.75, mew=0, color=series_look(i, len(panels))["color"]
                )
                tag(axes, i, dots)
            if optimum is not None:
                axes.plot(states, optimum, color="#333333", lw=1.4, label="exact, entropy in the reward")
            if loss_only is not None:
                axes.plot(states, loss_only, color="#333333", lw=1.4, ls=":", label="exact, entropy in the loss")
            axes.set_title(title, fontsize=10)
            axes.set(ylim=(-0.03, 1.03), xlabel="state", xticks=states if len(states) <= 12 else [])
        all_axes[0].set_ylabel(ylabel)
        handles, labels = all_axes[-1].get_legend_handles_labels()
        if handles:
            all_axes[0].figure.legend(handles, labels, loc="outside lower center", ncols=2)


def _draw(axes: Any, one: Series) -> None:
    (line,) = axes.plot(one.x, one.y, lw=1.8, label=one.label, **one.look)
    fill = axes.fill_between(one.x, one.low, one.high, color=one.look["color"], alpha=_LIGHT, lw=0)
    tag(axes, one.index, line, fill)


def _legend(axes: Any, series: Sequence[Series]) -> None:
    """Names below the picture, switched with their series; of very many, a page has its own."""
    if not 1 < len(series) <= _MOST_NAMED:
        return
    handles = axes.get_legend_handles_labels()[0]
    columns = min(len(series), max(2, 36 // max(len(one.label) + 4 for one in series)))
    legend = axes.figure.legend(
        handles, [one.label for one in series], loc="outside lower center", ncols=columns, fontsize=9
    )
    for i, (one, *parts) in enumerate(zip(series, legend.get_lines(), legend.get_texts(), strict=True)):
        for k, part in enumerate(parts):
            part.set_gid(f"s{one.index}-legend-{i}-{k}")


def _small(file: IO[str], n: int) -> Any:
    rows = math.ceil(n / _COLUMNS)
    columns = min(n, _COLUMNS)
    return figure(file, "", n_axes=n, n_rows=rows, width=max(2.3 * columns, 3.2), height=2.4 * rows + 0.3, steps=False,
                  share_y=True)  # fmt: skip
