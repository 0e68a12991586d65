"""Slices of a policy objective as heat maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from entropic_rl.errors import ConfigError
from entropic_rl.plots.style import figure

__all__ = ["LandscapePanel", "plot_landscapes"]

_COLUMNS = 4
_DARK = {"boxstyle": "round,pad=0.15", "fc": "#222222", "ec": "none", "alpha": 0.55}  # keeps names legible on yellow
_LEVELS = np.linspace(0.1, 0.9, 9)


@dataclass(frozen=True, slots=True, eq=False)
class LandscapePanel:
    """One heat map.

    Attributes:
        title: above it.
        offsets: ``[K]``, along both axes.
        values: ``[K, K]``, the objective; rows go up.
        marks: points ``(x, y)``, their names, and whether they are what the panel is about.
    """

    title: str
    offsets: np.ndarray
    values: np.ndarray
    marks: Sequence[tuple[float, float, str, bool]] = ()


def plot_landscapes(file: Path | IO[str], panels: Sequence[LandscapePanel]) -> None:
    """Heat maps with contour lines, on one scale: from the lowest of each panel (0) to its highest (1).

    Objectives with more entropy are larger everywhere and differ by more: on a scale of rewards only the largest
    coefficient would have colours. What a panel ranges over stands below its title.

    Args:
        file: where to; SVG, or PNG if a path ends so.
        panels: at least one; values that are not finite stay grey.

    Raises:
        ConfigError: there is no panel, or a grid is not square.
    """
    if not panels or any(p.values.shape != (len(p.offsets),) * 2 for p in panels):
        raise ConfigError(f"panels: expected one or more square grids, got {[p.values.shape for p in panels]}; "
                          "pass offsets [K] and values [K, K]")  # fmt: skip
    n_columns = min(_COLUMNS, len(panels))
    n_rows = math.ceil(len(panels) / n_columns)
    width, height = 2.35 * n_columns + 1.1, 2.6 * n_rows + 0.2
    with figure(file, "", n_axes=len(panels), n_rows=n_rows, steps=False, width=width, height=height) as all_axes:
        images = [_panel(axes, panel) for axes, panel in zip(all_axes, panels, strict=True)]
        label = "share of the panel's range"
        all_axes[0].figure.colorbar(
            images[0], ax=list(all_axes), label=label, shrink=0.92, aspect=28, ticks=[0, 0.5, 1]
        )


def _panel(axes: Any, panel: LandscapePanel) -> Any:
    edge = float(panel.offsets[-1])
    finite = panel.values[np.isfinite(panel.values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    shares = (panel.values - low) / (high - low) if high > low else np.zeros_like(panel.values)
    axes.set_facecolor("#d9d9d9")
    axes.grid(visible=False)
    grid = (panel.offsets, panel.offsets, np.ma.masked_invalid(shares))
    image = axes.pcolormesh(*grid, vmin=0.0, vmax=1.0, cmap="viridis", shading="gouraud", rasterized=True)
    if high > low:
        axes.contour(*grid, levels=_LEVELS, colors="white", linewidths=0.6, alpha=0.6)
    middle = sum(y for _, y, _, _ in panel.marks) / max(len(panel.marks), 1)
    for x, y, name, own in panel.marks:
        look = {"ms": 8.5, "mfc": "#D55E00"} if own else {"ms": 6, "mfc": "white"}
        axes.plot(x, y, "o", mec="black", mew=1.1, zorder=5, **look)
        beside = {"xytext": (0, 6 if y > middle else -15), "textcoords": "offset points", "ha": "center"}
        axes.annotate(name, (x, y), **beside, fontsize=9, color="white", bbox=_DARK, zorder=6)
    ends = [-edge, edge]
    axes.set(xlim=ends, ylim=ends, aspect="equal", xticks=[], yticks=[])
    axes.set_title(panel.title, fontsize=10)
    low = low if abs(low) >= 5e-4 * (high - low) else 0.0  # no more digits than the colours can show
    axes.set_xlabel(f"{low:.3g} to {high:.3g}", fontsize=9, color="#555555")
    return image
