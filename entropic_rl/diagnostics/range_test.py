"""Which learning rate? A few steps at a rate that grows, and everything put back: the range test.

Source: Smith (2017), Cyclical learning rates for training neural networks, section 3.3,
https://arxiv.org/abs/1506.01186; the growth is exponential, as is usual since.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

from entropic_rl.diagnostics.restoring import restored
from entropic_rl.errors import ConfigError

__all__ = ["RangeTest", "range_test", "read_range"]

_WIDTH = 0.03  # of the smoothing, in steps per step of the test
_MEMORY = 0.9  # of the running mean that says when to stop
_FALL = 0.02  # of the first loss, that a fall has to be to be one
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RangeTest:
    """Losses by learning rate.

    Attributes:
        rates: ``[T]``, growing.
        losses: ``[T]``, of the minibatches, each before its step; all finite.
        smoothed: ``[T]``, by a Gaussian along the logarithm of the rate, which moves nothing.
        steepest: rate at which the smoothed loss falls fastest per decade: a good one to train with. None if it does
            not fall.
        lowest: rate of the least smoothed loss, beyond which it rises: the largest to think of. None as well.
        diverged: rate at which the loss was not finite or far above its least; None if it never was.
    """

    rates: Array
    losses: Array
    smoothed: Array
    steepest: float | None
    lowest: float | None
    diverged: float | None

    def __str__(self) -> str:
        """The suggestion in a sentence."""
        tried = f"from {self.rates[0]:.3g} to {self.rates[-1]:.3g}"
        if self.steepest is None:
            return f"the loss falls at no learning rate {tried}"
        end = f"; it diverges at {self.diverged:.3g}" if self.diverged is not None else ""
        return (
            f"the loss falls fastest at a learning rate of {self.steepest:.3g} and is lowest at {self.lowest:.3g}{end}"
        )


def range_test(
    module: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[Any, Any]],
    *,
    start: float = 1e-6,
    end: float = 10.0,
    n_steps: int = 100,
    stop_at: float = 4.0,
) -> RangeTest:
    """Train for some steps at a learning rate that grows from step to step, read the losses, and put everything back.

    Weights, buffers, gradients, the optimizer's state and all generators are bit for bit what they were
    (:func:`~entropic_rl.diagnostics.restoring.restored`), also if it is interrupted.

    Args:
        module: in the mode it is to be trained in.
        loss: gives a number from ``module(inputs)`` and targets.
        optimizer: of the module's parameters, of any kind; groups keep the ratios of their rates.
        batches: pairs (inputs, targets); gone through again when they end.
        start: the first rate, > 0.
        end: the last one.
        n_steps: T, at least 10.
        stop_at: multiple of the least mean loss so far at which it stops; infinity for never.

    Raises:
        ConfigError: an argument is out of range, there are no batches, the loss is no number or the optimizer has none
            of the module's parameters.
    """
    _check_range(start, end, n_steps, stop_at)
    _check_optimizer(module, optimizer)
    rates = np.geomspace(start, end, n_steps)
    losses: list[float] = []
    with restored(module, optimizer, batches):
        ratios = _ratios(optimizer)
        level = least = math.inf
        for rate, (inputs, target) in zip(rates, _endless(batches), strict=False):
            for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
                group["lr"] = _like(group["lr"], rate * ratio)
            value = _step(module, loss, optimizer, inputs, target)
            losses.append(value)
            level = value if len(losses) == 1 else _MEMORY * level + (1.0 - _MEMORY) * value
            least = min(least, level)
            if not math.isfinite(value) or value > stop_at * least:
                break
    return read_range(rates[: len(losses)], losses, stop_at=stop_at)


def read_range(rates: ArrayLike, losses: ArrayLike, *, stop_at: float = 4.0) -> RangeTest:
    """What losses ``[T]`` at growing ``rates [T]`` say; what follows a loss that is not finite is left out.

    Raises:
        ConfigError: fewer than three losses are finite.
    """
    rates, losses = np.asarray(rates, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    lost = ~np.isfinite(losses)
    n = int(lost.argmax()) if lost.any() else len(losses)
    if n < 3:
        raise ConfigError(f"range test: expected at least 3 finite losses, got {n}; begin at a lower learning rate")
    smoothed = gaussian_filter1d(losses[:n], max(_WIDTH * len(rates), 1.0), mode="nearest")
    above = losses[:n] > stop_at * np.minimum.accumulate(smoothed)
    diverged = rates[int(above.argmax())] if above.any() else rates[n] if n < len(rates) else None
    # What a loss that explodes leaves in its neighbours is no part of the fall before it.
    bottom = int(smoothed.argmin())
    steepest = lowest = None
    if smoothed[0] - smoothed[bottom] > _FALL * abs(smoothed[0]):
        slope = np.gradient(smoothed, np.log10(rates[:n]))
        steepest, lowest = float(rates[int(slope[: bottom + 1].argmin())]), float(rates[bottom])
    found = None if diverged is None else float(diverged)
    return RangeTest(rates[:n], losses[:n], smoothed, steepest, lowest, found)


def _check_range(start: float, end: float, n_steps: int, stop_at: float) -> None:
    if not 0.0 < start < end < math.inf:
        raise ConfigError(f"start, end: expected 0 < start < end, finite, got {start:g} and {end:g}")
    if n_steps < 10:
        raise ConfigError(f"n_steps: expected at least 10, got {n_steps}")
    if not stop_at > 1.0:
        raise ConfigError(f"stop_at: expected more than 1, got {stop_at:g}")


def _check_optimizer(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    own = {id(parameter) for parameter in module.parameters()}
    if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
        raise ConfigError(
            f"optimizer: expected one of the module's parameters, got {type(optimizer).__name__} without any of them"
        )


def _ratios(optimizer: torch.optim.Optimizer) -> list[float]:
    """Rates of the groups over that of the first one."""
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    if not rates[0] > 0.0:
        raise ConfigError(f"optimizer: expected a learning rate > 0 of its first group, got {rates[0]:g}")
    return [rate / rates[0] for rate in rates]


def _like(old: Any, rate: float) -> Any:
    return torch.full_like(old, rate) if isinstance(old, Tensor) else float(rate)


def _endless(batches: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    while True:
        n = 0
        for batch in batches:
            if not isinstance(batch, tuple | list) or len(batch) != 2:
                raise ConfigError(f"batches: expected pairs (inputs, targets), got {type(batch).__name__}")
            n += 1
            yield batch[0], batch[1]
        if not n:
            raise ConfigError("batches: expected some, got none (an iterator can be gone through once: give a list)")


def _step(module: nn.Module, loss: Any, optimizer: torch.optim.Optimizer, inputs: Any, target: Any) -> float:
    """One step; the loss before it."""

    def closure() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            value = loss(module(inputs), target)
            if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ConfigError(f"loss: expected one number that can be differentiated, got {got}")
            value.backward()
        return value.item()

    return float(optimizer.step(closure))
