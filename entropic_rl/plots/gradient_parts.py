"""Gradients within layers: over the steps of recurrent ones, over the heads of attention."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from entropic_rl.plots.style import COLOURS, figure

__all__ = ["plot_parts"]


def plot_parts(
    path: Path | IO[str], over_time: Mapping[str, np.ndarray], by_head: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    """Lines over time steps beside points for heads.

    Args:
        path: of the SVG, or a file to write it to.
        over_time: name -> norms ``[T]``; names that end in " trained" are drawn solid, others dashed.
        by_head: layer -> norms of the task and of the entropy gradient, ``[heads]`` each.
    """
    with figure(path, "", n_axes=2, width=10.5, height=4.0, steps=False) as (left, right):
        names = list(dict.fromkeys(name.split(" ")[0] for name in over_time))
        for name, norms in over_time.items():
            i = names.index(name.split(" ")[0])
            style = {"ls": "-", "lw": 1.8} if name.endswith("trained") else {"ls": "--", "lw": 1.2}
            left.plot(np.arange(1, len(norms) + 1), norms / norms.max(), color=COLOURS[i], label=name, **style)
        left.set_yscale("log")
        left.set(xlabel="time step that is given to the layer", ylabel="gradient (norm, largest = 1)")
        left.set_title("through time", loc="left", fontsize=10.5)
        left.legend(fontsize=9, loc="lower right")
        start, ticks = 0.0, list[tuple[float, str]]()
        for layer, (task, entropy) in by_head.items():
            places = start + np.arange(len(task))
            right.plot(places, task, "o", ms=8, color=COLOURS[0], label=None if ticks else "task")
            right.plot(places, entropy, "s", ms=7, color=COLOURS[1], label=None if ticks else "entropy")
            ticks += [(place, f"{k + 1}") for k, place in enumerate(places)]
            right.annotate(layer, (places.mean(), -0.16), xycoords=("data", "axes fraction"), ha="center", fontsize=9.5)
            start = places[-1] + 2.0
        right.set_xticks([place for place, _ in ticks], [text for _, text in ticks])
        right.set_yscale("log")
        right.set(ylabel="gradient (norm)")
        right.set_title("heads of attention", loc="left", fontsize=10.5)
        right.margins(x=0.08, y=0.25)
        right.legend(fontsize=9, loc="upper right", ncols=2)
