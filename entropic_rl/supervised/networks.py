"""Networks of classifiers and regressors: R perceptrons as batched products."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from entropic_rl.networks import ACTIVATIONS, ParameterRows, copy_exactly, linear
from entropic_rl.streams import Stream
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.initialisation import INITIALISATIONS

__all__ = ["Network", "Perceptrons"]

_MOMENTUM, _EPS = 0.1, 1e-5  # of normalisation, as torch.nn.BatchNorm1d and LayerNorm
_SLOPE = 0.25  # with which a learned one begins, as torch.nn.PReLU


class Network(Protocol):
    """R networks from ``[R, B, D]`` to ``[R, B, out]`` whose parameters are rows.

    Attributes:
        is_weight: ``[P]``, bool: what regularisation shrinks (no bias, no normalisation).
    """

    is_weight: Tensor

    @property
    def values(self) -> Tensor:
        """``[R, P]``; optimizers write here."""

    @property
    def grads(self) -> Tensor:
        """``[R, P]``, what :meth:`backward` last computed."""

    def __call__(self, x: Tensor, *, training: bool = False, noise: Stream | None = None) -> Tensor:
        """Outputs; in training batches are normalised by their own statistics, with ``noise`` units drop out."""

    def embed(self, x: Tensor) -> Tensor:
        """What the last layer sees of ``x [R, B, D]``, in prediction, ``[R, B, D']``."""

    def backward(self, loss: Tensor) -> None:
        """Differentiate ``loss [R]`` into ``grads``."""

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and running statistics, a run per row."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave."""

    def double(self) -> Network:
        """A copy in float64, for predictions that do not depend on the rows beside them."""


class Perceptrons:
    """R multi-layer perceptrons; each hidden layer is linear, normalised if so, activated, and dropped out.

    Args:
        sizes: inputs, hidden widths, outputs.
        seeds: one per run, for the initialisation.
        activation: between layers; ``prelu`` is a leaky ReLU whose slope below 0 every layer learns (He et al., 2015,
            equation 1, https://arxiv.org/abs/1502.01852).
        batch_norm: whether hidden layers are normalised over the minibatch.
        layer_norm: or over their units.
        dropout: share of hidden units that ``noise`` drops, in prediction the same ones for all rows; the others are
            scaled up.
        initialisation: of weights and biases, by its name (:mod:`entropic_rl.supervised.initialisation`).
        device: where parameters live.
        dtype: their type.

    Attributes:
        sizes: as given.
        activation: as given.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        seeds: Sequence[int],
        *,
        activation: str = "relu",
        batch_norm: bool = False,
        layer_norm: bool = False,
        dropout: float = 0.0,
        initialisation: str = "orthogonal",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.sizes, self.activation = tuple(sizes), activation
        self._n_layers, self._dropout = len(sizes) - 1, dropout
        shapes: dict[str, tuple[int, ...]] = {}
        for i, (n_in, n_out) in enumerate(pairwise(sizes)):
            shapes |= {f"{i}.weight": (n_in, n_out), f"{i}.bias": (1, n_out)}
            if (batch_norm or layer_norm) and i < len(sizes) - 2:
                shapes |= {f"{i}.scale": (1, n_out), f"{i}.shift": (1, n_out)}
            if activation == "prelu" and i < len(sizes) - 2:
                shapes |= {f"{i}.slope": (1, 1)}
        self.params = ParameterRows(shapes, len(seeds), device=device, dtype=dtype)
        self.is_weight = torch.cat(
            [
                torch.full((int(torch.Size(shape).numel()),), name.endswith("weight"), device=device)
                for name, shape in shapes.items()
            ]
        )
        hidden = range(len(sizes) - 2) if batch_norm else ()
        zeros = self.params.values.new_zeros
        self._means = {i: zeros(len(seeds), 1, sizes[i + 1]) for i in hidden}
        self._variances = {i: zeros(len(seeds), 1, sizes[i + 1]) + 1.0 for i in hidden}
        self._initialise(Stream(seeds, "initialisation"), initialisation)

    @classmethod
    def of(
        cls,
        fit: FitConfig,
        n_inputs: int,
        n_outputs: int,
        seeds: Sequence[int],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> Perceptrons:
        """The networks that settings of training describe, in their type unless another is given."""
        return cls(
            (n_inputs, *fit.net_arch, n_outputs),
            seeds,
            activation=fit.activation,
            batch_norm=fit.batch_norm,
            layer_norm=fit.layer_norm,
            dropout=fit.dropout,
            initialisation=fit.initialisation,
            device=device,
            dtype=dtype or getattr(torch, fit.dtype),
        )

    @property
    def values(self) -> Tensor:
        """``[R, P]``."""
        return self.params.values

    @property
    def grads(self) -> Tensor:
        """``[R, P]``."""
        return self.params.grads

    @torch.no_grad()
    def _initialise(self, stream: Stream, name: str) -> None:
        for i, (n_in, n_out) in enumerate(pairwise(self.sizes)):
            weight, bias = INITIALISATIONS[name](stream, n_in, n_out, i == self._n_layers - 1)
            self.params[f"{i}.weight"].copy_(weight)
            self.params[f"{i}.bias"].copy_(bias)
            for part, value in (("scale", 1.0), ("slope", _SLOPE)):
                if f"{i}.{part}" in self.params:
                    self.params[f"{i}.{part}"].fill_(value)

    def __call__(self, x: Tensor, *, training: bool = False, noise: Stream | None = None) -> Tensor:
        """``x [R, B, in] -> [R, B, out]``; see :class:`Network`."""
        last = self._n_layers - 1
        return self.params.saw(str(last), self._linear(last, self.hidden(x, training=training, noise=noise)))

    def embed(self, x: Tensor) -> Tensor:
        """What the last layer sees, ``[R, B, in] -> [R, B, width]``; without hidden layers ``x`` itself."""
        return self.hidden(x)

    def _linear(self, i: int, x: Tensor) -> Tensor:
        return linear(x, self.params[f"{i}.weight"], self.params[f"{i}.bias"])

    def hidden(
        self, x: Tensor, n_layers: int | None = None, *, training: bool = False, noise: Stream | None = None
    ) -> Tensor:
        """What the first ``n_layers`` hidden layers, or all, make of ``x [R, B, in]``, ``[R, B, width]``."""
        for i in range(self._n_layers - 1 if n_layers is None else n_layers):
            x = self._linear(i, x)
            if f"{i}.scale" in self.params:
                x = self._normalise(i, x, training)
            x = self.params.saw(str(i), self._activate(i, x), self.activation)
            if noise is not None and self._dropout:
                n_rows = x.shape[1] if training else 1  # of predictions, none depends on the rows beside it
                kept = noise.uniform(n_rows, x.shape[2]) >= self._dropout
                x = x * kept.to(x.dtype) / (1.0 - self._dropout)
        return x

    def _activate(self, i: int, x: Tensor) -> Tensor:
        if self.activation == "prelu":
            return x.clamp_min(0.0) + self.params[f"{i}.slope"] * x.clamp_max(0.0)
        return ACTIVATIONS[self.activation](x)

    def _normalise(self, i: int, x: Tensor, training: bool) -> Tensor:
        """Normalisation per run, over rows or units, then scaled and shifted.

        Sources: Ioffe & Szegedy (2015), https://arxiv.org/abs/1502.03167; Ba et al. (2016),
        https://arxiv.org/abs/1607.06450.
        """
        if i not in self._means:
            var, mean = torch.var_mean(x, 2, correction=0, keepdim=True)
        elif not training:
            mean, var = self._means[i], self._variances[i]
        else:
            var, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
            n = x.shape[1]
            with torch.no_grad():
                self._means[i].lerp_(mean, _MOMENTUM)
                self._variances[i].lerp_(var * (n / max(n - 1, 1)), _MOMENTUM)
        standard = (x - mean) * (var + _EPS).rsqrt()
        return torch.addcmul(self.params[f"{i}.shift"], standard, self.params[f"{i}.scale"])

    def backward(self, loss: Tensor) -> None:
        """Differentiate ``loss [R]`` into ``grads``."""
        self.params.backward(loss)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """A context in which training passes leave no trace in the running statistics."""
        kept = [(now, now.clone()) for now in (*self._means.values(), *self._variances.values())]
        yield
        for now, old in kept:
            now.copy_(old)

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and running statistics, a run per row."""
        state = dict(self.params.named())
        for i in self._means:
            state |= {f"{i}.mean": self._means[i], f"{i}.variance": self._variances[i]}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            ValueError: naming what is missing, unknown, or of another shape.
        """
        copy_exactly(self.state_dict(), state)

    def double(self, run: int | None = None) -> Perceptrons:
        """A copy in float64, of all runs or of one."""
        everyone = torch.arange(len(self.values), device=self.values.device)
        return self.take(everyone if run is None else everyone[run : run + 1], torch.float64)

    def take(self, runs: Tensor, dtype: torch.dtype | None = None) -> Perceptrons:
        """Copies of ``runs [T]``, as often as they are named, in ``dtype`` or as they are."""
        dtype = dtype or self.values.dtype
        twin = copy.copy(self)
        twin.params = self.params.take(runs, dtype)
        twin._means = {i: mean[runs].to(dtype) for i, mean in self._means.items()}
        twin._variances = {i: var[runs].to(dtype) for i, var in self._variances.items()}
        return twin
