"""Numbers of R runs that move during training, each as one device tensor ``[R]``, read at every update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from entropic_rl.devices import brought
from entropic_rl.networks import copy_exactly
from entropic_rl.optimizers import Adam
from entropic_rl.schedules import Schedule, TargetEntropy, parse_coefficient

__all__ = ["Coefficients", "Controller", "DualAscent", "EntropyCoefficient", "ProportionalIntegral", "ScheduledValue"]


class ScheduledValue:
    """A coefficient per run: the entropy weight, a clip range, a learning rate.

    The value lives in one tensor that is overwritten in place, so that compiled or captured code keeps reading the
    right memory; nothing is ever skipped because a coefficient happens to be 0.

    Args:
        specs: R numbers or schedule texts (:class:`~entropic_rl.schedules.Schedule`).
        device: where the values live.
        dtype: their type.
    """

    def __init__(
        self, specs: Sequence[float | str], *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self._schedules = [Schedule.parse(spec) for spec in specs]
        self._constant = all(schedule.kind == "constant" for schedule in self._schedules)
        self.value = torch.empty(len(specs), dtype=dtype, device=device)
        self._fill(0.0)

    def at(self, progress: float) -> Tensor:
        """The values ``[R]`` when the fraction ``progress`` of the env steps is done (always the same tensor)."""
        if not self._constant:
            self._fill(progress)
        return self.value

    def _fill(self, progress: float) -> None:
        values = [schedule.at(progress) for schedule in self._schedules]
        self.value.copy_(brought(values, self.value.device, self.value.dtype))


class Coefficients:
    """Every number in which the runs of a batch may differ, by name.

    Args:
        configs: one settings object per run.
        names: their fields that are numbers or schedules.
        device: where the values live.
        dtype: their type.
    """

    def __init__(
        self,
        configs: Sequence[Any],
        names: Sequence[str],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._values = {
            name: ScheduledValue([getattr(config, name) for config in configs], device=device, dtype=dtype)
            for name in names
        }

    def at(self, progress: float) -> dict[str, Tensor]:
        """All values, ``[R]`` each, when the fraction ``progress`` of the env steps is done."""
        return {name: value.at(progress) for name, value in self._values.items()}

    @property
    def now(self) -> dict[str, Tensor]:
        """All values as :meth:`at` last left them, ``[R]`` each."""
        return {name: value.value for name, value in self._values.items()}


class Controller(Protocol):
    """Steers the logarithm of R coefficients so that a measured level meets its target."""

    def log_coefficient(self) -> Tensor:
        """``[R]``, now."""

    def step(self, error: Tensor, learning_rate: Tensor) -> None:
        """Take in ``error [R]``, target minus level in nats: where it is positive the coefficient has to rise."""

    def state_dict(self) -> dict[str, Tensor]:
        """Every tensor needed to continue exactly."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave."""


