"""Figures as SVG files: learning and entropy curves of a run, and of a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

__all__ = ["Curves", "plot_comparison", "plot_environment", "plot_run"]

Curves = Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]]
"""Label -> one (env steps, values) curve per seed."""

# Okabe & Ito's palette, told apart by colour-blind readers too; line styles repeat the distinction in print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", "-.", ":")

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
}


def plot_run(rows: Sequence[Mapping[str, float]], directory: Path, *, title: str, max_entropy: float | None) -> None:
    """Write ``learning_curve.svg`` and ``entropy.svg`` of one run into ``directory``.

    Args:
        rows: of the metrics record.
        directory: where the files go.
        title: above both.
        max_entropy: nats of the uniform policy, drawn as the ceiling; None for continuous actions.
    """
    returns, entropies = curve(rows, "rollout/ep_rew_mean"), curve(rows, "train/entropy")
    evaluations = curve(rows, "eval/mean_reward")
    with _figure(directory / "learning_curve.svg", title) as (axes,):
        axes.plot(*returns, color=_COLOURS[0], label="training, mean of the last 100 episodes")
        if len(evaluations[0]):
            axes.plot(*evaluations, color=_COLOURS[1], marker="o", ls="--", label="deterministic evaluation")
        axes.set(xlabel="environment steps", ylabel="return")
        axes.figure.legend(loc="outside lower center", ncols=2)
    with _figure(directory / "entropy.svg", title) as (axes,):
        axes.plot(*entropies, color=_COLOURS[0])
        _draw_ceiling(axes, max_entropy)
        axes.set(xlabel="environment steps", ylabel="policy entropy (nats)")


def plot_comparison(
    returns: Curves, entropies: Curves, path: Path, *, title: str, max_entropy: float | None, threshold: float | None
) -> None:
    """Write returns and entropies side by side: the mean over seeds as a line, their range as a band."""
    with _figure(path, title, n_axes=2, width=11.0) as (left, right):
        for axes, curves in ((left, returns), (right, entropies)):
            for i, (label, seeds) in enumerate(curves.items()):
                colour, style = _COLOURS[i % len(_COLOURS)], _STYLES[i % len(_STYLES)]
                _draw_band(axes, seeds, label, colour, style)
            axes.set(xlabel="environment steps")
        if threshold is not None:
            left.axhline(threshold, color="#777777", lw=1, ls=":")
            left.annotate("threshold", (1, threshold), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                          color="#555555", fontsize=9)  # fmt: skip
        left.set(ylabel="return, mean of the last 100 episodes")
        right.set(ylabel="policy entropy (nats)")
        _draw_ceiling(right, max_entropy)
        handles, labels = left.get_legend_handles_labels()
        left.figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=min(len(labels), 6),
            title="ent_coef (line: mean of the seeds, band: lowest to highest)",
        )


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
    with mpl.rc_context(_LOOK):
        figure = Figure(figsize=(10.0, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
        figure.suptitle(title, fontsize=12, fontweight="bold")
        left.imshow(frame, interpolation="nearest" if max(frame.shape) < 200 else "antialiased")
        left.set_axis_off()
        for i, (label, (x, y)) in enumerate(curves.items()):
            right.semilogx(x, y, color=_COLOURS[i], ls=_STYLES[i], marker="o" if len(x) < 15 else "", label=label)
        right.set(xlabel=xlabel, ylabel=ylabel)
        right.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        if len(curves) > 1:
            right.legend()
        if min(min(y) for _, y in curves.values()) >= 0:
            right.set_ylim(bottom=0)
        figure.savefig(path, format="svg", metadata={"Date": None})


def curve(rows: Sequence[Mapping[str, float]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Env steps and values of a metric, where it was recorded."""
    points = [(row["global_step"], row[name]) for row in rows if name in row]
    array = np.array(points, dtype=float).reshape(-1, 2)
    return array[:, 0], array[:, 1]


@contextmanager
def _figure(path: Path, title: str, *, n_axes: int = 1, width: float = 7.2) -> Iterator[tuple[Any, ...]]:
    with mpl.rc_context(_LOOK):
        figure = Figure(figsize=(width, 4.2), layout="constrained")
        axes = figure.subplots(1, n_axes, squeeze=False)[0]
        figure.suptitle(title, fontsize=12, fontweight="bold")
        yield tuple(axes)
        for ax in axes:
            ax.xaxis.set_major_formatter(_thousands)
            ax.margins(x=0.01)
            ax.set_xlim(left=0)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _draw_band(axes: Any, seeds: Sequence[tuple[np.ndarray, np.ndarray]], label: str, colour: str, style: str) -> None:
    drawn = [seed for seed in seeds if len(seed[0])]
    if not drawn:
        return
    start = max(x[0] for x, _ in drawn)
    steps = np.unique(np.concatenate([x[x >= start] for x, _ in drawn]))
    values = np.stack([np.interp(steps, x, y) for x, y in drawn])
    axes.plot(steps, values.mean(0), color=colour, ls=style, lw=1.8, label=label)
    axes.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)


def _draw_ceiling(axes: Any, max_entropy: float | None) -> None:
    if max_entropy is None:
        return
    axes.axhline(max_entropy, color="#777777", lw=1, ls=":")
    axes.annotate("uniform policy", (1, max_entropy), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                  color="#555555", fontsize=9)  # fmt: skip
    axes.set_ylim(bottom=0, top=max_entropy * 1.1)


def _thousands(value: float, _: object) -> str:
    return f"{value / 1e6:g}M" if abs(value) >= 1e6 else f"{value / 1e3:g}k" if abs(value) >= 1e3 else f"{value:g}"
