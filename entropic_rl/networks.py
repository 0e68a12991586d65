"""Networks of R runs at once: a run is one row of one matrix.

All parameters of all runs live in ``values [R, P]`` and their gradients in ``grads [R, P]``; each named parameter is a
view ``[R, *shape]`` of them. Layers are batched matrix products over R, so R small networks train in the time of a
few, and clipping, optimizing, saving or freezing one run is an operation on one row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from entropic_rl.streams import Stream

__all__ = ["ACTIVATIONS", "MLP", "ParameterRows", "linear", "orthogonal"]


_LARGE = 2**17  # numbers, from which the time of the arithmetic outweighs that of the call


class _Tanh(torch.autograd.Function):
    """``tanh(x) = 2 sigmoid(2x) - 1``: absolute error 1.2e-7 in float32, in a third of the time of torch.tanh on CPU,
    where that was the most expensive part of an update of many runs."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.sigmoid(x + x).mul_(2.0).sub_(1.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.addcmul(grads[0], grads[0] * y, y, value=-1.0)  # grad (1 - y^2), in two passes


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent; for large tensors on CPU faster than torch's own, for small ones that is."""
    if x.device.type != "cpu" or x.numel() < _LARGE:
        return torch.tanh(x)
    return cast(Tensor, _Tanh.apply(x))  # type: ignore[no-untyped-call]


# They may overwrite what they are given.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": tanh,
    "relu": torch.relu_,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
}


class ParameterRows:
    """Named parameters of R runs stored as rows.

    Args:
        shapes: name -> shape of one run's parameter, without the run axis.
        n_runs: R.
        device: where they live.
        dtype: their type.

    Attributes:
        values: ``[R, P]``, not tracked by autograd; optimizers write here.
        grads: ``[R, P]``, the gradient that :meth:`backward` last computed.
        observer: told of every layer's outputs, ``(layer, [R, ..., units], activation)``, if there is one.
        inner_dtype: in which an :class:`MLP` computes from hidden layer to hidden layer, if it is another than that of
            the parameters.
    """

    observer: Callable[[str, Tensor, str | None], None] | None = None
    inner_dtype: torch.dtype | None = None

    NO_STATE = ("_shapes", "_views", "grads")

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        n_runs: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        n_params = sum(math.prod(shape) for shape in shapes.values())
        self._shapes = dict(shapes)
        self._hold(torch.zeros(n_runs, n_params, device=device, dtype=dtype))

    def _hold(self, values: Tensor) -> None:
        self.values, self.grads = values, torch.zeros_like(values)
        self._views: dict[str, Tensor] = {}
        start = 0
        for name, shape in self._shapes.items():
            stop = start + math.prod(shape)
            self._views[name] = values[:, start:stop].view(len(values), *shape).requires_grad_()
            start = stop

    def __getstate__(self) -> tuple[dict[str, tuple[int, ...]], Tensor]:
        """For copies and pickles, which would not keep views the views that they are."""
        return self._shapes, self.values

    def __setstate__(self, state: tuple[dict[str, tuple[int, ...]], Tensor]) -> None:
        self._shapes, values = state
        self._hold(values)

    def __getitem__(self, name: str) -> Tensor:
        return self._views[name]

    def __contains__(self, name: object) -> bool:
        return name in self._views

    def backward(self, loss: Tensor) -> None:
        """Differentiate ``loss [R]`` into ``grads``; each row gets the gradient of its own run's loss.

        The sum over runs is what is differentiated: no run's loss depends on another run's parameters.
        """
        self.gradient(loss, out=self.grads)

    def gradient(self, loss: Tensor, *, out: Tensor | None = None, retain_graph: bool = False) -> Tensor:
        """The gradient as a tensor of its own, or as ``out [R, P]``; ``retain_graph`` if another one is to follow."""
        views = list(self._views.values())
        parts = torch.autograd.grad(
            loss.sum(), views, allow_unused=True, materialize_grads=True, retain_graph=retain_graph
        )
        return torch.cat([part.flatten(1) for part in parts], 1, out=out)

    def saw(self, layer: str, outputs: Tensor, activation: str | None = None) -> Tensor:
        """``outputs [R, ..., units]`` of a layer as they are, shown to the observer."""
        if self.observer is not None:
            self.observer(layer, outputs, activation)
        return outputs

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one run's parameters, by name, in the order of the columns."""
        return dict(self._shapes)

    def take(self, rows: Tensor, dtype: torch.dtype) -> ParameterRows:
        """Copies of ``rows [T]``, as often as they are named, in ``dtype``."""
        twin = ParameterRows(self._shapes, len(rows), device=self.values.device, dtype=dtype)
        twin.inner_dtype = self.inner_dtype
        twin.values.copy_(self.values[rows])
        return twin

    def named(self) -> dict[str, Tensor]:
        """Detached views by name, ``[R, *shape]`` each."""
        return {name: view.detach() for name, view in self._views.items()}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy parameters in, by name; names and shapes must be exactly ours.

        Raises:
            ValueError: naming what is missing, unknown, or of another shape.
        """
        copy_exactly(self._views, tensors)


@dataclass(frozen=True, slots=True)
class MLP:
    """A stack of linear layers with ``activation`` between them (and after the last, if ``activate_last``).

    Weights are ``[R, in, out]``, biases ``[R, 1, out]``; the names are ``{name}.{i}.weight`` and ``{name}.{i}.bias``.
    """

    name: str
    sizes: tuple[int, ...]
    activation: str = "tanh"
    activate_last: bool = False

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter shapes of one run, by name."""
        shapes: dict[str, tuple[int, ...]] = {}
        for i, (n_in, n_out) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            shapes[f"{self.name}.{i}.weight"] = (n_in, n_out)
            shapes[f"{self.name}.{i}.bias"] = (1, n_out)
        return shapes

    def activates(self, i: int) -> bool:
        """Whether the activation follows layer i."""
        return i < len(self.sizes) - 2 or self.activate_last

    def __call__(self, params: ParameterRows, x: Tensor) -> Tensor:
        """``x [R, B, in] -> [R, B, out]``."""
        activate = ACTIVATIONS[self.activation]
        n_layers = len(self.sizes) - 1
        for i in range(n_layers):
            weight, bias, activation = params[f"{self.name}.{i}.weight"], params[f"{self.name}.{i}.bias"], None
            if params.inner_dtype is not None:
                dtype = params.inner_dtype if i > 0 and self.activates(i) else weight.dtype
                x, weight, bias = (part.to(dtype) for part in (x, weight, bias))
            x = linear(x, weight, bias)
            if self.activates(i):
                x, activation = activate(x), self.activation
            params.saw(f"{self.name}.{i}", x, activation)
        return x if params.inner_dtype is None else x.to(params.values.dtype)

    @torch.no_grad()
    def initialise(self, params: ParameterRows, stream: Stream, *, gain: float, last_gain: float) -> None:
        """Orthogonal weights of the given gains and zero biases, each run from its own stream.

        Source: Saxe et al. (2014), https://arxiv.org/abs/1312.6120.
        """
        n_layers = len(self.sizes) - 1
        for i in range(n_layers):
            weight = params[f"{self.name}.{i}.weight"]
            weight.copy_(orthogonal(stream, *weight.shape[1:]) * (last_gain if i == n_layers - 1 else gain))
            params[f"{self.name}.{i}.bias"].zero_()

    @torch.no_grad()
    def initialise_uniform(self, params: ParameterRows, stream: Stream) -> None:
        """Weights and biases uniform within ``1 / sqrt(inputs)``, as ``torch.nn.Linear`` begins."""
        for i, n_in in enumerate(self.sizes[:-1]):
            for name in (f"{self.name}.{i}.weight", f"{self.name}.{i}.bias"):
                params[name].copy_((2.0 * stream.uniform(*params[name].shape[1:]) - 1.0) / n_in**0.5)


