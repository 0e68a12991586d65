"""A module and a loss of its output, copied to float64, with what is wrong with them said in one line."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from entropic_rl.diagnostics.copies import double_copy
from entropic_rl.errors import ConfigError, first_line

__all__ = ["CopiedLoss"]

_SAME = 1e-9  # relative difference of two calls from which on a module counts as random


class CopiedLoss:
    """The loss as a function of the parameters of a copy, which begins every call in the same state."""

    def __init__(self, module: nn.Module, loss: Callable[[Tensor], Tensor], inputs: tuple[Any, ...]) -> None:
        if not isinstance(module, nn.Module):
            raise ConfigError(f"module: expected a torch.nn.Module, got {type(module).__name__}; wrap functions in one")
        if not any(True for _ in module.parameters()):
            kind = type(module).__name__
            raise ConfigError(
                f"module: expected parameters to check, got none in {kind}; pass the layers that are trained"
            )
        self._module = double_copy(module)
        self._loss = double_copy(loss, "loss") if isinstance(loss, nn.Module) else loss
        self._inputs = [_double(x) for x in inputs]
        self._start = [(t, t.detach().clone()) for t in (*self._module.parameters(), *self._module.buffers())]
        first, again = float(self().detach()), float(self().detach())
        if not math.isfinite(first):
            raise ConfigError(f"loss: expected a finite number, got {first}; look for what overflows or divides by 0")
        if abs(first - again) > _SAME * max(abs(first), abs(again)):
            raise ConfigError(
                f"module: expected the same loss from two calls, got {first:g} and {again:g}; switch randomness off, "
                "dropout by module.eval()"
            )

    def __call__(self, name: str = "", shift: Tensor | None = None) -> Tensor:
        """The loss with ``shift`` added to the parameter ``name``."""
        return self.evaluate(name, shift)[1]

    def evaluate(self, name: str = "", shift: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The module's output and the loss, as :meth:`__call__`."""
        with torch.no_grad():
            for tensor, value in self._start:
                tensor.copy_(value)
            if shift is not None:
                self._module.get_parameter(name).add_(shift)
        try:
            with torch.enable_grad():  # in differences, too: some modules differentiate in their forward pass
                output = _one_tensor(self._module(*[x.clone() if isinstance(x, Tensor) else x for x in self._inputs]))
                loss = self._loss(output)
        except (RuntimeError, TypeError, IndexError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(
                f"module and loss: expected to run in float64, got {first_line(error)!r}; give a function of the "
                "output alone, and convert what it holds, such as targets, with .double()"
            ) from error
        if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.is_complex():
            got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ConfigError(f"loss: expected one real number as a tensor, got {got}; take the mean or the sum")
        return output, loss.reshape(())

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that are differentiated, by name, in the module's order."""
        named = {name: p for name, p in self._module.named_parameters() if p.requires_grad and p.numel()}
        if not named:
            raise ConfigError(
                "module: expected parameters to check, got only frozen ones; call requires_grad_() on some"
            )
        return named

    def gradients(self) -> dict[str, Tensor]:
        """Autograd's, by the name of the parameter."""
        return {name: gradient.detach() for name, gradient in self.gradients_of(self()).items()}

    def gradients_of(self, loss: Tensor, *, create_graph: bool = False) -> dict[str, Tensor]:
        """Autograd's of a ``loss`` that :meth:`evaluate` gave, differentiable with ``create_graph``."""
        named = self.trainable()
        found: tuple[Tensor | None, ...] = (None,) * len(named)
        if loss.requires_grad:
            try:
                found = torch.autograd.grad(loss, list(named.values()), allow_unused=True,
                                            create_graph=create_graph)  # fmt: skip
            except RuntimeError as error:
                raise ConfigError(
                    f"module: expected a backward pass, got {first_line(error)!r}; leave out work in place on "
                    "what gradients need, and make targets float64"
                ) from error
        without = [repr(name) for name, gradient in zip(named, found, strict=True) if gradient is None]
        if without:
            raise ConfigError(
                f"loss: expected to depend on every trainable parameter, got none of {', '.join(without[:5])}"
                f"{' and others' if len(without) > 5 else ''} in it; use them, or freeze them by "
                "requires_grad_(False)"
            )
        return {name: g for name, g in zip(named, found, strict=True) if g is not None}


def _double(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return x
    if x.is_floating_point() and x.dtype.itemsize < 4:
        kind = str(x.dtype).removeprefix("torch.")
        raise ConfigError(f"inputs: expected float32 or float64, got {kind}; convert them with .float()")
    return x.detach().to(torch.float64 if x.is_floating_point() else x.dtype, copy=True)


def _one_tensor(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    raise ConfigError(
        f"module: expected one tensor as its output, got {type(output).__name__}; wrap the module so that it returns "
        "what the loss needs"
    )
