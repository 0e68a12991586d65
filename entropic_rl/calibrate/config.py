"""Which data, how it is split, and how answers are read out; free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import Doc

from entropic_rl.config import Count, Natural, NonNegative, settings

__all__ = ["CalibrationConfig"]

_Share = Annotated[float, Field(gt=0, lt=1)]


@settings
class CalibrationConfig:
    """Which data, how it is split, and how answers are read out."""

    data: Annotated[
        str, Field(min_length=1), Doc("digits, breast_cancer, wine, blobs, moons, or a CSV, Parquet or npz file")
    ]
    target: Annotated[str | None, Doc("column of the labels, of a file")] = None
    group: Annotated[str | None, Doc("column of a file whose equal values stay on one side of every split")] = None
    n: Annotated[Count | None, Doc("rows; drawn of blobs and moons [1000], of others a random choice [all]")] = None
    noise: Annotated[
        float | None, Field(gt=0), Doc("standard deviation within a class of blobs [0.78] and moons [0.3]")
    ] = None
    label_noise: Annotated[float, Field(ge=0, lt=1), Doc("share of labels that are replaced by another")] = 0.0
    label_noise_kind: Annotated[Literal["symmetric", "pair"], Doc("by any other class alike, or by the next one")] = (
        "symmetric"
    )
    imbalance: Annotated[float, Field(ge=1), Doc("rows of the largest class over those of the smallest")] = 1.0
    folds: Annotated[Natural, Doc("of cross-validation, per seed; 0 = one split by --test-fraction")] = 0
    test_fraction: Annotated[_Share, Doc("share of the rows that answers are measured on")] = 0.2
    validation_fraction: Annotated[
        _Share, Doc("share of the other rows that temperature and early stopping get, and choices are made by")
    ] = 0.2
    standardize: Annotated[bool, Doc("features to mean 0, std 1 of the training rows")] = True
    floor: Annotated[
        float, Field(ge=0, lt=1), Doc("of the proper read-out's factor: how far a class may be turned down")
    ] = 0.05
    temperature_prior: Annotated[
        NonNegative, Doc("precision of the prior of log T around 0: a temperature fitted on few rows overfits")
    ] = 3.0
    n_bins: Annotated[Count, Doc("of every binned error")] = 15
