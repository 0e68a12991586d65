"""From what a model fitted with an entropy term says to what it means: the inverse of the loss's bias, in closed form.

A model that minimises the entropic loss is under-confident by a known amount even with all data of the world; these
functions take it back. They are exact at the optimum, and floored where a model is off it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from entropic_rl.entropy import categorical_entropy, masked_logits
from entropic_rl.errors import ConfigError

__all__ = ["gaussian_readout", "proper_readout", "readout_limit"]


def proper_readout(
    logits: Tensor, *, ent_coef: float, floor: float | None = 0.05, mask: Tensor | None = None
) -> Tensor:
    """The posterior behind ``p = softmax(logits)``, ``q = p (1 + ent_coef (log p + H(p)))``, ``[..., C] -> [..., C]``.

    Where :func:`entropic_rl.losses.entropic_cross_entropy` is stationary in expectation, that is exactly the posterior;
    it sums to 1 identically. On all p that lead to a posterior the map is one to one for every coefficient >= 0, and it
    never changes which class is the likeliest. A model off its optimum may ask for a negative q: there the factor is
    floored and the row scaled to sum to 1. Class weights of the loss: q is the reweighted posterior.

    Args:
        logits: ``[..., C]``; logarithms of probabilities do as well.
        ent_coef: that of the training, >= 0 and finite.
        floor: of the factor ``1 + ent_coef (log p + H)``, in [0, 1): how far a class may be turned down. None is for
            logits that should be exact, and refuses those that are not.
        mask: as in :func:`entropic_rl.entropy.categorical_entropy`.

    Raises:
        ConfigError: the coefficient is negative, or too large for these logits without a floor.
    """
    if not 0.0 <= ent_coef < math.inf:
        raise ConfigError(
            f"ent_coef: the proper read-out needs a coefficient >= 0, got {ent_coef:g}; below 0 the loss rewards "
            "certainty, and one fitted probability may stand for several posteriors"
        )
    if floor is not None and not 0.0 <= floor < 1.0:
        raise ConfigError(f"floor: expected a number in [0, 1), or None, got {floor}")
    surprise = _excess(logits, mask)
    if floor is None and ent_coef > (limit := _limit(surprise, 0.0)):
        raise ConfigError(
            f"ent_coef: the proper read-out of these probabilities is ill-posed from {limit:.4g} on, where a class "
            f"gets a negative probability, got {ent_coef:g}; train to the optimum, or give a floor such as 0.05"
        )
    p = masked_logits(logits, mask).softmax(-1)
    q = p * (1.0 + ent_coef * surprise).clamp(min=floor or 0.0)
    return q / q.sum(-1, keepdim=True)


def readout_limit(logits: Tensor, *, floor: float = 0.0, mask: Tensor | None = None) -> float:
    """The coefficient up to which :func:`proper_readout` of all these rows keeps its factor >= ``floor``.

    Beyond it the read-out is ill-posed without a floor; a training coefficient above it says that the model is not at
    its optimum.
    """
    return _limit(_excess(logits, mask), floor)


def gaussian_readout(log_std: Tensor, *, ent_coef: float) -> Tensor:
    """The log standard deviation behind a Gaussian head's, per element: ``log_std + log(1 - ent_coef) / 2``.

    The minimum of :func:`entropic_rl.losses.entropic_gaussian_nll` has the variance ``Var / (1 - ent_coef)``.

    Raises:
        ConfigError: the coefficient is 1 or more, where that loss has no minimum.
    """
    if not ent_coef < 1.0:
        raise ConfigError(
            f"ent_coef: the Gaussian read-out is ill-posed from 1 on, where the loss has no minimum, got {ent_coef:g}"
        )
    return log_std + 0.5 * math.log1p(-ent_coef)


def _excess(logits: Tensor, mask: Tensor | None) -> Tensor:
    """``log p + H(p)``, ``[..., C]``, 0 where impossible."""
    z = masked_logits(logits, mask)
    excess = z.log_softmax(-1) + categorical_entropy(z).unsqueeze(-1)
    return excess.masked_fill(z == -math.inf, 0.0)


def _limit(excess: Tensor, floor: float) -> float:
    lowest = excess.min().item() if excess.numel() else 0.0
    # Equal probabilities have an excess of rounding alone.
    return (1.0 - floor) / -lowest if lowest < -4.0 * torch.finfo(excess.dtype).eps else math.inf
