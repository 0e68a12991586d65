"""Settings of what rows without labels are asked for."""

from __future__ import annotations

from typing import Annotated

from typing_extensions import Doc

from entropic_rl.config import Count, Fraction, NonNegative, settings

__all__ = ["UnlabeledConfig"]


@settings
class UnlabeledConfig:
    """The weights of the two terms, how they rise, and how many rows a step looks at."""

    unlabeled_coef: Annotated[NonNegative, Doc("weight of the mean entropy of single predictions, minimised")] = 1.0
    marginal_coef: Annotated[NonNegative, Doc("weight of the entropy of the mean prediction, maximised")] = 1.0
    ramp: Annotated[Fraction, Doc("share of training over which both rise from 0; 0 = at once")] = 0.5
    unlabeled_batch_size: Annotated[Count | None, Doc("unlabelled rows per step; none = all of them")] = 200
