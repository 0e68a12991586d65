"""When a training began to learn and when it ended, by the wall clock, and the memory that its process took."""

from __future__ import annotations

import time
from pathlib import Path

from entropic_rl.errors import ConfigError

__all__ = ["Clock"]


class Clock:
    """Told by a training how far it is; of each thing the first time counts.

    Args:
        started: ``time.time()`` of whoever started this process, just before.
    """

    def __init__(self, started: float) -> None:
        self._started = started
        self._began: tuple[float, int] | None = None
        self._ended: tuple[float, float] | None = None

    def learning(self, step: int) -> None:
        """The first update is done, after ``step`` env steps of each run; or a program that does all is compiled."""
        if self._began is None:
            self._began = (time.time(), step)

    def stop(self) -> None:
        """The last update is done."""
        if self._ended is None:
            self._ended = (time.time(), _peak_memory())

    def read(self, n_runs: int, last_step: int) -> dict[str, float]:
        """What was measured of a training whose runs made ``last_step`` env steps each.

        Returns:
            ``start`` and ``whole``, seconds from the start of the process to the first and to the last update;
            ``rate``, env steps of all runs per second in between; ``peak``, MiB that the process held at most.

        Raises:
            ConfigError: there was nothing in between.
        """
        if self._began is None or self._ended is None or last_step <= self._began[1]:
            raise ConfigError("--total-timesteps: expected two updates at least, got fewer; raise it")
        (began, step), (ended, peak) = self._began, self._ended
        rate = n_runs * (last_step - step) / (ended - began)
        return {"start": began - self._started, "whole": ended - self._started, "rate": rate, "peak": peak}


def _peak_memory() -> float:
    """MiB of this process's memory at its largest; of the program it was before it started, nothing."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024.0 for line in lines if line.startswith("VmHWM"))
