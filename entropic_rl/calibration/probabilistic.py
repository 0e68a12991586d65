"""What the classifiers for scikit-learn share: training with rows held out, and probabilities that are read out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from entropic_rl.calibration.estimator import EntropicEstimator
from entropic_rl.calibration.readout import proper_readout
from entropic_rl.calibration.temperature import TemperatureScaler
from entropic_rl.errors import ConfigError
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.fitting import Extra
from entropic_rl.supervised.networks import Network
from entropic_rl.supervised.tasks import Classification

__all__ = ["READOUTS", "ProbabilisticClassifier"]

READOUTS = ("raw", "proper", "temperature")


class ProbabilisticClassifier(ClassifierMixin, EntropicEstimator):  # type: ignore[misc]
    """Classifiers trained by the entropic loss: how members learn, and how their probabilities are read out."""

    classes_: NDArray[Any]

    def _learn(
        self,
        config: FitConfig,
        scaler: TemperatureScaler,
        features: NDArray[Any],
        target: NDArray[np.int64],
        weight: NDArray[np.float64] | None,
        *,
        extra: Callable[[Network, Sequence[int]], Extra] | None = None,
    ) -> Self:
        """Train all members, and fit the temperature if that is the read-out.

        Args:
            config: checked settings.
            scaler: what is fitted to the rows that are held out.
            features: ``[N, D]``.
            target: ``[N]``, columns of ``classes_``.
            weight: ``[N]``; None if all count the same.
            extra: makes what is added to the loss, from networks and the seeds of members.
        """
        fitting = self._begin(config, Classification(config.label_smoothing), len(self.classes_), extra)
        table = self._table(fitting, features, target, weight)
        scaled = self.readout == "temperature"
        rows, held_out = self._rows(len(features), target, weight, hold_out=scaled or config.early_stopping)
        self._train(fitting, table, rows, held_out if config.early_stopping else None)
        self._scaler: TemperatureScaler | None = None
        if scaled and held_out is not None:
            own = held_out.numpy()
            share = None if weight is None else weight[own] / weight[own].mean()
            self._scaler = scaler.fit(self._log_mixture(features[own]), target[own], share)
        self.temperature_ = 1.0 if self._scaler is None else self._scaler.temperature
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities ``[N, C]`` in the order of ``classes_``, read out, members and samples averaged."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The likeliest label of each row, ``[N]``."""
        columns = self.predict_proba(X).argmax(1)
        return self.classes_[columns]

    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Logarithms of :meth:`predict_proba`, finite where a probability rounds to 0.

        Raises:
            ValueError: the read-out was made the temperature after training, which held out no rows for it.
        """
        return self._tempered(self._log_mixture(self._features(X))).numpy()

    def log_proba(self, x: Tensor) -> Tensor:
        """:meth:`predict_log_proba` of a tensor ``[N, D]``, differentiable with respect to it; float64, ``[N, C]``.

        Raises:
            ConfigError: ``x`` has other features than those of the training.
        """
        check_is_fitted(self)
        if x.ndim != 2 or x.shape[1] != self.n_features_in_:
            raise ConfigError(f"x: expected rows [N, {self.n_features_in_}], got {tuple(x.shape)}")
        return self._tempered(_mixed(self._read(self._answers(x.to(self._network.values)))))

    def member_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities of each member and sample of dropout before they are averaged, ``[M, N, C]``; no temperature.

        Their disagreement is what is not known for want of data: ``H(mean p) - mean H(p)``.
        """
        return self._readouts(self._features(X)).exp().numpy()

    def embed(self, X: ArrayLike) -> NDArray[np.float64]:
        """What the last layer of the first member sees of ``X [N, D]``, ``[N, D']``."""
        return self._embeddings(self._features(X)).numpy()

    def _check_readout(self) -> None:
        if self.readout not in READOUTS:
            raise ConfigError(f"readout: expected one of {', '.join(READOUTS)}, got {self.readout!r}")

    def _features(self, X: ArrayLike) -> NDArray[Any]:
        check_is_fitted(self)
        return validate_data(self, X, reset=False, dtype=np.float64)

    def _readouts(self, X: NDArray[Any]) -> Tensor:
        """Log-probabilities of every member and sample, ``[M, N, C]``."""
        return self._read(self._outputs(X))

    def _read(self, logits: Tensor) -> Tensor:
        """Logits of every member and sample as log-probabilities, ``[M, N, C]``."""
        self._check_readout()
        if self.readout != "proper":
            return logits.log_softmax(-1)
        coefs = self.ent_coef_
        rows = [proper_readout(z, ent_coef=coefs[i % len(coefs)]) for i, z in enumerate(logits)]
        return torch.stack(rows).log()

    def _log_mixture(self, X: NDArray[Any]) -> Tensor:
        """Log-probabilities, members and samples averaged, ``[N, C]``."""
        return _mixed(self._readouts(X))

    def _tempered(self, log_p: Tensor) -> Tensor:
        """Log-probabilities at the temperature, if that is the read-out, ``[N, C]``."""
        if self.readout == "temperature":
            if self._scaler is None:
                raise ConfigError("readout: no temperature was fitted; call fit again, which holds out rows for it")
            log_p = self._scaler.transform(log_p)
        return log_p.log_softmax(-1)


def _mixed(log_p: Tensor) -> Tensor:
    """``[M, N, C]`` averaged as probabilities, ``[N, C]``."""
    return log_p.logsumexp(0) - math.log(len(log_p))
