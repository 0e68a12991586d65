"""Names of query strategies and stopping rules as people write them; free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from entropic_rl.config import suggestion
from entropic_rl.errors import ConfigError

__all__ = ["STRATEGIES", "StoppingRule", "parse_stopping", "parse_strategy"]

STRATEGIES = (
    "random",
    "least-confidence",
    "margin",
    "entropy",
    "bald",
    "batch-bald",
    "badge",
    "k-center",
    "entropy-density",
    "expected-entropy-reduction",
)
WITH_ORDER = ("tsallis", "renyi")
PEER = "skactiveml"


def parse_strategy(name: str) -> tuple[str, str | float | None]:
    """``margin`` -> ``("margin", None)``, ``tsallis:1.5`` -> ``("tsallis", 1.5)``, ``skactiveml:X`` -> its class.

    Raises:
        ConfigError: there is no such strategy, or its order is no number >= 0.
    """
    kind, colon, argument = name.partition(":")
    if kind == PEER and argument:
        return kind, argument
    if kind in WITH_ORDER:
        return kind, _order(kind, argument) if colon else 2.0
    if name not in STRATEGIES:
        raise ConfigError(
            f"strategy: expected one of {', '.join(STRATEGIES)}, tsallis:ORDER, renyi:ORDER, or {PEER}:CLASS, got "
            f"{name!r}{suggestion(name, STRATEGIES)}"
        )
    return name, None


def _order(kind: str, text: str) -> float:
    try:
        order = float(text)
    except ValueError:
        order = math.nan
    if not 0.0 <= order < math.inf:
        raise ConfigError(f"strategy: expected {kind}:ORDER with an order >= 0, got {kind}:{text}")
    return order


@dataclass(frozen=True, slots=True)
class StoppingRule:
    """When enough has been asked.

    Attributes:
        kind: ``labels``, ``stable``, ``confident`` or ``entropy``.
        threshold: labels; kappa; probability; nats.
        patience: rounds in a row for which it has to hold.
    """

    kind: str
    threshold: float
    patience: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.threshold:g}" + (f":{self.patience}" if self.patience > 1 else "")


# kind -> (threshold, patience) where they are left out, the range of the threshold, and its words
_RULES = {
    "labels": (None, 1, (1.0, math.inf), "a number of labels >= 1"),
    "stable": (0.99, 3, (0.0, 1.0), "a kappa between 0 and 1"),
    "confident": (0.95, 1, (0.0, 1.0), "a probability between 0 and 1"),
    "entropy": (0.05, 1, (0.0, math.inf), "nats >= 0"),
}


def parse_stopping(spec: str) -> StoppingRule:
    """``labels:300``, ``stable[:0.99[:3]]``, ``confident[:0.95[:1]]`` or ``entropy[:0.05[:1]]``.

    Raises:
        ConfigError: there is no such rule, or its numbers are out of range.
    """
    kind, *numbers = spec.split(":")
    if kind not in _RULES or len(numbers) > 2:
        raise ConfigError(
            f"stopping: expected labels:N, stable:KAPPA:ROUNDS, confident:P:ROUNDS or entropy:NATS:ROUNDS, got {spec!r}"
            f"{suggestion(kind, list(_RULES))}"
        )
    threshold, patience, (low, high), words = _RULES[kind]
    try:
        found = float(numbers[0]) if numbers else threshold
        rounds = int(numbers[1]) if len(numbers) > 1 else patience
    except ValueError:
        found, rounds = math.nan, 0
    if found is None or not low <= found <= high or rounds < 1:
        raise ConfigError(f"stopping: expected {words} and at least 1 round, {kind}:NUMBER[:ROUNDS], got {spec!r}")
    return StoppingRule(kind, found, rounds)
