"""How a hyper-parameter moves during training, as people write it: ``0.01``, ``linear:0.01:0``, ``target:0.5``.

No torch here: the command line reads and checks schedules before anything heavy is imported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Schedule", "TargetEntropy", "parse_coefficient", "shortest"]

_KINDS = ("constant", "linear", "cosine", "exponential", "step", "warmup", "onecycle")
_WARM, _RISE = 0.1, 0.3  # shares of training in which warmup and onecycle come to their start
_DIVISOR = 25.0  # of onecycle's start, to begin with


@dataclass(frozen=True, slots=True)
class Schedule:
    """A number that moves from ``start`` to ``end`` while progress (env steps done / total) goes from 0 to 1.

    linear ``s + (e - s) p``; cosine ``e + (s - e)(1 + cos(pi p)) / 2``; exponential ``s (e / s)^p`` (both > 0); step
    ``s``, ``sqrt(s e)``, ``e`` for a third each (both > 0); warmup linearly from 0 to s in the first tenth, then as
    cosine to e; onecycle as cosine from s / 25 to s in the first 0.3, then to e (Smith & Topin 2018,
    https://arxiv.org/abs/1708.07120, as ``torch.optim.lr_scheduler.OneCycleLR``).
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
        if self.kind in ("exponential", "step") and not (self.start > 0 and self.end > 0):
            article = "an" if self.kind == "exponential" else "a"
            raise ValueError(f"{article} {self.kind} schedule needs two numbers > 0, got {self.start} and {self.end}")

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
        if self.kind in ("warmup", "onecycle"):
            return self._risen(p)
        if self.kind == "constant" or self.start == self.end:
            return self.start
        if self.kind == "linear":
            return self.start + (self.end - self.start) * p
        if self.kind == "cosine":
            return _cosine(self.start, self.end, p)
        if self.kind == "step":
            return (self.start, math.sqrt(self.start * self.end), self.end)[min(int(3.0 * p), 2)]
        return math.exp(math.log(self.start) * (1.0 - p) + math.log(self.end) * p)

    def _risen(self, p: float) -> float:
        """Of the kinds that come to their start on the way."""
        top = _WARM if self.kind == "warmup" else _RISE
        if p >= top:
            return _cosine(self.start, self.end, (p - top) / (1.0 - top))
        return self.start * p / top if self.kind == "warmup" else _cosine(self.start / _DIVISOR, self.start, p / top)

    def __str__(self) -> str:
        if self.kind == "constant":
            return shortest(self.start)
        return f"{self.kind}:{shortest(self.start)}:{shortest(self.end)}"


def _cosine(start: float, end: float, p: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * p))


@dataclass(frozen=True, slots=True)
class TargetEntropy:
    """An entropy weight that is steered so that the policy keeps an entropy.

    ``target:0.5`` aims at 0.5 nats, ``target:0.5:0.01`` begins with the weight 0.01, ``auto`` leaves the target to the
    agent, ``auto:0.1`` only that.

    Attributes:
        nats: the target; None for the agent's own.
        initial: the weight to begin with, > 0; None for the agent's own.
    """

    nats: float | None = None
    initial: float | None = None

    def __post_init__(self) -> None:
        if self.nats is not None and not math.isfinite(self.nats):
            raise ValueError(f"a target entropy has to be finite, got {self.nats}")
        if self.initial is not None and not 0.0 < self.initial < math.inf:
            raise ValueError(f"the weight that a target entropy begins with has to be > 0, got {self.initial}")

    @classmethod
    def parse(cls, text: str) -> TargetEntropy:
        """Read ``auto[:INITIAL]`` or ``target:NATS[:INITIAL]``.

        Raises:
            ValueError: it is neither.
        """
        kind, *numbers = text.split(":")
        try:
            values = [float(number) for number in numbers]
        except ValueError:
            values = []
        if kind == "auto" and len(values) == len(numbers) <= 1:
            return cls(None, *values)
        if kind == "target" and 1 <= len(values) <= 2:
            return cls(*values)
        raise ValueError(f"expected target:NATS, target:NATS:INITIAL, auto or auto:INITIAL, got {text!r}")

    def __str__(self) -> str:
        numbers = [shortest(number) for number in (self.nats, self.initial) if number is not None]
        return ":".join(["auto" if self.nats is None else "target", *numbers])


def parse_coefficient(spec: float | str) -> Schedule | TargetEntropy:
    """Read an entropy weight: a number, a schedule, or a target entropy.

    Raises:
        ValueError: it is none of them.
    """
    if isinstance(spec, str) and spec.split(":")[0] in ("auto", "target"):
        return TargetEntropy.parse(spec)
    try:
        return Schedule.parse(spec)
    except ValueError as error:
        if isinstance(spec, str) and ":" not in spec:
            raise ValueError(
                f"expected a number, a schedule such as linear:0.01:0, target:NATS or auto, got {spec!r}"
            ) from None
        raise error


def shortest(number: float) -> str:
    """The shortest text that reads back as the same number."""
    return repr(number).removesuffix(".0")
