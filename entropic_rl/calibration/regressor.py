"""A scikit-learn regressor with a Gaussian head that is trained by the entropic loss, and read out honestly."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from entropic_rl.calibration.estimator import EntropicEstimator, check_weights
from entropic_rl.calibration.readout import gaussian_readout
from entropic_rl.errors import ConfigError
from entropic_rl.schedules import Schedule, parse_coefficient
from entropic_rl.supervised.tasks import Regression

__all__ = ["EntropicRegressor"]


class EntropicRegressor(RegressorMixin, EntropicEstimator):  # type: ignore[misc]
    """A regressor that predicts a Gaussian, fitted by ``-log N(y; mean, std^2) - ent_coef H``.

    At the optimum the mean is right and the variance ``Var / (1 - ent_coef)``: ``readout="proper"`` takes that back,
    ``raw`` leaves it, for predictions that are to be cautious. Targets are standardised inside. Features are used as
    they come: put a ``StandardScaler`` before it.

    Args: those of :class:`EntropicClassifier` without its last three; ``ent_coef`` a number or a schedule below
    1, ``readout`` raw or proper, and ``module`` gives a mean and a log standard deviation per target, means first.

    Attributes:
        n_epochs_: trained, of each member.
        ent_coef_: final entropy weight, of each member.
        history_: per epoch and member: ``loss``, ``ent_coef``, ``validation_loss`` with early stopping.
    """

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train on ``X [N, D]`` and targets ``y [N]`` or ``[N, K]``, rows counting by ``sample_weight [N]``.

        Raises:
            ValueError: what scikit-learn refuses of data; a setting is out of range; a coefficient reaches 1.
        """
        config = self._config()
        if self.readout not in ("raw", "proper"):
            raise ConfigError(f"readout: expected raw or proper, got {self.readout!r}")
        coefficient = parse_coefficient(config.ent_coef)
        if not isinstance(coefficient, Schedule):
            raise ConfigError(
                f"ent_coef: expected a number or a schedule below 1, got {config.ent_coef}: steering to a target "
                "entropy may ask for 1 and more, where the Gaussian loss has no minimum"
            )
        if max(coefficient.start, coefficient.end) >= 1.0:
            raise ConfigError(f"ent_coef: from 1 on the Gaussian loss has no minimum, got {config.ent_coef}")
        features, values = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=np.float64)
        self._shape = values.shape[1:]
        targets = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
        weight = None if sample_weight is None else check_weights(sample_weight, features)
        self._center = np.average(targets, axis=0, weights=weight)
        spread = np.sqrt(np.average((targets - self._center) ** 2, axis=0, weights=weight))
        self._spread = np.where(spread > 0.0, spread, 1.0)
        fitting = self._begin(config, Regression(), 2 * targets.shape[1])
        table = self._table(fitting, features, (targets - self._center) / self._spread, weight)
        rows, held_out = self._rows(len(features), None, weight, hold_out=config.early_stopping)
        self._train(fitting, table, rows, held_out)
        return self

    def predict(
        self, X: ArrayLike, return_std: bool = False
    ) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Means of the predicted distributions, as ``y`` was, and with ``return_std`` their standard deviations.

        Members and samples of dropout are a mixture of Gaussians: how far they differ adds to its deviation.
        """
        check_is_fitted(self)
        features = validate_data(self, X, reset=False, dtype=np.float64)
        mean, log_std = Regression.split(self._outputs(features))
        if self.readout == "proper":
            coefs = [self.ent_coef_[i % len(self.ent_coef_)] for i in range(len(mean))]
            log_std = torch.stack([gaussian_readout(s, ent_coef=c) for s, c in zip(log_std, coefs, strict=True)])
        center = mean.mean(0)
        variance = (log_std.mul(2.0).exp() + (mean - center).square()).mean(0)
        means = center.numpy() * self._spread + self._center
        if not return_std:
            return means.reshape(len(features), *self._shape)
        stds = variance.sqrt().numpy() * self._spread
        return means.reshape(len(features), *self._shape), stds.reshape(len(features), *self._shape)

    def score_nll(self, X: ArrayLike, y: ArrayLike) -> float:
        """Mean negative log-likelihood of ``y`` under one Gaussian of the predicted mean and deviation, nats a row."""
        mean, std = self.predict(X, return_std=True)
        z = (np.asarray(y, dtype=np.float64).reshape(mean.shape) - mean) / std
        nll = 0.5 * z**2 + np.log(std) + 0.5 * math.log(2.0 * math.pi)
        return float(nll.reshape(len(nll), -1).sum(1).mean())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
