"""Gradient flow as heat maps: layers over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from matplotlib.colors import LogNorm, Normalize

from entropic_rl.plots.style import figure, thousands

__all__ = ["plot_flow", "plot_flows"]

_NOTHING = 1e-30
_MOST = 60  # columns; between looks nothing is interpolated


@dataclass(frozen=True)
class _Map:
    signal: str
    title: str
    scale: str  # log, share, angle, or signed, a share that may be negative


_MAPS = (
    _Map("task_norm", "gradient of the task (norm)", "log"),
    _Map("entropy_norm", "gradient of the entropy term (norm)", "log"),
    _Map("ratio", "entropy's norm over the task's", "log"),
    _Map("cosine", "cosine between the two (-1: against each other)", "angle"),
    _Map("entropy_share", "entropy's share of the step", "signed"),
    _Map("update_ratio", "update over parameters (norms)", "log"),
    _Map("dead", "dead units (share)", "share"),
    _Map("saturated", "saturated outputs (share)", "share"),
)
_COLOURS = {"log": "viridis", "share": "magma_r", "angle": "RdBu", "signed": "RdBu"}


def plot_flow(
    path: Path | IO[str],
    layers: Sequence[str],
    steps: np.ndarray,
    signals: Mapping[str, np.ndarray],
    *,
    title: str,
    states: Sequence[str] = (),
    xlabel: str = "environment steps",
) -> None:
    """Draw a heat map for every signal that says something.

    Args:
        path: of the SVG, or a file to write it to.
        layers: L names, in the order in which they compute; the first is drawn at the top.
        steps: ``[T]``, increasing.
        signals: name -> ``[T, L]``, as :data:`entropic_rl.diagnostics.signals.SIGNALS`; NaN is left white.
        title: above.
        states: L verdicts; layers that are not healthy are marked with theirs.
        xlabel: unit of ``steps``.
    """
    shown = [
        (m, x) for m in _MAPS if m.signal in signals and _says_something(x := np.asarray(signals[m.signal], float))
    ]
    names = [f"{layer} ({state})" if state not in ("", "healthy") else layer
             for layer, state in zip(layers, states or [""] * len(layers), strict=True)]  # fmt: skip
    n_rows = -(-len(shown) // 2)
    height = 0.7 + n_rows * (0.95 + 0.21 * len(layers))
    with figure(path, title, n_axes=max(len(shown), 1), n_rows=max(n_rows, 1), width=10.5, height=height,
                steps=False) as axes:  # fmt: skip
        for i, (ax, (m, values)) in enumerate(zip(axes, shown, strict=False)):
            _draw(ax, m, steps, values)
            ax.set_title(m.title, fontsize=10.5, loc="left")
            ax.set_yticks(np.arange(len(layers)) + 0.5, names if i % 2 == 0 else [""] * len(layers), fontsize=9)
            for label, state in zip(ax.get_yticklabels(), states, strict=False):
                label.set_color("#1b1f24" if state in ("", "healthy") else "#b3261e")
            if i >= len(shown) - 2:
                ax.set_xlabel(xlabel)


def _draw(ax: Any, m: _Map, steps: np.ndarray, values: np.ndarray) -> None:
    edges, values = _columns(steps, np.where(values == 0.0, np.nan, values) if m.scale in ("log", "signed") else values)
    _tidy(ax.figure.colorbar(_paint(ax, m, edges, values, _norm(m, values)), ax=ax, pad=0.01, aspect=12))


def _paint(ax: Any, m: _Map, edges: np.ndarray, values: np.ndarray, norm: Normalize) -> Any:
    image = ax.pcolormesh(edges, np.arange(values.shape[1] + 1), np.ma.masked_invalid(values.T), norm=norm,
                          cmap=_COLOURS[m.scale], rasterized=True, antialiased=False)  # fmt: skip
    ax.invert_yaxis()
    ax.grid(visible=False)
    ax.tick_params(axis="y", length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.xaxis.set_major_formatter(thousands)
    return image


def _tidy(bar: Any) -> None:
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8.5, length=2)
    bar.ax.minorticks_off()


def _norm(m: _Map, values: np.ndarray) -> Normalize:
    if m.scale == "log":
        positive = values[np.isfinite(values) & (values > 0)]
        low, high = np.log10(np.quantile(positive, [0.01, 0.99]))
        spare = max(0.1, (1.2 - (high - low)) / 2)  # so that there is a power of ten to read
        return LogNorm(10 ** (low - spare), 10 ** (high + spare), clip=True)
    if m.scale == "share":
        return Normalize(0.0, 1.0)
    if m.scale == "angle":
        return Normalize(-1.0, 1.0)
    reach = float(np.clip(np.nanquantile(np.abs(values), 0.95), 0.05, 2.0))
    return Normalize(-reach, reach, clip=True)


def _columns(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges of at most 60 columns ``[C + 1]`` and their medians ``[C, L]``; a single look is one column."""
    size = -(-len(steps) // _MOST)  # looks in a column
    groups = [np.arange(i, min(i + size, len(steps))) for i in range(0, len(steps), size)]
    medians = np.stack([_median(values[group]) for group in groups])
    starts = np.array([steps[group[0]] for group in groups], dtype=float)
    width = float(starts[-1] - starts[0]) / max(len(starts) - 1, 1) or 1.0
    edges = np.append(starts, max(float(steps[-1]), starts[-1] + width))
    return np.maximum.accumulate(edges + np.arange(len(edges)) * 1e-9 * max(edges[-1], 1.0)), medians


def _median(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    found = np.full(values.shape[1], np.nan)
    has = known.any(0)
    found[has] = np.nanmedian(np.where(known, values, np.nan)[:, has], 0)
    return found


def _says_something(values: np.ndarray) -> bool:
    known = values[np.isfinite(values)]
    return bool(len(known) and np.abs(known).max() > _NOTHING)


def plot_flows(
    path: Path | IO[str],
    layers: Sequence[str],
    edges: np.ndarray,
    maps: Mapping[str, Mapping[str, np.ndarray]],
    *,
    header: str,
) -> None:
    """Ratios and cosines of several settings side by side, on one scale.

    Args:
        path: of the SVG, or a file to write it to.
        layers: L names.
        edges: ``[C + 1]``, of the columns, in environment steps.
        maps: setting -> ``ratio`` and ``cosine``, ``[C, L]`` each.
        header: what settings are values of.
    """
    rows = [_Map("ratio", "entropy over task", "log"), _Map("cosine", "cosine", "angle")]
    n = len(maps)
    height = 1.2 + 2 * (0.55 + 0.24 * len(layers))
    with figure(path, "", n_axes=2 * n, n_rows=2, width=max(7.2, 1.6 + 2.1 * n), height=height, steps=False) as axes:
        for j, m in enumerate(rows):
            values = {name: np.where(found[m.signal] == 0.0, np.nan, found[m.signal]) for name, found in maps.items()}
            norm = _norm(m, np.concatenate(list(values.values())))
            own = axes[j * n : (j + 1) * n]
            for i, (ax, (name, shown)) in enumerate(zip(own, values.items(), strict=True)):
                image = _paint(ax, m, edges, shown, norm)
                ax.set_yticks(np.arange(len(layers)) + 0.5, layers if i == 0 else [""] * len(layers), fontsize=9)
                ax.locator_params(axis="x", nbins=3)
                if j == 0:
                    ax.set_title(f"{header} {name}" if i == 0 else name, fontsize=10.5, loc="left")
                else:
                    ax.set_xlabel("steps" if n > 3 else "environment steps")
            bar = own[0].figure.colorbar(image, ax=list(own), pad=0.01, aspect=12, label=m.title)
            _tidy(bar)
