"""How a model grows with the labels that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from matplotlib.ticker import MaxNLocator, PercentFormatter

from entropic_rl.plots.style import COLOURS, figure

__all__ = ["plot_labelling"]

_LOOK = {"marker": "o", "ms": 4.5, "lw": 1.8}


def plot_labelling(file: Path | IO[str], scores: Sequence[Mapping[str, float]], *, title: str = "") -> None:
    """Accuracy, likelihood and calibration over the number of labels.

    Args:
        file: where to; SVG, or PNG if a path ends so.
        scores: ``n_labels, accuracy, nll, signed_gap`` of each model, by rising ``n_labels``.
        title: above all.
    """
    labels = [score["n_labels"] for score in scores]
    with figure(file, title, n_axes=3, width=9.6, height=3.2, steps=False) as (accuracy, nll, gap):
        accuracy.plot(labels, [score["accuracy"] for score in scores], color=COLOURS[0], **_LOOK)
        accuracy.set_ylabel("accuracy")
        accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        nll.plot(labels, [score["nll"] for score in scores], color=COLOURS[1], **_LOOK)
        nll.set_ylabel("negative log-likelihood (nats)")
        nll.set_ylim(bottom=0.0)
        own = [100.0 * score["signed_gap"] for score in scores]
        gap.axhline(0.0, color="#777777", lw=1)
        gap.plot(labels, own, color=COLOURS[2], **_LOOK)
        reach = 1.15 * max(5.0, *map(abs, own))
        gap.set_ylim(-reach, reach)
        gap.set_ylabel("confidence less accuracy (points)")
        for text, height, side in (("too sure", 0.98, "top"), ("too cautious", 0.02, "bottom")):
            gap.text(0.98, height, text, transform=gap.transAxes, ha="right", va=side, color="#555555", fontsize=9)
        for axes in (accuracy, nll, gap):
            axes.set_xlabel("labels")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
            axes.margins(x=0.06)
