"""Training loss while the learning rate grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from entropic_rl.errors import ConfigError
from entropic_rl.plots.style import COLOURS, Estimate, figure, tag

__all__ = ["plot_range_test"]

_TOP = 2.0  # times the first loss, that is shown


def plot_range_test(
    file: Path | IO[str],
    curves: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    marks: Mapping[str, Estimate],
) -> None:
    """A line per run, and rates that were read off as marks with their intervals.

    Args:
        file: where to; SVG, or PNG if it ends so.
        curves: rates ``[T]`` and losses ``[T]`` of each run.
        marks: name -> rate with its interval.

    Raises:
        ConfigError: there is no curve.
    """
    if not curves:
        raise ConfigError("curves: expected at least one run, got none")
    with figure(file, "", width=7.6, height=4.3, steps=False) as (axes,):
        for rates, losses in curves:
            (line,) = axes.plot(rates, losses, color="#777777", lw=1.2, alpha=0.6)
            tag(axes, 0, line)
        first = float(np.mean([losses[0] for _, losses in curves]))
        axes.set(xscale="log", xlabel="learning rate, growing from step to step", ylabel="training loss (nats)",
                 ylim=(0.0, _TOP * first))  # fmt: skip
        for i, (name, rate) in enumerate(marks.items()):
            colour, is_last = COLOURS[(2, 0, 1)[i % 3]], i == len(marks) - 1 > 0
            axes.axvline(rate.value, color=colour, lw=1.6)
            if not np.isnan(rate.low):
                axes.axvspan(rate.low, rate.high, color=colour, alpha=0.15, lw=0)
            axes.annotate(f"{name}\n{rate.value:.2g}", (rate.value, 0.98), (5 if is_last else -5, 0), color=colour,
                          xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=9, va="top",
                          ha="left" if is_last else "right")  # fmt: skip
