"""A scikit-learn classifier that is trained by the entropic loss, and read out honestly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data
from torch import nn

from entropic_rl.calibration.estimator import check_weights
from entropic_rl.calibration.probabilistic import ProbabilisticClassifier
from entropic_rl.calibration.temperature import TemperatureScaler
from entropic_rl.errors import ConfigError
from entropic_rl.supervised.tasks import Classification

__all__ = ["EntropicClassifier"]


class EntropicClassifier(ProbabilisticClassifier):
    """A classifier fitted by ``CE - ent_coef H(p)``: multi-layer perceptron by default, any ``nn.Module`` if given.

    Positive coefficients leave it less confident than its data by a known amount; the read-out says what is made of
    that: ``raw`` gives the fitted probabilities, ``proper`` maps them to the posterior that they stand for, in closed
    form (:func:`entropic_rl.calibration.proper_readout`), ``temperature`` scales them to a part of the training data
    that is held out for it. Features are used as they come: put a ``StandardScaler`` before it.

    Args:
        ent_coef: entropy weight, >= 0; a number, a schedule (``"linear:1:0"``), or ``"target:NATS"``, steered so that
            the training data keep that mean entropy.
        readout: ``raw``, ``proper`` or ``temperature``.
        net_arch: hidden layer widths.
        activation: ``tanh``, ``relu``, ``leaky_relu``, ``prelu``, ``elu``, ``gelu``, ``silu`` or ``sigmoid``.
        batch_norm: normalise hidden layers over minibatches.
        layer_norm: normalise hidden layers over their units instead.
        dropout: share of hidden units dropped in training.
        optimizer: ``adam``, ``adamw``, ``rmsprop``, ``sgd``, or ``lbfgs`` with all rows at once.
        learning_rate: step size, or a schedule such as ``"cosine:0.01:0"``.
        momentum: of sgd.
        weight_decay: of adamw.
        initialisation: of weights: orthogonal, glorot, he or uniform.
        n_epochs: passes over the data, at most.
        batch_size: rows per minibatch; None for all.
        l1: weight of the sum of the weights' magnitudes.
        l2: weight of half the sum of their squares.
        max_grad_norm: 2-norm at which gradients are clipped; None for never.
        early_stopping: hold out ``validation_fraction`` of the rows, and stop when their loss no longer falls.
        validation_fraction: for early stopping and the temperature (the same rows), stratified.
        n_epochs_no_change: epochs that early stopping waits.
        tol: nats that count as an improvement.
        n_members: networks, trained as one batch, whose probabilities are averaged.
        mc_samples: predictions with dropout that are averaged, each of one thinned network (a ``module`` may thin it
            for each row); 0 for one without.
        module: a callable ``(n_features, n_classes) -> nn.Module`` that gives logits, or a module to start from (it is
            copied). It replaces ``net_arch`` and what belongs to it.
        dtype: ``float32`` or ``float64``, of the training; predictions are made in float64.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        random_state: as in scikit-learn.
        verbose: show a progress bar.
        label_smoothing: share of each label that is spread over all.
        class_weight: None, ``"balanced"`` or a dict from labels; weighs the entropy as well.
        temperature_prior: precision of the prior of log T around 0; see :class:`TemperatureScaler`.

    Attributes:
        classes_: labels, in the order of the columns of probabilities.
        n_epochs_: trained, of each member.
        ent_coef_: final entropy weight, of each member.
        temperature_: 1.0 unless that is the read-out.
        history_: per epoch and member: ``loss``, ``ent_coef``, ``validation_loss`` with early stopping.
    """

    def __init__(
        self,
        ent_coef: float | str = 0.0,
        readout: str = "raw",
        *,
        net_arch: Sequence[int] = (64,),
        activation: str = "relu",
        batch_norm: bool = False,
        layer_norm: bool = False,
        dropout: float = 0.0,
        optimizer: str = "adam",
        learning_rate: float | str = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.01,
        initialisation: str = "orthogonal",
        n_epochs: int = 100,
        batch_size: int | None = 32,
        l1: float = 0.0,
        l2: float = 0.0,
        max_grad_norm: float | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.15,
        n_epochs_no_change: int = 10,
        tol: float = 1e-4,
        n_members: int = 1,
        mc_samples: int = 0,
        module: nn.Module | Callable[[int, int], nn.Module] | None = None,
        dtype: str = "float32",
        device: str = "cpu",
        random_state: Any = None,
        verbose: bool = False,
        label_smoothing: float = 0.0,
        class_weight: dict[Any, float] | Literal["balanced"] | None = None,
        temperature_prior: float = 3.0,
    ) -> None:
        super().__init__(
            ent_coef,
            readout,
            net_arch=net_arch,
            activation=activation,
            batch_norm=batch_norm,
            layer_norm=layer_norm,
            dropout=dropout,
            optimizer=optimizer,
            learning_rate=learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            initialisation=initialisation,
            n_epochs=n_epochs,
            batch_size=batch_size,
            l1=l1,
            l2=l2,
            max_grad_norm=max_grad_norm,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_epochs_no_change=n_epochs_no_change,
            tol=tol,
            n_members=n_members,
            mc_samples=mc_samples,
            module=module,
            dtype=dtype,
            device=device,
            random_state=random_state,
            verbose=verbose,
        )
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.temperature_prior = temperature_prior

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train on ``X [N, D]`` and labels ``y [N]``; rows count by ``sample_weight [N]``, all the same if None.

        Raises:
            ValueError: what scikit-learn refuses of data; a setting is out of range; there is one class only.
        """
        config = self._config()
        self._check_readout()
        scaler = TemperatureScaler(prior_precision=self.temperature_prior)
        features, target = self._checked(X, y, classes=None)
        weight = self._weights(features, target, sample_weight)
        return self._learn(config, scaler, features, target, weight)

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """One more epoch, over these rows; ``classes`` names all labels at the first call.

        Schedules move with the calls, as if there were ``n_epochs`` of them. Networks and what trains them stay those
        of the first call, or of :meth:`fit`: settings that were changed since take effect when it is called.

        Raises:
            ValueError: as :meth:`fit`; the read-out is the temperature, which needs rows of its own; classes are not
                those of the first call, or to be balanced, for which all rows have to be known.
        """
        config = self._config()
        self._check_readout()
        if self.readout == "temperature" or config.early_stopping:
            raise ConfigError("partial_fit holds out no rows: expected readout raw or proper, and early_stopping=False")
        if self.class_weight == "balanced":
            raise ConfigError("class_weight: partial_fit cannot balance rows to come: expected None or a dict")
        begun = hasattr(self, "_fitting")
        if not begun and classes is None:
            raise ConfigError("classes: expected all labels at the first call of partial_fit, got none")
        known = self.classes_ if classes is None else np.unique(np.asarray(classes))
        if begun and not np.array_equal(known, self.classes_):
            raise ConfigError(f"classes: expected those of before, {self.classes_.tolist()}, got {known.tolist()}")
        features, target = self._checked(X, y, classes=known, first=not begun)
        fitting = (
            self._fitting if begun else self._begin(config, Classification(config.label_smoothing), len(self.classes_))
        )
        table = self._table(fitting, features, target, self._weights(features, target, sample_weight))
        fitting.epoch(table, torch.arange(len(features)).expand(len(fitting.network.values), -1))
        self._keep(fitting)
        self._scaler, self.temperature_ = None, 1.0
        return self

    def _checked(
        self, X: ArrayLike, y: ArrayLike, *, classes: NDArray[Any] | None, first: bool = True
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Features and columns of labels; names ``classes_``."""
        features, labels = validate_data(self, X, y, reset=first, dtype=np.float64)
        check_classification_targets(labels)
        found = np.unique(labels)
        self.classes_ = found if classes is None else classes
        if len(self.classes_) < 2:
            raise ConfigError(
                f"y: expected at least 2 classes to tell apart, got 1 class, {self.classes_.tolist()[0]!r}"
            )
        unknown = np.setdiff1d(found, self.classes_)
        if len(unknown):
            raise ConfigError(f"y: expected labels among classes {self.classes_.tolist()}, got {unknown[:3].tolist()}")
        return features, np.searchsorted(self.classes_, labels).astype(np.int64)

    def _weights(
        self, X: NDArray[Any], target: NDArray[np.int64], sample_weight: ArrayLike | None
    ) -> NDArray[np.float64] | None:
        """What each row counts, classes considered; None if all count the same."""
        if sample_weight is None and self.class_weight is None:
            return None
        weight = check_weights(sample_weight, X)
        if self.class_weight is not None:
            of_class = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[target])
            weight = weight * of_class[target]
            if not (weight >= 0.0).all() or not weight.any():
                raise ConfigError(f"class_weight: expected weights >= 0, not all 0 of rows, got {self.class_weight}")
        return weight
