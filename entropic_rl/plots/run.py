"""Learning and entropy curves of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from entropic_rl.plots.style import COLOURS, draw_ceiling, literally, look, save, step_axis

__all__ = ["RunFigures"]


class RunFigures:
    """Draws ``learning_curve.svg`` and ``entropy.svg`` of runs, one run after the other.

    Each is a sheet that is laid out once, on which only curves, ticks and title are a run's own: laying out is most of
    the work, and the frame is at the same place in all of them.

    Args:
        max_entropy: nats of the uniform policy, drawn as the ceiling; None for continuous actions.
    """

    def __init__(self, max_entropy: float | None) -> None:
        with look():
            self._learning = _Sheet(
                "return",
                {
                    "rollout/ep_rew_mean": {"label": "training, mean of the last 100 episodes"},
                    "eval/mean_reward": {"label": "deterministic evaluation", "marker": "o", "ls": "--"},
                },
            )
            self._entropy = _Sheet("policy entropy (nats)", {"train/entropy": {}})
            draw_ceiling(self._entropy.axes, max_entropy)

    def draw(self, rows: Sequence[Mapping[str, float]], directory: Path, *, title: str) -> None:
        """Write both figures of a run.

        Args:
            rows: of the metrics record.
            directory: where the files go.
            title: above both.
        """
        with look():
            self._learning.draw(rows, title, directory / "learning_curve.svg")
            self._entropy.draw(rows, title, directory / "entropy.svg")


class _Sheet:
    """Curves of metrics over env steps; those with labels are named below."""

    def __init__(self, ylabel: str, curves: Mapping[str, Mapping[str, Any]]) -> None:
        self._figure = Figure(figsize=(7.2, 4.2))
        self.axes = self._figure.subplots()
        self._title = self._figure.suptitle(" ", fontsize=12, fontweight="bold")
        looks = zip(COLOURS, curves.items(), strict=False)
        self._lines = {name: self.axes.plot([], [], color=colour, **options)[0] for colour, (name, options) in looks}
        named = any("label" in options for options in curves.values())
        if named:
            self._figure.legend(loc="lower center", ncols=2)
        self._figure.subplots_adjust(left=0.13, right=0.97, top=0.905, bottom=0.2 if named else 0.13)
        self.axes.set(xlabel="environment steps", ylabel=ylabel)
        step_axis(self.axes)

    def draw(self, rows: Sequence[Mapping[str, float]], title: str, path: Path) -> None:
        self._title.set_text(literally(title))
        for name, line in self._lines.items():
            line.set_data(*_curve(rows, name))
        self.axes.relim()
        self.axes.set_xlim(0, 1, auto=True)  # nothing is left of the run before, even if there is nothing of this one
        if self.axes.get_autoscaley_on():
            self.axes.set_ylim(0, 1, auto=True)
        self.axes.autoscale_view()
        self.axes.set_xlim(left=0)
        save(self._figure, path)


def _curve(rows: Sequence[Mapping[str, float]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Env steps and values of a metric, where it was recorded."""
    points = [(row["global_step"], row[name]) for row in rows if name in row]
    array = np.array(points, dtype=float).reshape(-1, 2)
    return array[:, 0], array[:, 1]
