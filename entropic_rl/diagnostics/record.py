"""The signals of layers over a training: when to look, what was seen, what it comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from entropic_rl.diagnostics.signals import SIGNALS
from entropic_rl.diagnostics.verdicts import Verdict, Way, judge

__all__ = ["DEFAULT_EVERY", "FlowRecord", "Rhythm", "Series"]

DEFAULT_EVERY = 40
"""Steps between looks at first: a look takes two to three steps."""
_CAPACITY = 200


class Rhythm:
    """Which of the coming steps are looked at: the first, and then one in ``every``.

    From time to time looks become half as frequent (:meth:`slow`), so that a training of any length has as many.
    Intervals are made odd: an even one might meet the same minibatch of every rollout.

    Args:
        every: steps between looks at first.
    """

    def __init__(self, every: int) -> None:
        self._every, self._count, self._next = every | 1, 0, 0

    def is_due(self) -> bool:
        """Whether to look at this step; to be asked once per step."""
        due = self._count >= self._next
        if due:
            self._next = self._count + self._every
        self._count += 1
        return due

    def slow(self) -> None:
        """From now on half as many."""
        self._every = self._every * 2 | 1


@dataclass(frozen=True, slots=True)
class Series:
    """What was seen of one run.

    Attributes:
        layers: L names, in the order in which they compute.
        steps: ``[T]``, when it was looked.
        signals: ``[T, L]`` of each of :data:`entropic_rl.diagnostics.signals.SIGNALS`.
        verdicts: L.
    """

    layers: tuple[str, ...]
    steps: np.ndarray
    signals: dict[str, np.ndarray]
    verdicts: tuple[Verdict, ...]

    def typical(self) -> dict[str, np.ndarray]:
        """``[L]`` of each signal: the median of the last quarter of the looks, on which the verdicts stand."""
        return _recent(self.signals)


@dataclass
class FlowRecord:
    """Looks at one network of R runs, at most 200, evenly over time.

    Attributes:
        layers: L names.
        ways: of each layer to the outputs.
        rhythm: slowed down when there are enough looks.
        notes: layer -> why it cannot learn.
    """

    layers: tuple[str, ...]
    ways: Sequence[Way]
    rhythm: Rhythm
    notes: Mapping[str, str] = field(default_factory=dict)
    _steps: list[int] = field(default_factory=list)
    _looks: list[dict[str, np.ndarray]] = field(default_factory=list)

    def add(self, step: int, signals: Mapping[str, Tensor]) -> None:
        """A look: ``[R, L]`` of each signal."""
        self._steps.append(step)
        self._looks.append({name: signals[name].to("cpu").numpy() for name in SIGNALS})
        if len(self._looks) > _CAPACITY:
            self._steps, self._looks = self._steps[::2], self._looks[::2]
            self.rhythm.slow()

    def latest(self) -> dict[str, np.ndarray]:
        """The signals of the last look, ``[R, L]`` each; empty before the first."""
        return self._looks[-1] if self._looks else {}

    def series(self, run: int) -> Series | None:
        """All looks at ``run`` and what they come to; None without a look."""
        if not self._looks:
            return None
        signals = {name: np.stack([look[name][run] for look in self._looks]) for name in SIGNALS}
        verdicts = judge(self.layers, _recent(signals), self.ways, self.notes)
        return Series(self.layers, np.array(self._steps), signals, tuple(verdicts))


def _recent(signals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: _typical(values[-max(1, len(values) // 4) :]) for name, values in signals.items()}


def _typical(values: np.ndarray) -> np.ndarray:
    """The median of looks ``[T, L]`` without those that have no number; what is not finite at the end stays so."""
    finite = np.isfinite(values)
    filled = np.where(finite, values, np.nan)
    typical = np.full(values.shape[1], np.nan)
    known = finite.any(0)
    typical[known] = np.nanmedian(filled[:, known], 0)
    return np.where(finite[-1] | np.isnan(values).all(0), typical, values[-1])
