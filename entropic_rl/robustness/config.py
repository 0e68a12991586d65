"""How hard rows are attacked, and what the verb trains and attacks; free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import Doc

from entropic_rl.config import Count, Finite, Natural, NonNegative, Positive, settings
from entropic_rl.supervised.config import FitConfig

__all__ = ["AttackConfig", "RobustnessConfig", "Settings"]

_Share = Annotated[float, Field(gt=0, lt=1)]


@settings
class AttackConfig:
    """How hard rows are attacked; the defaults are for networks of a few layers."""

    n_steps: Annotated[Count, Doc("gradient steps of each restart of PGD")] = 40
    step_size: Annotated[Positive | None, Doc("length of a step as a share of epsilon; none = 2.5 / n_steps")] = None
    n_restarts: Annotated[Count, Doc("random starts of PGD, for each of its three losses")] = 2
    n_queries: Annotated[Natural, Doc("proposals of the random search; 0 = none")] = 200
    n_noise: Annotated[Natural, Doc("random points on the surface of each ball")] = 10


@settings
class RobustnessConfig:
    """Which data in which units, within what radius rows are moved, and what stands beside the coefficients."""

    data: Annotated[
        str, Field(min_length=1), Doc("digits, breast_cancer, wine, blobs, moons, or a CSV, Parquet or npz file")
    ]
    target: Annotated[str | None, Doc("column of the labels, of a file")] = None
    n: Annotated[Count | None, Doc("rows; drawn of blobs and moons [1000], of others a random choice [all]")] = None
    norm: Annotated[Literal["linf", "l2"], Doc("of the balls: each feature by epsilon, or all together")] = "linf"
    eps: Annotated[tuple[NonNegative, ...], Doc("radii, in the units of the features as networks see them")] = (
        0.0, 0.05, 0.1, 0.2, 0.3,
    )  # fmt: skip
    box: Annotated[
        tuple[Finite, ...],
        Doc("LOW HIGH, what every feature of the data lies between [digits: 0 16; others: no bounds]"),
    ] = ()
    scale: Annotated[
        Literal["auto", "box", "standard", "none"],
        Doc("box: to [0, 1]; standard: mean 0, std 1 of training rows; none; auto: box if there is one, else standard"),
    ] = "auto"
    adversarial: Annotated[
        tuple[Positive, ...], Doc("radii of adversarial trainings without entropy, beside the coefficients")
    ] = ()
    adversarial_steps: Annotated[Count, Doc("PGD steps inside each minibatch of an adversarial training")] = 7
    severities: Annotated[
        tuple[NonNegative, ...], Doc("of corruptions, in the units of the features; of dropped features their share")
    ] = (0.0, 0.1, 0.2, 0.3, 0.5)
    test_fraction: Annotated[_Share, Doc("share of the rows that are attacked")] = 0.2

    def __post_init__(self) -> None:
        if not self.eps:
            raise ValueError("eps: expected at least one radius, got none")
        for name in ("eps", "severities", "adversarial"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: expected different numbers, got {' '.join(f'{v:g}' for v in values)}")
        if self.box and not (len(self.box) == 2 and self.box[0] < self.box[1]):
            raise ValueError(f"box: expected LOW HIGH with LOW < HIGH, got {' '.join(f'{v:g}' for v in self.box)}")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that was asked for.

    Attributes:
        config: data, radii and corruptions.
        attack: how hard.
        fit: training.
        ent_coefs: as they were given.
        n_seeds: S.
        shown: all of these by name, as they are written down.
    """

    config: RobustnessConfig
    attack: AttackConfig
    fit: FitConfig
    ent_coefs: list[float | str]
    n_seeds: int
    shown: dict[str, Any]
