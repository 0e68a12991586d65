"""Numbers in which the runs of a batch differ, as optimizers and penalties take them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from entropic_rl.optimizers import SGD, Adam, Optimizer, RMSprop
from entropic_rl.second_order import LBFGS
from entropic_rl.supervised.config import FitConfig

__all__ = ["optimizer_of", "per_run"]

_EPS = 1e-8  # torch's


def per_run(numbers: Sequence[float], values: Tensor) -> float | Tensor | None:
    """R numbers as ``[R, 1]`` in the type of ``values``, as one if all are equal, as None if all are 0."""
    if len(set(numbers)) == 1:
        return float(numbers[0]) or None
    return values.new_tensor(numbers).unsqueeze(1)


def optimizer_of(configs: Sequence[FitConfig], values: Tensor) -> Optimizer:
    """What steps the rows of ``values [R, P]``, one settings object per run."""
    name = configs[0].optimizer
    if name in ("adam", "adamw"):
        return Adam(values, eps=_EPS, weight_decay=configs[0].weight_decay if name == "adamw" else 0.0)
    if name == "rmsprop":
        return RMSprop(values, eps=_EPS)
    if name == "lbfgs":
        return LBFGS(values)
    momentum = per_run([config.momentum for config in configs], values)
    return SGD(values, 0.0 if momentum is None else momentum)
