"""A scikit-learn classifier that learns from a few labels and from many rows without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data
from torch import nn

from entropic_rl.calibration.probabilistic import ProbabilisticClassifier
from entropic_rl.calibration.temperature import TemperatureScaler
from entropic_rl.config import build
from entropic_rl.errors import ConfigError
from entropic_rl.few_labels.config import UnlabeledConfig
from entropic_rl.few_labels.labels import split_labels
from entropic_rl.few_labels.unlabeled import UnlabeledTerm
from entropic_rl.supervised.networks import Network

__all__ = ["SemiSupervisedEntropicClassifier"]


class SemiSupervisedEntropicClassifier(ProbabilisticClassifier):
    """Cross-entropy on labelled rows; sure answers, and not always the same one, on unlabelled rows.

    ``CE - ent_coef H(p)`` over the labelled rows, as :class:`entropic_rl.calibration.EntropicClassifier`, plus
    ``r (unlabeled_coef mean_u H(p_u) - marginal_coef H(mean_u p_u))`` over the unlabelled ones, r rising from 0 to 1.
    The entropy of single predictions is the entropic loss with the opposite sign: here it is a price, there a reward.
    Without unlabelled rows it is the supervised classifier itself.

    Args:
        ent_coef: entropy weight on labelled rows, >= 0; a number, a schedule, or ``"target:NATS"``.
        readout: ``raw``, ``proper`` or ``temperature``; the latter holds out labelled rows.
        unlabeled_coef: weight of the mean entropy of unlabelled rows, >= 0.
        marginal_coef: weight of the entropy of their mean prediction, >= 0; it assumes classes of like size.
        ramp: share of the training over which both weights rise; 0 for at once.
        unlabeled_batch_size: unlabelled rows per step; None for all.
        net_arch: hidden layer widths.
        activation: ``tanh``, ``relu``, ``leaky_relu``, ``prelu``, ``elu``, ``gelu``, ``silu`` or ``sigmoid``.
        batch_norm: normalise hidden layers over minibatches, labelled and unlabelled ones by themselves.
        layer_norm: normalise hidden layers over their units instead.
        dropout: share of hidden units dropped in training.
        optimizer: ``adam``, ``adamw``, ``rmsprop``, ``sgd``, or ``lbfgs`` with all rows at once.
        learning_rate: step size, or a schedule.
        momentum: of sgd.
        weight_decay: of adamw.
        initialisation: of weights: orthogonal, glorot, he or uniform.
        n_epochs: passes over the labelled rows, at most.
        batch_size: labelled rows per step; None for all, so that an epoch is a step.
        l1: weight of the sum of the weights' magnitudes.
        l2: weight of half the sum of their squares.
        max_grad_norm: 2-norm at which gradients are clipped; None for never.
        early_stopping: hold out ``validation_fraction`` of the labelled rows, and stop when their loss no longer falls.
        validation_fraction: for early stopping and the temperature (the same rows), stratified.
        n_epochs_no_change: epochs that early stopping waits.
        tol: nats that count as an improvement.
        n_members: networks, trained as one batch, whose probabilities are averaged.
        mc_samples: predictions with dropout that are averaged; 0 for one without.
        module: as in :class:`entropic_rl.calibration.EntropicClassifier`.
        dtype: ``float32`` or ``float64``, of the training.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        random_state: as in scikit-learn.
        verbose: show a progress bar.
        label_smoothing: share of each label that is spread over all.
        temperature_prior: precision of the prior of log T around 0.

    Attributes:
        classes_: labels, in the order of the columns of probabilities.
        n_labeled_, n_unlabeled_: rows of each kind.
        n_epochs_, ent_coef_, temperature_, history_: as in :class:`entropic_rl.calibration.EntropicClassifier`.

    Source: Grandvalet & Bengio (2004), Semi-supervised learning by entropy minimization; Krause, Perona & Gomes (2010),
    Discriminative clustering by regularized information maximization.
    """

    def __init__(
        self,
        ent_coef: float | str = 0.0,
        readout: str = "raw",
        *,
        unlabeled_coef: float = 1.0,
        marginal_coef: float = 1.0,
        ramp: float = 0.5,
        unlabeled_batch_size: int | None = 200,
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
        n_epochs: int = 400,
        batch_size: int | None = None,
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
        self.unlabeled_coef = unlabeled_coef
        self.marginal_coef = marginal_coef
        self.ramp = ramp
        self.unlabeled_batch_size = unlabeled_batch_size
        self.label_smoothing = label_smoothing
        self.temperature_prior = temperature_prior

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train on ``X [N, D]`` and labels ``y [N]``, -1 where there is none (None or NaN among objects).

        Raises:
            ValueError: what scikit-learn refuses of data; a setting is out of range; no row has a label, or all labels
                are of one class; labels are of several kinds, or may be marks as well.
        """
        config = self._config()
        given = self.get_params(deep=False)
        unlabeled = build(UnlabeledConfig, {name: given[name] for name in UnlabeledConfig.__dataclass_fields__})
        self._check_readout()
        scaler = TemperatureScaler(prior_precision=self.temperature_prior)
        features, target, known = self._checked(X, y)
        self.n_labeled_, self.n_unlabeled_ = int(known.sum()), int((~known).sum())
        without = features[~known]

        def extra(network: Network, seeds: Sequence[int]) -> UnlabeledTerm:
            x = network.values.new_tensor(without)
            return UnlabeledTerm(x, torch.arange(len(x)).expand(len(seeds), -1), unlabeled, seeds)

        self._learn(config, scaler, features[known], target[known], None, extra=extra if len(without) else None)
        del self._fitting  # which would carry the unlabelled rows into every pickle
        return self

    def _checked(self, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.bool_]]:
        """Features, columns of labels (any where there is none), and which rows have one; names ``classes_``."""
        filled, known = (None, np.zeros(0, dtype=bool)) if y is None else split_labels(y)
        features, labels = validate_data(self, X, filled, dtype=np.float64)
        known = known.reshape(-1)
        check_classification_targets(labels)
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2:
            raise ConfigError(
                f"y: expected at least 2 classes among {known.sum()} rows with a label, got 1 class, "
                f"{self.classes_.tolist()[0]!r}; -1 marks rows without a label"
            )
        return features, np.searchsorted(self.classes_, labels).astype(np.int64), known
