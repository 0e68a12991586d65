"""Honest probabilities of classifiers: what a model fitted with an entropy term means, and how far to trust it."""

from entropic_rl.calibration.classifier import EntropicClassifier
from entropic_rl.calibration.metrics import Reliability
from entropic_rl.calibration.readout import gaussian_readout, proper_readout, readout_limit
from entropic_rl.calibration.regressor import EntropicRegressor
from entropic_rl.calibration.report import CalibrationReport, Measure, calibration_report
from entropic_rl.calibration.selective import Detection, RiskCoverage, detection, ood_report, ood_scores, risk_coverage
from entropic_rl.calibration.temperature import TemperatureScaler

__all__ = [
    "CalibrationReport",
    "Detection",
    "EntropicClassifier",
    "EntropicRegressor",
    "Measure",
    "Reliability",
    "RiskCoverage",
    "TemperatureScaler",
    "calibration_report",
    "detection",
    "gaussian_readout",
    "ood_report",
    "ood_scores",
    "proper_readout",
    "readout_limit",
    "risk_coverage",
]
