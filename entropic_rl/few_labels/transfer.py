"""What networks have learned from other classes: as an embedding, or as the beginning of another training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import nn

from entropic_rl.calibration.classifier import EntropicClassifier
from entropic_rl.errors import ConfigError
from entropic_rl.few_labels.semi_supervised import SemiSupervisedEntropicClassifier
from entropic_rl.supervised.networks import Perceptrons

__all__ = ["PretrainedBody", "pretrained_body"]

_TORCH = {
    "tanh": nn.Tanh, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "gelu": nn.GELU, "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
}  # fmt: skip


class PretrainedBody:
    """The hidden layers of a fitted classifier, without its last one: ``[N, D] -> [N, E]`` on arrays.

    Unlike the classifier it is no estimator, so that scikit-learn's ``clone`` copies it with all that it knows.

    Args:
        network: float64, one run.
    """

    def __init__(self, network: Perceptrons) -> None:
        self._network = network

    @torch.no_grad()
    def __call__(self, X: ArrayLike) -> NDArray[np.float64]:
        """Embeddings of rows.

        Raises:
            ConfigError: rows have another width than those that it was trained on.
        """
        x = torch.as_tensor(np.ascontiguousarray(X, dtype=np.float64))
        self._check_width(x.shape[-1])
        return self._network.hidden(x.unsqueeze(0).to(self._network.values.device))[0].cpu().numpy()

    def with_head(self, n_frozen: int = 0) -> Callable[[int, int], nn.Module]:
        """What ``EntropicClassifier(module=...)`` takes to begin from this body, with a new last layer.

        Args:
            n_frozen: layers, from the first on, that stay as they are.

        Raises:
            ConfigError: there are not so many; when called, rows have another width.
        """
        n_hidden = len(self._network.sizes) - 2
        if not 0 <= n_frozen <= n_hidden:
            raise ConfigError(f"n_frozen: expected 0 to {n_hidden}, the hidden layers of the body, got {n_frozen}")

        def make(n_inputs: int, n_outputs: int) -> nn.Module:
            self._check_width(n_inputs)
            layers: list[nn.Module] = []
            for i, (n_in, n_out) in enumerate(zip(self._network.sizes, self._network.sizes[1:-1], strict=False)):
                layer = nn.Linear(n_in, n_out, dtype=torch.float64)
                with torch.no_grad():
                    layer.weight.copy_(self._network.params[f"{i}.weight"][0].mT)
                    layer.bias.copy_(self._network.params[f"{i}.bias"][0, 0])
                layers += [layer.requires_grad_(i >= n_frozen), _TORCH[self._network.activation]()]
            return nn.Sequential(*layers, nn.Linear(self._network.sizes[-2], n_outputs, dtype=torch.float64))

        return make

    def _check_width(self, n_features: int) -> None:
        if n_features != self._network.sizes[0]:
            raise ConfigError(
                f"X: expected {self._network.sizes[0]} features, as the body was trained on, got {n_features}"
            )


def pretrained_body(classifier: EntropicClassifier | SemiSupervisedEntropicClassifier) -> PretrainedBody:
    """The hidden layers of a fitted classifier's perceptron; of its first member if it has several.

    Raises:
        ConfigError: it is no classifier of ours, has a module of its own, no hidden layer, or batch normalisation.
        NotFittedError: it is not fitted.
    """
    if not isinstance(classifier, EntropicClassifier | SemiSupervisedEntropicClassifier):
        raise ConfigError(f"classifier: expected a fitted EntropicClassifier, got {type(classifier).__name__}")
    check_is_fitted(classifier)
    network: Any = classifier._network
    plain = isinstance(network, Perceptrons) and not classifier.batch_norm and network.activation in _TORCH
    if not plain or len(network.sizes) < 3:
        raise ConfigError(
            "classifier: expected a perceptron with a hidden layer, no batch normalisation and no prelu; of a module "
            "of your own pass its layers but the last as the body"
        )
    return PretrainedBody(network.double(0))
