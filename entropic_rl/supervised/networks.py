"""Networks of classifiers and regressors: R perceptrons as batched products, or R modules of anyone's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from entropic_rl.errors import ConfigError
from entropic_rl.networks import ACTIVATIONS, ParameterRows, copy_exactly, linear, orthogonal
from entropic_rl.streams import Stream

__all__ = ["Modules", "Network", "Perceptrons", "last_inputs"]

_MOMENTUM, _EPS = 0.1, 1e-5  # of batch normalisation, as torch.nn.BatchNorm1d


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
    """R multi-layer perceptrons; each hidden layer is linear, batch-normalised if so, activated, and dropped out.

    Weights begin orthogonal with gain sqrt(2) (1 at the end, where outputs are to be small: 0.1), biases at zero.

    Args:
        sizes: inputs, hidden widths, outputs.
        seeds: one per run, for the initialisation.
        activation: between layers.
        batch_norm: whether hidden layers are normalised.
        dropout: share of hidden units that ``noise`` drops, in prediction the same ones for all rows; the others are
            scaled up.
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
        dropout: float = 0.0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.sizes, self.activation = tuple(sizes), activation
        self._n_layers, self._activation, self._dropout = len(sizes) - 1, ACTIVATIONS[activation], dropout
        shapes: dict[str, tuple[int, ...]] = {}
        for i, (n_in, n_out) in enumerate(pairwise(sizes)):
            shapes |= {f"{i}.weight": (n_in, n_out), f"{i}.bias": (1, n_out)}
            if batch_norm and i < len(sizes) - 2:
                shapes |= {f"{i}.scale": (1, n_out), f"{i}.shift": (1, n_out)}
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
        self._initialise(Stream(seeds, "initialisation"))

    @property
    def values(self) -> Tensor:
        """``[R, P]``."""
        return self.params.values

    @property
    def grads(self) -> Tensor:
        """``[R, P]``."""
        return self.params.grads

    @torch.no_grad()
    def _initialise(self, stream: Stream) -> None:
        last = self._n_layers - 1
        for i in range(self._n_layers):
            weight = self.params[f"{i}.weight"]
            weight.copy_(orthogonal(stream, *weight.shape[1:]) * (0.1 if i == last else 2.0**0.5))
            if i in self._means:
                self.params[f"{i}.scale"].fill_(1.0)

    def __call__(self, x: Tensor, *, training: bool = False, noise: Stream | None = None) -> Tensor:
        """``x [R, B, in] -> [R, B, out]``; see :class:`Network`."""
        return self._linear(self._n_layers - 1, self.hidden(x, training=training, noise=noise))

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
            if i in self._means:
                x = self._normalise(i, x, training)
            x = self._activation(x)
            if noise is not None and self._dropout:
                n_rows = x.shape[1] if training else 1  # of predictions, none depends on the rows beside it
                kept = noise.uniform(n_rows, x.shape[2]) >= self._dropout
                x = x * kept.to(x.dtype) / (1.0 - self._dropout)
        return x

    def _normalise(self, i: int, x: Tensor, training: bool) -> Tensor:
        """Batch normalisation per run. Source: Ioffe & Szegedy (2015), https://arxiv.org/abs/1502.03167."""
        mean, var = self._means[i], self._variances[i]
        if training:
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


