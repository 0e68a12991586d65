"""Which data a study is made on, and how it is split; free of torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import Doc

from entropic_rl.config import Count, settings

__all__ = ["StudyConfig"]

_Share = Annotated[float, Field(gt=0, lt=1)]


@settings
class StudyConfig:
    """Which data, how it is split, and how long each run learns from it."""

    data: Annotated[
        str, Field(min_length=1), Doc("digits, breast_cancer, wine, blobs, moons, or a CSV, Parquet or npz file")
    ] = "digits"
    target: Annotated[str | None, Doc("column of the labels, of a file")] = None
    group: Annotated[str | None, Doc("column of a file whose equal values stay on one side of every split")] = None
    n: Annotated[Count | None, Doc("rows; drawn of blobs and moons [1000], of others a random choice [all]")] = None
    noise: Annotated[
        float | None, Field(gt=0), Doc("standard deviation within a class of blobs [0.78] and moons [0.3]")
    ] = None
    label_noise: Annotated[float, Field(ge=0, lt=1), Doc("share of labels that are replaced by another")] = 0.0
    test_fraction: Annotated[_Share, Doc("share of the rows that are looked at once, when all is chosen")] = 0.2
    validation_fraction: Annotated[_Share, Doc("share of the other rows that choices are made by")] = 0.2
    standardize: Annotated[bool, Doc("features to mean 0, std 1 of the training rows")] = True
    n_steps: Annotated[
        Count | None, Doc("gradient steps of every run, to the nearest epoch, in place of --n-epochs")
    ] = None
