"""Names of query strategies, classifiers and stopping rules, and what is compared how; free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import Doc

from entropic_rl.config import Count, Natural, settings, suggestion
from entropic_rl.errors import ConfigError

__all__ = ["MODELS", "STRATEGIES", "ComparisonConfig", "StoppingRule", "parse_stopping", "parse_strategy"]

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
WITH_MEMBERS = ("bald", "batch-bald", "expected-entropy-reduction")
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


MODELS = ("entropic", "logistic-regression", "svm", "random-forest", "label-spreading", "naive-bayes")

_Share = Annotated[float, Field(gt=0, lt=1)]


@settings
class ComparisonConfig:
    """Whose labels are asked for, how many, and who learns from them."""

    data: Annotated[
        str, Field(min_length=1), Doc("digits, breast_cancer, wine, blobs, moons, or a CSV, Parquet or npz file")
    ]
    target: Annotated[str | None, Doc("column of the labels, of a file")] = None
    group: Annotated[str | None, Doc("column of a file whose equal values stay on one side of the split")] = None
    n: Annotated[Count | None, Doc("rows; drawn of blobs and moons [1000], of others a random choice [all]")] = None
    noise: Annotated[
        float | None, Field(gt=0), Doc("standard deviation within a class of blobs [0.78] and moons [0.3]")
    ] = None
    label_noise: Annotated[float, Field(ge=0, lt=1), Doc("share of labels that are replaced by another")] = 0.0
    imbalance: Annotated[float, Field(ge=1), Doc("rows of the largest class over those of the smallest")] = 1.0
    test_fraction: Annotated[_Share, Doc("share of the rows that is never asked about, and measured on")] = 0.3
    scale: Annotated[
        Literal["standard", "range", "none"],
        Doc("features to mean 0, std 1 of the pool, or to its range, 0 to 1 (images); neither needs labels"),
    ] = "standard"
    model: Annotated[
        Literal["entropic", "logistic-regression", "svm", "random-forest", "label-spreading"],
        Doc("who learns: networks by the entropic loss, all runs as one batch; or a scikit-learn classifier"),
    ] = "entropic"
    initial: Annotated[Count, Doc("labels that everyone begins with, the same for all strategies of a seed")] = 20
    initial_per_class: Annotated[bool, Doc("as many of each class among them; else drawn at random")] = False
    batch: Annotated[Count, Doc("labels per query")] = 10
    budget: Annotated[Count | None, Doc("labels in all, the first ones included; none = the whole pool")] = 300
    target_accuracy: Annotated[_Share, Doc("accuracy to which labels are counted")] = 0.9
    readout: Annotated[
        Literal["raw", "proper"], Doc("of the entropic model: what strategies see and calibration is measured on")
    ] = "raw"
    n_members: Annotated[
        Count | None,
        Doc("networks of an ensemble [5 if a strategy asks members, else 1], or what bald asks of other models [20]"),
    ] = None
    mc_samples: Annotated[
        Natural, Doc("predictions with --dropout that are averaged, in place of members; 0 = without")
    ] = 0
    tie: Annotated[float, Field(ge=0), Doc("areas under the curve that differ by no more are a tie")] = 0.002

    def __post_init__(self) -> None:
        if self.budget is not None and self.budget <= self.initial:
            raise ValueError(f"budget: expected more labels than --initial {self.initial}, got {self.budget}")
