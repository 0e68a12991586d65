"""Gradients of anyone's module and loss, held to central differences in float64, parameter by parameter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from entropic_rl.diagnostics.copied_loss import CopiedLoss
from entropic_rl.diagnostics.copies import random_state_kept
from entropic_rl.diagnostics.differences import STEP, central_difference, relative_error
from entropic_rl.diagnostics.tables import error_text, number_text, table
from entropic_rl.errors import ConfigError
from entropic_rl.streams import Stream

__all__ = ["GradientCheck", "ParameterCheck", "gradient_check"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCheck:
    """The derivative along one direction of one parameter."""

    name: str
    """Of the parameter, as in ``module.named_parameters()``."""
    along: str
    """``direction 1`` of unit length, or ``entry [0, 2]``."""
    expected: float
    """By central differences."""
    got: float
    """By autograd."""
    relative_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientCheck:
    """What was found, the worst derivative of each parameter; ``print`` shows it."""

    worst: tuple[ParameterCheck, ...]
    tolerance: float
    n_checks: int
    """Derivatives that were compared."""

    @property
    def failures(self) -> tuple[ParameterCheck, ...]:
        """Parameters whose gradient is wrong, in the module's order."""
        return tuple(check for check in self.worst if not check.relative_error <= self.tolerance)

    @property
    def passed(self) -> bool:
        """Whether every gradient agrees."""
        return not self.failures

    def __str__(self) -> str:
        rows = [
            [check.name, check.along, number_text(check.expected), number_text(check.got),
             error_text(check.relative_error, self.tolerance), "WRONG" if check in self.failures else "right"]
            for check in self.worst
        ]  # fmt: skip
        names = ", ".join(check.name for check in self.failures)
        verdict = f"wrong: {names}" if names else "all right"
        head = ["parameter", "worst along", "expected", "got", "relative error", "gradient"]
        return f"{table(head, rows)}\n{self.n_checks} derivatives of {len(self.worst)} parameters: {verdict}"


def gradient_check(
    module: nn.Module,
    loss: Callable[[Tensor], Tensor],
    *inputs: Any,
    n_directions: int = 3,
    n_entries: int = 3,
    seed: int = 0,
    step: float = STEP,
    tolerance: float = 1e-5,
) -> GradientCheck:
    """Hold autograd's gradients of ``loss(module(*inputs))`` to central differences, for every trainable parameter.

    Along random directions of unit length, which see all entries at once, and at single entries: that with the largest
    gradient and random ones. A derivative that disagrees is asked again with a tenth and a hundredth of the step, for
    the kinks of ReLUs: it passes if any of the three agrees. Works on a float64 copy, in the module's mode, so that the
    module, its gradients and buffers, the inputs and all generators stay as they are.

    Args:
        module: parameters of float32 or float64; those with ``requires_grad=False`` are left out.
        loss: of the module's output, a scalar; what it holds must work with float64. It is given the output of the
            copy, so a term that reads the module itself is not checked.
        inputs: of the module; floating tensors are copied to float64.
        n_directions: per parameter, >= 1.
        n_entries: per parameter, >= 0; all entries where there are no more.
        seed: of the directions and entries.
        step: of the differences, in units of the parameters.
        tolerance: largest relative error that passes. Derivatives below 1e-5 of the loss are compared with that share,
            which is as much as float64 differences can see.

    Raises:
        ConfigError: there is nothing to train, a parameter has no part in the loss, the output is no tensor, the loss
            is no finite scalar, precision is half, or two calls differ (dropout in training mode).
    """
    if n_directions < 1 or n_entries < 0 or not (0.0 < step < 1.0 and 0.0 < tolerance < 1.0):
        raise ConfigError(
            "n_directions, n_entries, step, tolerance: expected at least 1 and 0, and numbers between 0 and 1, got "
            f"{n_directions}, {n_entries}, {step}, {tolerance}; the defaults are 3, 3, 1e-4 and 1e-5"
        )
    if not 0 <= seed < 2**64:
        raise ConfigError(f"seed: expected an integer from 0 to 2^64 - 1, got {seed}; 0 is the default")
    with random_state_kept(module), torch.enable_grad():
        function = CopiedLoss(module, loss, inputs)
        gradients = function.gradients()
        size = function().detach().abs()
        checks: list[ParameterCheck] = []
        n_checks = 0
        for i, (name, gradient) in enumerate(gradients.items()):
            stream = Stream([seed], f"gradient check {i}")
            own = [
                _compare(function, name, along, direction, gradient, size=size, step=step, tolerance=tolerance)
                for along, direction in _directions(gradient, stream, n_directions, n_entries)
            ]
            n_checks += len(own)
            checks.append(max(own, key=lambda check: check.relative_error))
    return GradientCheck(worst=tuple(checks), tolerance=tolerance, n_checks=n_checks)


def _directions(gradient: Tensor, stream: Stream, n_directions: int, n_entries: int) -> Iterator[tuple[str, Tensor]]:
    """Of unit length, of the parameter's shape, with their names."""
    n = gradient.numel()
    for k in range(n_directions if n > 1 else 0):
        drawn = stream.normal(n)[0].to(gradient)
        yield f"direction {k + 1}", (drawn / drawn.norm()).reshape(gradient.shape)
    places = [int(gradient.abs().argmax()), *stream.permutation(n)[0].tolist()]
    for place in list(dict.fromkeys(places))[: max(n_entries, 1 if n == 1 else 0)]:
        entry = torch.zeros(n, dtype=gradient.dtype, device=gradient.device)
        entry[place] = 1.0
        index = [int(i) for i in torch.unravel_index(torch.tensor(place), gradient.shape)]
        yield f"entry {index}", entry.reshape(gradient.shape)


def _compare(
    function: CopiedLoss, name: str, along: str, direction: Tensor, gradient: Tensor, *, size: Tensor, step: float,
    tolerance: float,
) -> ParameterCheck:  # fmt: skip
    got = (gradient * direction).sum()
    found = []
    for shorter in (1.0, 0.1, 0.01):
        expected, _ = central_difference(lambda t: function(name, t * direction).detach(), step * shorter)
        error = relative_error(expected, got, size=size)
        error = math.inf if math.isnan(error) else error
        found.append(ParameterCheck(name=name, along=along, expected=float(expected), got=float(got),
                                    relative_error=error))  # fmt: skip
        if error <= tolerance:
            break
    return min(found, key=lambda check: check.relative_error)