class _NarrowLinear(torch.autograd.Function):
    """:func:`linear` to 2 to 8 columns, with the weights laid out, and their gradient computed, transposed: on CPU the
    libraries' products are several times slower with such a matrix than with its transpose."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.baddbmm(bias, x, weight.mT.contiguous().mT)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (grad,), (x, weight) = grads, ctx.saved_tensors
        return torch.bmm(grad, weight.mT), torch.bmm(grad.mT, x).mT, grad.sum(1, keepdim=True)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x [R, B, in] @ weight [R, in, out] + bias [R, 1, out]``.

    Products with a single column, every critic's head, take another path in the libraries below for R = 1 than for
    R > 1, and round differently; an explicit sum does not. A few other widths (6 columns, say) still may.
    """
    if weight.shape[-1] == 1:
        return bias + (x * weight.mT).sum(-1, keepdim=True)
    if weight.shape[-1] <= 8 and x.numel() >= _LARGE and x.device.type == "cpu":
        return cast(Tensor, _NarrowLinear.apply(x, weight, bias))  # type: ignore[no-untyped-call]
    return torch.baddbmm(bias, x, weight)


def orthogonal(stream: Stream, rows: int, columns: int) -> Tensor:
    """``[R, rows, columns]`` with orthonormal rows or columns, uniform over such matrices."""
    gaussian = stream.normal(max(rows, columns), min(rows, columns))
    q, r = torch.linalg.qr(gaussian)
    q = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    return q if rows >= columns else q.mT


@torch.no_grad()
def copy_exactly(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Copy tensors by name, refusing any difference in names or shapes.

    Raises:
        ValueError: naming what is missing, unknown, or of another shape.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in own.items()}
    came = {name: tuple(tensor.shape) for name, tensor in given.items()}
    if wanted != came:
        differing = sorted(n for n in wanted.keys() | came.keys() if wanted.get(n) != came.get(n))
        name = differing[0]
        raise ValueError(
            f"parameters do not fit this network: {name} should have shape {wanted.get(name, 'none')}, "
            f"got {came.get(name, 'none')} ({len(differing)} differ)"
        )
    for name, tensor in own.items():
        tensor.copy_(given[name])
