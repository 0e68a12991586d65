"""What activations look like beside what they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from entropic_rl.networks import ACTIVATIONS
from entropic_rl.page import Picture, drawn
from entropic_rl.plots.activations import Curve, plot_activations
from entropic_rl.studies.findings import Findings
from entropic_rl.studies.standard import findings as standard_findings
from entropic_rl.studies.study import Request

__all__ = ["curve", "findings"]

_REACH, _N = 4.0, 401
_SLOPE = 0.25  # below 0, with which prelu begins


def findings(request: Request) -> Findings:
    """The study as most are, and its activations with their derivatives."""
    found = standard_findings(request)
    return replace(found, pictures=[*found.pictures, _picture([value.text for value in request.values])])


def curve(name: str, inputs: NDArray[np.float64]) -> Curve:
    """An activation and its derivative, by autograd, at ``inputs [N]``."""
    z = torch.from_numpy(inputs).requires_grad_()
    y = F.prelu(z, z.new_tensor([_SLOPE])) if name == "prelu" else ACTIVATIONS[name](z * 1.0)  # it may overwrite
    (slope,) = torch.autograd.grad(y.sum(), z)
    return Curve(name, inputs, y.detach().numpy(), slope.numpy())


def _picture(names: Sequence[str]) -> Picture:
    inputs = np.linspace(-_REACH, _REACH, _N)
    return Picture(
        "activation-curves",
        "The activations and their derivatives",
        "A gradient is multiplied by the derivative on its way back through a layer: where it is 0 nothing is learned, "
        f"and where it is below 1 gradients shrink. prelu as it begins, with a slope of {_SLOPE} below 0.",
        drawn(partial(plot_activations, curves=[curve(name, inputs) for name in names])),
        wide=True,
    )
