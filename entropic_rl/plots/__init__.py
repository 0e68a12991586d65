"""Figures as SVG; the only place that knows matplotlib."""

from entropic_rl.plots.environment import plot_environment
from entropic_rl.plots.run import plot_run

__all__ = ["plot_environment", "plot_run"]
