"""What rows without labels can be asked for: sure answers, and not the same one for all of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from entropic_rl.entropy import categorical_entropy
from entropic_rl.losses.core import entropic_loss

__all__ = ["unlabeled_loss"]


def unlabeled_loss(
    logits: Tensor, *, entropy_coef: float | Tensor = 1.0, marginal_coef: float | Tensor = 1.0
) -> Tensor:
    """``entropy_coef mean_b H(p_b) - marginal_coef H(mean_b p_b)`` of rows without labels, ``[..., B, C] -> [...]``.

    Both terms are the entropic loss: the entropy of each row enters it with the sign that is opposite to the usual
    one, that of the mean prediction with the usual one. The first draws boundaries out of the data, where rows would
    leave the model undecided; alone it is least when every row gets the same class, which the second forbids. With both
    coefficients 1 it is minus the mutual information of class and row.

    Args:
        logits: ``[..., B, C]``; the mean is over B, at least 1 row.
        entropy_coef: >= 0, a number or ``[...]``.
        marginal_coef: >= 0, a number or ``[...]``.

    Raises:
        ValueError: there is no row, or no axis of rows.

    Source: Grandvalet & Bengio (2004), eq. 6, for the first term; Krause, Perona & Gomes (2010), eq. 4, for both.
    """
    if logits.ndim < 2 or not logits.shape[-2]:
        raise ValueError(f"logits must be [..., B, C] with at least one row, got {tuple(logits.shape)}")
    of_rows = categorical_entropy(logits).mean(-1)
    nowhere = (logits == -torch.inf).all(-2, keepdim=True)  # a sum of nothing but 0 has no gradient
    total = logits.log_softmax(-1).masked_fill(nowhere, 0.0).logsumexp(-2)
    mean_log_p = total.masked_fill(nowhere.squeeze(-2), -torch.inf) - math.log(logits.shape[-2])
    sure = entropic_loss(torch.zeros_like(of_rows), of_rows, ent_coef=-entropy_coef)
    return entropic_loss(sure, categorical_entropy(mean_log_p), ent_coef=marginal_coef)
