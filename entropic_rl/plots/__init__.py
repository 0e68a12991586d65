"""Figures as SVG; the only place that knows matplotlib."""

from entropic_rl.plots.calibration import plot_coefficient_response, plot_entropies, plot_reliability
from entropic_rl.plots.environment import plot_environment
from entropic_rl.plots.estimates import plot_estimate_curves, plot_estimates
from entropic_rl.plots.flow import plot_flow
from entropic_rl.plots.robustness import plot_accuracy_curves, plot_attacks
from entropic_rl.plots.run import RunFigures
from entropic_rl.plots.uncertainty import plot_uncertainty

__all__ = [
    "RunFigures",
    "plot_accuracy_curves",
    "plot_attacks",
    "plot_coefficient_response",
    "plot_entropies",
    "plot_environment",
    "plot_estimate_curves",
    "plot_estimates",
    "plot_flow",
    "plot_reliability",
    "plot_uncertainty",
]
