"""Products with Hessians of anyone's module, in float64 on a copy: of any loss, and of the entropy in closed form.

A Hessian of n parameters has n^2 entries and is never formed; its product with a vector costs about two backward passes
(Pearlmutter 1994, https://doi.org/10.1162/neco.1994.6.1.147). For a term that is a function of the outputs z alone it
falls into two parts,

    d2H/dw2 = J^T (d2H/dz2) J  +  sum_i dH/dz_i d2z_i/dw2,      J = dz/dw

the Gauss-Newton part, which sees the curvature of the term, and the residual part, which sees that of the network
(Schraudolph 2002, https://doi.org/10.1162/08997660260028683).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from entropic_rl.diagnostics.copied_loss import CopiedLoss
from entropic_rl.diagnostics.copies import random_state_kept
from entropic_rl.entropy import categorical_entropy, categorical_entropy_gradient, categorical_entropy_hvp
from entropic_rl.errors import ConfigError

__all__ = ["EntropyHessian", "LossHessian", "SymmetricProduct", "dense"]


class SymmetricProduct(Protocol):
    """A symmetric matrix that is known by its products.

    Attributes:
        n: rows.
    """

    @property
    def n(self) -> int:
        """How many rows."""

    def __call__(self, v: Tensor) -> Tensor:
        """The product with ``v [n]``, float64, ``[n]``."""


class LossHessian:
    """The Hessian of ``loss(module(*inputs))`` by all trainable parameters, laid side by side in the module's order.

    One graph is made when it is built; every product after that is one more backward pass through it.

    Args:
        module: parameters of float32 or float64; a copy in float64 is what is differentiated, so that the module, its
            gradients and buffers, the inputs and all random generators stay as they are.
        loss: of the module's output, a scalar.
        inputs: of the module; floating tensors are copied to float64.

    Attributes:
        sizes: name of each parameter -> its number of entries.
        value: the loss.
        gradient: ``[n]``.

    Raises:
        ConfigError: there is nothing to train, a parameter has no part in the loss, the loss is no finite scalar,
            precision is half, two calls differ (dropout in training mode), or there is no second derivative.
    """

    def __init__(self, module: nn.Module, loss: Callable[[Tensor], Tensor], *inputs: Any) -> None:
        with random_state_kept(module), torch.enable_grad():
            copied = CopiedLoss(module, loss, inputs)
            _, value = copied.evaluate()
            gradients = copied.gradients_of(value, create_graph=True)
            self._parameters = list(copied.trainable().values())
            self._gradients = list(gradients.values())
            self.sizes = {name: g.numel() for name, g in gradients.items()}
            self.value, self.gradient = float(value.detach()), _flat(self._gradients).detach()
            _check_twice(self._gradients)

    @property
    def n(self) -> int:
        """Parameters, counted one by one."""
        return len(self.gradient)

    def __call__(self, v: Tensor) -> Tensor:
        """The Hessian times ``v [n]``, ``[n]``."""
        return _second(self._gradients, self._parameters, _shaped(v, self._parameters))


class EntropyHessian:
    """The Hessian of the mean entropy of ``softmax(module(*inputs))`` by all trainable parameters, in two parts.

    What happens at the logits is in closed form (:func:`entropic_rl.entropy.categorical_entropy_hvp`); only the network
    itself is differentiated twice. Arguments and errors are those of :class:`LossHessian`; the output is logits
    ``[..., A]``, the mean is over all rows.
    """

    def __init__(self, module: nn.Module, *inputs: Any) -> None:
        with random_state_kept(module), torch.enable_grad():
            copied = CopiedLoss(module, _mean_entropy, inputs)
            logits, value = copied.evaluate()
            copied.gradients_of(value, create_graph=True)  # says what is wrong
            self._parameters = list(copied.trainable().values())
            self._logits, self.value = logits, float(value.detach())
            self._n_rows = logits[..., 0].numel()
            self._dummy = torch.zeros_like(logits, requires_grad=True)  # [..., A]; J v is a derivative by it
            self._pulled = _differentiated(logits, self._parameters, self._dummy)  # J^T dummy
            slope = categorical_entropy_gradient(logits.detach()) / self._n_rows
            self._gradients = _differentiated(logits, self._parameters, slope)  # J^T dH/dz
            self.gradient = _flat(self._gradients).detach()
            _check_twice(self._gradients)

    @property
    def n(self) -> int:
        """Parameters, counted one by one."""
        return len(self.gradient)

    def __call__(self, v: Tensor) -> Tensor:
        """The Hessian times ``v [n]``, ``[n]``: both parts."""
        return self.gauss_newton(v) + self.residual(v)

    def gauss_newton(self, v: Tensor) -> Tensor:
        """``J^T (d2H/dz2) J v``, ``[n]``."""
        (pushed,) = torch.autograd.grad(
            self._pulled, self._dummy, _shaped(v, self._parameters), retain_graph=True, allow_unused=True,
            materialize_grads=True,
        )  # fmt: skip
        bent = categorical_entropy_hvp(self._logits.detach(), pushed) / self._n_rows
        parts = torch.autograd.grad(
            self._logits, self._parameters, bent, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return _flat(parts)

    def residual(self, v: Tensor) -> Tensor:
        """``sum_i dH/dz_i (d2z_i/dw2) v``, ``[n]``."""
        return _second(self._gradients, self._parameters, _shaped(v, self._parameters))


def dense(product: SymmetricProduct) -> Tensor:
    """All of the matrix, ``[n, n]``, a product per column: for small ones."""
    return torch.stack([product(unit) for unit in torch.eye(product.n, dtype=torch.float64)], 1)


def _mean_entropy(logits: Tensor) -> Tensor:
    if logits.ndim < 1 or not logits.is_floating_point():
        raise ConfigError(f"module: expected logits [..., A] as its output, got shape {tuple(logits.shape)}; "
                          "return what softmax is taken of")  # fmt: skip
    return categorical_entropy(logits).mean()


def _differentiated(outputs: Tensor, parameters: Sequence[Tensor], weights: Tensor) -> list[Tensor]:
    """``J^T weights`` by parameter, differentiable again."""
    return list(
        torch.autograd.grad(
            outputs, parameters, weights, create_graph=True, allow_unused=True, materialize_grads=True
        )
    )  # fmt: skip


def _second(gradients: Sequence[Tensor], parameters: Sequence[Tensor], v: Sequence[Tensor]) -> Tensor:
    """Derivative of ``sum gradients . v`` by the parameters, ``[n]``."""
    curved = [(g, part) for g, part in zip(gradients, v, strict=True) if g.requires_grad]
    if not curved:  # a loss that is linear in every parameter
        return torch.zeros_like(_flat(v))
    parts = torch.autograd.grad(
        [g for g, _ in curved], parameters, [part for _, part in curved], retain_graph=True, allow_unused=True,
        materialize_grads=True,
    )  # fmt: skip
    return _flat(parts)


def _check_twice(gradients: Sequence[Tensor]) -> None:
    """Refuse functions that are ``once_differentiable``: where their gradient leads to no parameter again, autograd
    leaves them out without a word."""
    waiting: list[Any] = [g.grad_fn for g in gradients if g.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        if node.name().endswith("Error"):
            raise ConfigError(
                "module and loss: expected a second derivative, got a function that is once_differentiable; write its "
                "backward in torch operations and drop that mark"
            )
        found = {following for following, _ in node.next_functions if following is not None} - seen
        seen |= found
        waiting.extend(found)


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def _shaped(v: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    n = sum(p.numel() for p in parameters)
    if v.shape != (n,):
        raise ConfigError(f"v: expected a vector of {n} numbers, one per parameter, got shape {tuple(v.shape)}; "
                          "flatten it in the module's order")  # fmt: skip
    pieces = v.to(parameters[0]).split([p.numel() for p in parameters])
    return [piece.view_as(p) for piece, p in zip(pieces, parameters, strict=True)]
