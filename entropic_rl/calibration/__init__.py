"""Honest probabilities of classifiers: what a model fitted with an entropy term means, and how far to trust it."""

from entropic_rl.calibration.readout import gaussian_readout, proper_readout, readout_limit
from entropic_rl.calibration.temperature import TemperatureScaler

__all__ = ["TemperatureScaler", "gaussian_readout", "proper_readout", "readout_limit"]
