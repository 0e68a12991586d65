"""A picture of an environment beside curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from entropic_rl.plots.style import COLOURS, STYLES, look

__all__ = ["plot_environment"]


def plot_environment(frame: np.ndarray, path: Path, *, title: str, curves: Any, xlabel: str, ylabel: str) -> None:
    """Write a picture of an environment beside curves over a logarithmic axis.

    Args:
        frame: ``[height, width, 3]`` bytes.
        path: of the SVG file.
        title: above both.
        curves: label -> (x, y).
        xlabel: of the curves.
        ylabel: of the curves.
    """
    with look():
        figure = Figure(figsize=(10.0, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
        figure.suptitle(title, fontsize=12, fontweight="bold")
        left.imshow(frame, interpolation="nearest" if max(frame.shape) < 200 else "antialiased")
        left.set_axis_off()
        for i, (label, (x, y)) in enumerate(curves.items()):
            right.semilogx(x, y, color=COLOURS[i], ls=STYLES[i], marker="o" if len(x) < 15 else "", label=label)
        right.set(xlabel=xlabel, ylabel=ylabel)
        right.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        if len(curves) > 1:
            right.legend()
        if min(min(y) for _, y in curves.values()) >= 0:
            right.set_ylim(bottom=0)
        figure.savefig(path, format="svg", metadata={"Date": None})
