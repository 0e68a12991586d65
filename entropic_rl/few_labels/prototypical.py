"""Classes as the means of their few examples: the classifier for scikit-learn, and its mathematics over many tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from entropic_rl.errors import ConfigError
from entropic_rl.few_labels.episodes import Episodes

__all__ = ["PrototypicalClassifier", "episode_accuracies", "prototype_layer", "prototype_logits"]


def prototype_logits(query: Tensor, prototypes: Tensor) -> Tensor:
    """``-|query - prototype|^2``, ``[..., Q, D]`` and ``[..., N, D]`` to ``[..., Q, N]``.

    Their softmax is the posterior of classes that are normal with variance 1/2 in every direction, all as likely.
    Source: Snell, Swersky & Zemel (2017), eq. 2, https://arxiv.org/abs/1703.05175.
    """
    weight, bias = prototype_layer(prototypes)
    return query @ weight + bias.unsqueeze(-2) - query.square().sum(-1, keepdim=True)


def prototype_layer(prototypes: Tensor) -> tuple[Tensor, Tensor]:
    """Weights ``[..., D, N]`` and biases ``[..., N]`` of the linear layer that prototypes ``[..., N, D]`` are.

    ``2 x c - |c|^2`` is the negative squared distance but for ``|x|^2``, which is the same for all classes.
    Source: Snell, Swersky & Zemel (2017), eq. 8.
    """
    return 2.0 * prototypes.mT, -prototypes.square().sum(-1)


def episode_accuracies(embeddings: Tensor, episodes: Episodes) -> Tensor:
    """Accuracy of the nearest prototype in each task, ``[R, T]``.

    Args:
        embeddings: ``[R, n, D]``, all rows as each run sees them, or ``[n, D]``.
        episodes: of R runs.
    """
    found = []
    for run, (support, query) in enumerate(zip(episodes.support, episodes.query, strict=True)):
        own = embeddings if embeddings.ndim == 2 else embeddings[run]
        logits = prototype_logits(own[query.flatten(1)], own[support].mean(2))  # [T, N Q, N]
        found.append((logits.argmax(-1) == episodes.ways(episodes.query)).double().mean(-1))
    return torch.stack(found)


class PrototypicalClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The softmax of negative squared distances to class means, in the features or in what a body makes of them.

    Nothing is trained by :meth:`fit`: it takes one example of a class to know it. What is learned is in the body, from
    other classes (:func:`entropic_rl.few_labels.pretrained_body`).

    Args:
        body: what maps features ``[N, D]`` to embeddings ``[N, E]``: a ``torch.nn.Module``, any callable on arrays, or
            None for the features themselves.
        temperature: > 0, what squared distances are divided by; predictions of labels do not depend on it.

    Attributes:
        classes_: labels, in the order of the columns of probabilities.
        prototypes_: ``[C, E]``, the means.

    Source: Snell, Swersky & Zemel (2017), https://arxiv.org/abs/1703.05175.
    """

    def __init__(
        self, body: nn.Module | Callable[[NDArray[np.float64]], ArrayLike] | None = None, *, temperature: float = 1.0
    ) -> None:
        self.body = body
        self.temperature = temperature

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Average the embeddings of each class of ``X [N, D]`` with labels ``y [N]``.

        Raises:
            ValueError: what scikit-learn refuses of data; there is one class only; the body gives no ``[N, E]`` finite
                numbers; the temperature is not above 0.
        """
        features, labels = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(labels)
        self._check_temperature()
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2:
            raise ConfigError(f"y: expected at least 2 classes, got 1 class, {self.classes_.tolist()[0]!r}")
        embedded = _embed(self.body, features)
        self.prototypes_ = np.stack([embedded[labels == label].mean(0) for label in self.classes_])
        return self

    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Logarithms of :meth:`predict_proba`."""
        check_is_fitted(self)
        self._check_temperature()
        embedded = _embed(self.body, validate_data(self, X, reset=False, dtype=np.float64))
        if embedded.shape[1] != self.prototypes_.shape[1]:
            raise ConfigError(
                f"body: expected embeddings of width {self.prototypes_.shape[1]}, as in fit, got {embedded.shape[1]}"
            )
        distances = torch.cdist(
            torch.from_numpy(embedded), torch.from_numpy(self.prototypes_), compute_mode="donot_use_mm_for_euclid_dist"
        )
        return (-distances.square() / self.temperature).log_softmax(-1).numpy()

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities ``[N, C]`` in the order of ``classes_``."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The label of the nearest mean, ``[N]``."""
        columns = self.predict_log_proba(X).argmax(1)
        return self.classes_[columns]

    def as_module(self) -> nn.Linear:
        """The same probabilities as a linear layer of the features, to start a training from (``module=...``).

        Raises:
            ConfigError: there is a body between features and prototypes.
        """
        check_is_fitted(self)
        if self.body is not None:
            raise ConfigError(
                "as_module: expected prototypes of the features, got those of a body; embed the rows first"
            )
        weight, bias = prototype_layer(torch.from_numpy(self.prototypes_))
        layer = nn.Linear(self.prototypes_.shape[1], len(self.classes_), dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(weight.mT / self.temperature)
            layer.bias.copy_(bias / self.temperature)
        return layer

    def _check_temperature(self) -> None:
        if not isinstance(self.temperature, int | float | np.number) or not 0.0 < self.temperature < np.inf:
            raise ConfigError(f"temperature: expected a number above 0, got {self.temperature!r}")


@torch.no_grad()
def _embed(body: Any, X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Embeddings ``[N, E]`` of ``X [N, D]``, checked."""
    if body is None:
        return X
    if isinstance(body, BaseEstimator) or not callable(body):
        raise ConfigError(
            f"body: expected a torch.nn.Module or a callable on arrays, got {type(body).__name__}; of a fitted "
            "EntropicClassifier take pretrained_body(classifier)"
        )
    if isinstance(body, nn.Module):
        given, was_training = next((p for p in body.parameters()), torch.zeros(0)), body.training
        found: Any = body.eval()(given.new_tensor(X)).cpu().numpy()
        body.train(was_training)
    else:
        found = body(X)
    try:
        embedded = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        embedded = np.zeros(0)
    if embedded.ndim != 2 or len(embedded) != len(X) or not embedded.shape[1]:
        raise ConfigError(
            f"body: expected numbers [{len(X)}, width] for {len(X)} rows, got {type(found).__name__} of shape "
            f"{np.shape(embedded)}; flatten what it gives"
        )
    if not np.isfinite(embedded).all():
        raise ConfigError("body: expected finite embeddings, got some that are not; scale the features")
    return embedded
