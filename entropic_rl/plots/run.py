"""Learning and entropy curves of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from entropic_rl.plots.style import COLOURS, draw_ceiling, figure

__all__ = ["plot_run"]


def plot_run(rows: Sequence[Mapping[str, float]], directory: Path, *, title: str, max_entropy: float | None) -> None:
    """Write ``learning_curve.svg`` and ``entropy.svg`` of one run into ``directory``.

    Args:
        rows: of the metrics record.
        directory: where the files go.
        title: above both.
        max_entropy: nats of the uniform policy, drawn as the ceiling; None for continuous actions.
    """
    returns, entropies = _curve(rows, "rollout/ep_rew_mean"), _curve(rows, "train/entropy")
    evaluations = _curve(rows, "eval/mean_reward")
    with figure(directory / "learning_curve.svg", title) as (axes,):
        axes.plot(*returns, color=COLOURS[0], label="training, mean of the last 100 episodes")
        if len(evaluations[0]):
            axes.plot(*evaluations, color=COLOURS[1], marker="o", ls="--", label="deterministic evaluation")
        axes.set(xlabel="environment steps", ylabel="return")
        axes.figure.legend(loc="outside lower center", ncols=2)
    with figure(directory / "entropy.svg", title) as (axes,):
        axes.plot(*entropies, color=COLOURS[0])
        draw_ceiling(axes, max_entropy)
        axes.set(xlabel="environment steps", ylabel="policy entropy (nats)")


def _curve(rows: Sequence[Mapping[str, float]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Env steps and values of a metric, where it was recorded."""
    points = [(row["global_step"], row[name]) for row in rows if name in row]
    array = np.array(points, dtype=float).reshape(-1, 2)
    return array[:, 0], array[:, 1]
