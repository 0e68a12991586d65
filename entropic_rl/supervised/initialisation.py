"""How layers of perceptrons begin: rules for the first weights, by name; pure functions of a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from entropic_rl.networks import orthogonal
from entropic_rl.streams import Stream

__all__ = ["INITIALISATIONS", "Rule"]

Rule = Callable[[Stream, int, int, bool], tuple[Tensor, Tensor]]
"""From a stream of R runs, inputs and outputs of a layer, and whether it is the last: its weights ``[R, in, out]`` and
biases ``[R, 1, out]``, float64."""

_SMALL, _LARGE = 0.1, 4.0  # gains of what is too small and too large


def _orthogonal(stream: Stream, n_in: int, n_out: int, is_last: bool) -> tuple[Tensor, Tensor]:
    """Gain sqrt(2), at the end 0.1. Source: Saxe et al. (2014), https://arxiv.org/abs/1312.6120."""
    return _without_bias(orthogonal(stream, n_in, n_out) * (0.1 if is_last else 2.0**0.5))


def _glorot(stream: Stream, n_in: int, n_out: int, is_last: bool) -> tuple[Tensor, Tensor]:
    """Uniform of variance ``2 / (in + out)``. Source: Glorot & Bengio (2010), equation 16."""
    return _without_bias(_symmetric(stream, n_in, n_out) * (6.0 / (n_in + n_out)) ** 0.5)


def _he(stream: Stream, n_in: int, n_out: int, is_last: bool) -> tuple[Tensor, Tensor]:
    """Normal of variance ``2 / in``. Source: He et al. (2015), equation 10, https://arxiv.org/abs/1502.01852."""
    return _without_bias(stream.normal(n_in, n_out) * (2.0 / n_in) ** 0.5)


def _uniform(stream: Stream, n_in: int, n_out: int, is_last: bool) -> tuple[Tensor, Tensor]:
    """Weights and biases within ``1 / sqrt(in)``, as ``torch.nn.Linear`` begins: variance ``1 / (3 in)``."""
    bound = n_in**-0.5
    return _symmetric(stream, n_in, n_out) * bound, _symmetric(stream, 1, n_out) * bound


def _small(stream: Stream, n_in: int, n_out: int, is_last: bool) -> tuple[Tensor, Tensor]:
    """Orthogonal of gain 0.1, too small for anything but the last layer."""
    return _without_bias(orthogonal(stream, n_in, n_out) * _SMALL)


def _large(stream: Stream, n_in: int, n_out: int, is_last: bool) -> tuple[Tensor, Tensor]:
    """Orthogonal of gain 4, too large."""
    return _without_bias(orthogonal(stream, n_in, n_out) * _LARGE)


def _zeros(stream: Stream, n_in: int, n_out: int, is_last: bool) -> tuple[Tensor, Tensor]:
    """All zero: hidden units stay alike, and nothing but the last biases has a gradient."""
    return _without_bias(stream.uniform(n_in, n_out) * 0.0)


def _symmetric(stream: Stream, *shape: int) -> Tensor:
    """Uniform in (-1, 1), ``[R, *shape]``."""
    return 2.0 * stream.uniform(*shape) - 1.0


def _without_bias(weight: Tensor) -> tuple[Tensor, Tensor]:
    return weight, torch.zeros_like(weight[:, :1])


INITIALISATIONS: Mapping[str, Rule] = {
    "orthogonal": _orthogonal,
    "glorot": _glorot,
    "he": _he,
    "uniform": _uniform,
    "small": _small,
    "large": _large,
    "zeros": _zeros,
}
