"""Scheduled numbers of R runs as one device tensor ``[R]``, read at every update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from entropic_rl.schedules import Schedule

__all__ = ["Coefficients", "ScheduledValue"]


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
        self.value.copy_(torch.tensor(values, dtype=self.value.dtype))


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
