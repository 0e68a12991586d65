"""What an attack climbs: losses of logits per row, larger where the model is nearer to an error.

The cross-entropy is what models are trained by, and its gradient vanishes where they are sure of themselves, or were
made to look so. The other two look at logits alone and do not: one is in their units, one in none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from entropic_rl.config import suggestion
from entropic_rl.errors import ConfigError

__all__ = ["LOSSES", "AttackLoss", "attack_loss", "cross_entropy", "difference_of_logits_ratio", "margin"]

AttackLoss: TypeAlias = Callable[[Tensor, Tensor], Tensor]

_TIE = 1e-12  # as in the published code: three equal logits have no ratio


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """``-log softmax(z)_y`` in nats, ``[..., C]`` and ``[...]`` to ``[...]``.

    Source: Goodfellow et al. (2015), https://arxiv.org/abs/1412.6572; Madry et al. (2018).
    """
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none").view(labels.shape)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """``max_{i != y} z_i - z_y``, above 0 where the row is misclassified, ``[..., C]`` and ``[...]`` to ``[...]``.

    Source: Carlini & Wagner (2017), f_6 without its confidence, https://arxiv.org/abs/1608.04644.
    """
    own, best_other = _own_and_best_other(logits, labels)
    return best_other - own


def difference_of_logits_ratio(logits: Tensor, labels: Tensor) -> Tensor:
    """``-(z_y - max_{i != y} z_i) / (z_(1) - z_(3))``, z sorted downwards: unchanged by shift and scale of the logits.

    Two classes have no third logit, and ``z_(1) - z_(2)`` would leave nothing but the sign: there it is the margin.
    Source: Croce & Hein (2020), eq. 6, https://arxiv.org/abs/2003.01690.
    """
    if logits.shape[-1] < 3:
        return margin(logits, labels)
    own, best_other = _own_and_best_other(logits, labels)
    first, _, third = logits.topk(3, dim=-1).values.unbind(-1)
    return (best_other - own) / (first - third + _TIE)


LOSSES: dict[str, AttackLoss] = {
    "cross-entropy": cross_entropy,
    "margin": margin,
    "dlr": difference_of_logits_ratio,
}


def attack_loss(name: str) -> AttackLoss:
    """The loss of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in LOSSES:
        raise ConfigError(f"loss: expected one of {', '.join(LOSSES)}, got {name!r}{suggestion(str(name), LOSSES)}")
    return LOSSES[name]


def _own_and_best_other(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the label and of the likeliest other class, ``[...]`` each."""
    own = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    others = logits.scatter(-1, labels.unsqueeze(-1), -torch.inf)
    return own, others.amax(-1)
