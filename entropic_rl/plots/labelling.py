"""How a model grows with the labels that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from matplotlib.ticker import MaxNLocator, PercentFormatter

from entropic_rl.plots.style import COLOURS, figure

__all__ = ["plot_labelling"]


def plot_labelling(file: Path | IO[str], scores: Sequence[Mapping[str, float]], *, title: str = "") -> None:
    """Accuracy, likelihood and calibration over the number of labels.

    Args:
        file: where to; SVG, or PNG if a path ends so.
        scores: ``n_labels, accuracy, nll, signed_gap`` of each model, by rising ``n_labels``.
        title: above all.
    """
    labels = [score["n_labels"] for score in scores]
    with figure(file, title, n_axes=3, width=9.6, height=3.2, steps=False) as panels:
        accuracy, nll, gap = panels
        _draw(accuracy, labels, [score["accuracy"] for score in scores], 0, "accuracy")
        accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        _draw(nll, labels, [score["nll"] for score in scores], 1, "negative log-likelihood (nats)")
        nll.set_ylim(bottom=0.0)
        own = [100.0 * score["signed_gap"] for score in scores]
        gap.axhline(0.0, color="#777777", lw=1)
        _draw(gap, labels, own, 2, "confidence less accuracy (points)")
        reach = 1.2 * max(5.0, *map(abs, own))
        gap.set_ylim(-reach, reach)
        for text, height, side in (("too sure", 0.98, "top"), ("too cautious", 0.02, "bottom")):
            gap.text(0.98, height, text, transform=gap.transAxes, ha="right", va=side, color="#555555", fontsize=9)


def _draw(axes: Any, labels: Sequence[float], values: Sequence[float], index: int, title: str) -> None:
    axes.plot(labels, values, color=COLOURS[index], marker="o", ms=4.5, lw=1.8)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel("labels")
    axes.margins(x=0.06)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True))
