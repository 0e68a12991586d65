"""Schedules of a hyper-parameter over training progress, as people write them: ``0.01``, ``linear:0.01:0``.

No torch here: the command line reads and checks schedules before anything heavy is imported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Schedule"]

_KINDS = ("constant", "linear", "cosine", "exponential")


@dataclass(frozen=True, slots=True)
class Schedule:
    """A number that moves from ``start`` to ``end`` while progress (env steps done / total) goes from 0 to 1.

    linear ``s + (e - s) p``; cosine ``e + (s - e)(1 + cos(pi p)) / 2``; exponential ``s (e / s)^p`` (both > 0).
    Progress is clamped to [0, 1]: a schedule stays at its end.
    """

    kind: str
    start: float
    end: float

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"expected a schedule of kind {', '.join(_KINDS)}, got {self.kind!r}")
        if not (math.isfinite(self.start) and math.isfinite(self.end)):
            raise ValueError(f"a schedule needs finite numbers, got {self.start} and {self.end}")
        if self.kind == "exponential" and not (self.start > 0 and self.end > 0):
            raise ValueError(f"an exponential schedule needs two numbers > 0, got {self.start} and {self.end}")

    @classmethod
    def parse(cls, spec: float | str) -> Schedule:
        """Read ``0.01`` or ``KIND:START[:END]`` (END defaults to 0).

        Raises:
            ValueError: the text is no number and no schedule.
        """
        if isinstance(spec, (int, float)):
            return cls("constant", float(spec) + 0.0, float(spec) + 0.0)  # -0 is 0
        kind, *numbers = spec.split(":")
        try:
            if not numbers:
                return cls.parse(float(kind))
            values = [float(number) for number in numbers]
        except ValueError:
            raise ValueError(f"expected a number or KIND:START:END such as linear:0.01:0, got {spec!r}") from None
        if len(values) > 2 or (kind == "constant" and len(values) > 1):
            raise ValueError(f"expected KIND:START:END such as linear:0.01:0, got {spec!r}")
        end = values[1] if len(values) == 2 else values[0] if kind == "constant" else 0.0
        return cls(kind, values[0], end)

    def at(self, progress: float) -> float:
        """The value when the fraction ``progress`` of the env steps is done."""
        p = min(max(progress, 0.0), 1.0)
        if self.kind == "constant" or self.start == self.end:
            return self.start
        if self.kind == "linear":
            return self.start + (self.end - self.start) * p
        if self.kind == "cosine":
            return self.end + (self.start - self.end) * 0.5 * (1.0 + math.cos(math.pi * p))
        return math.exp(math.log(self.start) * (1.0 - p) + math.log(self.end) * p)

    def __str__(self) -> str:
        if self.kind == "constant":
            return _shortest(self.start)
        return f"{self.kind}:{_shortest(self.start)}:{_shortest(self.end)}"


def _shortest(number: float) -> str:
    """The shortest text that reads back as the same number."""
    return repr(number).removesuffix(".0")