class Modules:
    """R modules of anyone's as one network, called one after another; their parameters are views of ``values``.

    Args:
        make: gives a module from ``[B, n_inputs]`` to ``[B, n_outputs]``; called once per run, under its seed, as
            torch's global generator has it (which is left as it was).
        n_inputs: D.
        n_outputs: numbers that come out.
        seeds: one per run.
        device: where parameters live.
        dtype: their type.

    Raises:
        ConfigError: what was made is no module, has no parameters or those of another run; when called, its outputs are
            not ``[B, n_outputs]``.
    """

    def __init__(
        self,
        make: Callable[[int, int], nn.Module],
        n_inputs: int,
        n_outputs: int,
        seeds: Sequence[int],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._n_outputs, self.modules = n_outputs, list[nn.Module]()
        with torch.random.fork_rng():
            for seed in seeds:
                torch.manual_seed(seed % 2**63)
                self.modules.append(_checked(make(n_inputs, n_outputs)).to(device=device, dtype=dtype))
        self._tie()

    def _tie(self) -> None:
        """Make the parameters views of one tensor."""
        self._parameters = [[p for p in module.parameters() if p.requires_grad] for module in self.modules]
        owners = [id(p) for own in self._parameters for p in own]
        if len(set(owners)) < len(owners):
            raise ConfigError("module: expected new parameters for each member, got those of another member again")
        self.values = torch.stack([torch.cat([p.detach().flatten() for p in own]) for own in self._parameters])
        self.grads = torch.zeros_like(self.values)
        self.is_weight = torch.cat(
            [torch.full_like(p.detach().flatten(), p.ndim > 1).bool() for p in self._parameters[0]]
        )
        for row, own in zip(self.values, self._parameters, strict=True):
            nn.utils.vector_to_parameters(row, own)

    def __getstate__(self) -> tuple[int, list[nn.Module]]:
        """For copies and pickles, which would not keep parameters the views that they are."""
        return self._n_outputs, self.modules

    def __setstate__(self, state: tuple[int, list[nn.Module]]) -> None:
        self._n_outputs, self.modules = state
        self._tie()

    def __call__(self, x: Tensor, *, training: bool = False, noise: Stream | None = None) -> Tensor:
        """``x [R, B, in] -> [R, B, out]``; see :class:`Network`."""
        if noise is None:
            return self._stacked(
                [module.train(training)(rows) for module, rows in zip(self.modules, x, strict=True)], x
            )
        outputs = []
        with torch.random.fork_rng():
            for (seed,), module, rows in zip(noise.seeds(1), self.modules, x, strict=True):
                torch.manual_seed(seed)
                outputs.append(_with_dropout(module.train(training))(rows))
        return self._stacked(outputs, x)

    def embed(self, x: Tensor) -> Tensor:
        """What the last linear layer of each sees, ``[R, B, in] -> [R, B, width]``; see :func:`last_inputs`."""
        return torch.stack([last_inputs(module.eval(), rows) for module, rows in zip(self.modules, x, strict=True)])

    def _stacked(self, outputs: Sequence[Tensor], x: Tensor) -> Tensor:
        """What modules gave for ``x [R, B, in]``, ``[R, B, out]``."""
        expected = (x.shape[1], self._n_outputs)
        for output in outputs:
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            if found != expected:
                raise ConfigError(f"module: expected outputs {expected} for {x.shape[1]} rows, got {found}")
        return torch.stack(list(outputs))

    def backward(self, loss: Tensor) -> None:
        """Differentiate ``loss [R]`` into ``grads``."""
        flat = [parameter for parameters in self._parameters for parameter in parameters]
        parts = torch.autograd.grad(loss.sum(), flat, allow_unused=True, materialize_grads=True)
        torch.cat([part.flatten() for part in parts], out=self.grads.view(-1))

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers, a run per row."""
        states = [module.state_dict() for module in self.modules]
        return {name: torch.stack([state[name] for state in states]) for name in states[0]}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave; parameters stay the views that they are."""
        for run, module in enumerate(self.modules):
            module.load_state_dict({name: rows[run] for name, rows in state.items()})

    def double(self) -> Modules:
        """A copy in float64."""
        twin = copy.deepcopy(self)
        for module in twin.modules:
            module.double()
        twin._tie()
        return twin


def last_inputs(module: nn.Module, x: Tensor) -> Tensor:
    """What the last ``nn.Linear`` that ``module`` calls is given for rows ``x [B, ...]``, ``[B, D]``.

    Where no layer is linear, ``x`` itself.
    """
    seen = [x]
    hooks = [
        part.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        for part in module.modules()
        if isinstance(part, nn.Linear)
    ]
    try:
        module(x)
    finally:
        for hook in hooks:
            hook.remove()
    return seen[-1].flatten(1)


def _checked(module: nn.Module) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise ConfigError(f"module: expected a torch.nn.Module, or what makes one, got {type(module).__name__}")
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ConfigError(f"module: expected parameters to train, got {type(module).__name__} without any")
    return module


def _with_dropout(module: nn.Module) -> nn.Module:
    """With its dropout layers, and only those, as in training."""
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.train()
    return module