class DualAscent:
    """Gradient ascent on the dual problem, by Adam on log alpha: what soft actor-critic does once per gradient step.

    The loss is ``log alpha * (level - target)``, as in Stable-Baselines3, whose gradient is the error itself.
    Source: Haarnoja et al. (2018), section 5, https://arxiv.org/abs/1812.05905.

    Args:
        initial: ``[R]``, the coefficients to begin with, > 0.
    """

    def __init__(self, initial: Tensor) -> None:
        self._log = initial.log().unsqueeze(1)
        self._optimizer = Adam(self._log, eps=1e-8)

    def log_coefficient(self) -> Tensor:
        return self._log.squeeze(1)

    def step(self, error: Tensor, learning_rate: Tensor) -> None:
        self._optimizer.step(self._log, -error.unsqueeze(1), learning_rate)

    def state_dict(self) -> dict[str, Tensor]:
        return {"log": self._log, **self._optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        copy_exactly(self.state_dict(), state)


class ProportionalIntegral:
    """A proportional-integral controller of the log coefficient: for agents with few, large updates.

    ``log c = I + k_p e``, ``I <- clip(I + k_i e)`` with the relative error ``e = clip(error / scale, -1, 1)``. Dual
    ascent is an integrator alone: steps small enough not to swing take longer than a training has updates.

    Args:
        initial: ``[R]``, the coefficients to begin with, > 0.
        scale: ``[R]``, nats that count as an error of 1.
    """

    LOWEST, HIGHEST = math.log(1e-6), math.log(1e2)

    def __init__(self, initial: Tensor, scale: Tensor, *, k_p: float = 3.0, k_i: float = 0.5) -> None:
        self._k_p, self._k_i, self._scale = k_p, k_i, scale
        self._integral = initial.log()
        self._error = torch.zeros_like(initial)

    def log_coefficient(self) -> Tensor:
        return self._integral + self._k_p * self._error

    def step(self, error: Tensor, learning_rate: Tensor) -> None:
        self._error = (error / self._scale).clamp(-1.0, 1.0)
        self._integral = (self._integral + self._k_i * self._error).clamp(self.LOWEST, self.HIGHEST)

    def state_dict(self) -> dict[str, Tensor]:
        return {"integral": self._integral, "error": self._error}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        copy_exactly(self.state_dict(), state)


class EntropyCoefficient:
    """The entropy weight of R runs: constants, schedules and steered ones side by side.

    Args:
        specs: R of what :func:`~entropic_rl.schedules.parse_coefficient` reads.
        target: nats that ``auto`` aims at.
        controller: of the steered ones; gets the initial coefficients ``[R]`` and the targets ``[R]``.
        initial: what steered ones begin with if they do not say.
        divergence: whether targets are of a divergence, whose level is its negative.
        device: where the values live.
        dtype: their type.

    Attributes:
        value: ``[R]``, the same tensor always.
        target: ``[R]`` of the level that is measured; NaN for runs without one.
    """

    def __init__(
        self,
        specs: Sequence[float | str],
        *,
        target: float,
        controller: type[DualAscent] | type[ProportionalIntegral],
        initial: float,
        divergence: bool = False,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        parsed = [parse_coefficient(spec) for spec in specs]
        steered = [spec if isinstance(spec, TargetEntropy) else None for spec in parsed]
        schedules = [0.0 if isinstance(spec, TargetEntropy) else str(spec) for spec in parsed]
        self._scheduled = ScheduledValue(schedules, device=device, dtype=dtype)
        nats = [math.nan if s is None else target if s.nats is None else s.nats for s in steered]
        starts = [1.0 if s is None else s.initial or initial for s in steered]
        self.target = torch.tensor(nats, dtype=dtype, device=device) * (-1.0 if divergence else 1.0)
        self._is_steered = torch.tensor([s is not None for s in steered], device=device)
        self._any_steered = any(s is not None for s in steered)
        start = torch.tensor(starts, dtype=dtype, device=device)
        self.controller: Controller
        if controller is DualAscent:
            self.controller = DualAscent(start)
        else:
            self.controller = ProportionalIntegral(start, self.target.abs().clamp(min=0.1).nan_to_num(1.0))
        self.value = torch.empty_like(start)
        self.at(0.0)

    def at(self, progress: float) -> Tensor:
        """The values ``[R]`` when the fraction ``progress`` of the env steps is done."""
        self.value.copy_(self._scheduled.at(progress))
        if self._any_steered:
            self.value.copy_(torch.where(self._is_steered, self.controller.log_coefficient().exp(), self.value))
        return self.value

    def steer(self, level: Tensor, learning_rate: Tensor) -> None:
        """Take in a measured ``level [R]`` in nats; the values follow at the next :meth:`at`."""
        if self._any_steered:
            error = (self.target - level).nan_to_num(0.0, 0.0, 0.0)  # nothing is learned from broken numbers
            self.controller.step(error, learning_rate)
