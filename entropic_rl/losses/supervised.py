"""Losses of classifiers and regressors with an entropy term, per element; the caller reduces.

A positive coefficient rewards entropy, so a perfectly fitted model is less confident than its data by a known amount:
at the optimum the posterior is ``q = p (1 + ent_coef (log p + H(p)))``, which
:func:`entropic_rl.calibration.proper_readout` computes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from entropic_rl.entropy import (
    bernoulli_entropy,
    categorical_entropy,
    gaussian_entropy,
    log_prob_and_entropy,
    masked_logits,
)
from entropic_rl.entropy_operator.cpu import has_machine_code
from entropic_rl.losses.core import check_same_shape, entropic_loss

__all__ = [
    "confidence_penalty_loss",
    "entropic_binary_cross_entropy",
    "entropic_cross_entropy",
    "entropic_gaussian_nll",
    "focal_loss",
]


_LARGE = 2**16  # logits from which one pass over them is worth the import of a compiler
_IMPOSSIBLE = "target: expected classes that the mask allows"


def entropic_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    ent_coef: float | Tensor = 0.0,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    mask: Tensor | None = None,
    dim: int | None = None,
) -> Tensor:
    """``w (CE(logits, target) - ent_coef H(softmax(logits)))`` per element, ``[B, C, ...] -> [B, ...]``.

    With coefficient 0 it is ``F.cross_entropy(..., reduction="none")``. Gradient without weights:
    ``p_j - y_j + ent_coef p_j (log p_j + H)``.

    Args:
        logits: ``[C]``, ``[B, C]`` or ``[B, C, d1, ..., dK]``, as in ``F.cross_entropy``.
        target: class indices, of the logits' shape without the classes, or probabilities of the logits' shape.
        ent_coef: nats of cross-entropy that a nat of entropy is worth; a number, or a tensor that broadcasts against
            the elements, such as ``[R, 1]`` for R runs.
        weight: ``[C]``, >= 0. It weighs the element, entropy included (``sum_c y_c w_c``): the optimum is then that of
            the reweighted posterior, and the read-out stays exact.
        label_smoothing: in [0, 1], the share of the target that is spread over the allowed classes.
        ignore_index: elements of this class index have value and gradient 0.
        mask: boolean, laid out as the logits or ``[C]``; True = the class is possible.
        dim: the axis of the classes; by default 1 (0 for one row of logits). -1 for ``[R, B, C]``.

    Raises:
        ValueError: a shape does not fit, or a target is out of range or on a class that the mask excludes.
    """
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing must be in [0, 1], got {label_smoothing}")
    z, target, mask = _classes_last(logits, target, mask, dim)
    z = masked_logits(z, mask)
    kept = None
    if not target.is_floating_point():
        kept = target != ignore_index
        target = target.where(kept, 0)
        _require((target >= 0) & (target < z.shape[-1]), f"target: expected class indices from 0 to {z.shape[-1] - 1}")
        if mask is not None:
            possible = mask.expand_as(z).gather(-1, target.unsqueeze(-1)).squeeze(-1)
            _require(possible | ~kept, _IMPOSSIBLE)
    elif mask is not None:
        _require((mask | (target == 0)).all(-1), _IMPOSSIBLE)
    if kept is not None and not label_smoothing:  # the usual case needs no table of targets
        log_prob, entropy = _log_prob_and_entropy(z, target)
        data_loss = -log_prob
        share = None if weight is None else weight[target]
        data_loss = data_loss if share is None else share * data_loss
    else:
        target_probs = target if kept is None else F.one_hot(target, z.shape[-1]).to(z.dtype)
        target_probs = _smoothed(target_probs, z, mask, label_smoothing)
        target_probs = target_probs if weight is None else target_probs * weight
        share = None if weight is None else target_probs.sum(-1)
        # A class without any share in the target costs nothing, however impossible it is.
        data_loss = -(target_probs * z.log_softmax(-1).masked_fill(target_probs == 0, 0.0)).sum(-1)
        entropy = categorical_entropy(z)
    entropy = entropy if share is None else share * entropy
    loss = entropic_loss(data_loss, entropy, ent_coef=ent_coef)
    return loss if kept is None else loss.masked_fill(~kept, 0.0)


def confidence_penalty_loss(
    logits: Tensor,
    target: Tensor,
    *,
    ent_coef: float | Tensor,
    max_entropy: float = math.inf,
    ignore_index: int = -100,
    dim: int | None = None,
) -> Tensor:
    """``CE - ent_coef min(H, max_entropy)`` per element, ``[B, C, ...] -> [B, ...]``.

    The entropic cross-entropy itself, but that entropy beyond a threshold earns nothing: the hinge of the source, less
    the constant ``ent_coef * max_entropy``.

    Args:
        logits: as in :func:`entropic_cross_entropy`.
        target: as there.
        ent_coef: as there (beta in the source).
        max_entropy: nats.
        ignore_index: as there.
        dim: as there.

    Source: Pereyra et al. (2017), section 3.1, https://arxiv.org/abs/1701.06548.
    """
    data_loss = entropic_cross_entropy(logits, target, ignore_index=ignore_index, dim=dim)
    z, target, _ = _classes_last(logits, target, None, dim)
    entropy = categorical_entropy(z).clamp(max=max_entropy)
    if not target.is_floating_point():
        entropy = entropy.masked_fill(target == ignore_index, 0.0)
    return entropic_loss(data_loss, entropy, ent_coef=ent_coef)


def focal_loss(
    logits: Tensor, target: Tensor, *, focusing: float = 2.0, ignore_index: int = -100, dim: int | None = None
) -> Tensor:
    """``-(1 - p_y)^focusing log p_y`` per element, ``[B, C, ...] -> [B, ...]``; class indices only.

    A neighbour of the entropic loss: for ``focusing`` >= 1 it is an upper bound of the entropic cross-entropy with that
    coefficient. ``log(1 - p_y)`` is taken from the other logits, so that nothing is 0/0 where p_y rounds to 1.

    Args:
        logits: as in :func:`entropic_cross_entropy`, C >= 2.
        target: class indices.
        focusing: >= 0 (gamma in the source); 0 gives the cross-entropy.
        ignore_index: as there.
        dim: as there.

    Source: Lin et al. (2017), eq. 4, https://arxiv.org/abs/1708.02002; the bound: Mukhoti et al. (2020), eq. 3,
    https://arxiv.org/abs/2002.09437.
    """
    if not 0.0 <= focusing < math.inf:
        raise ValueError(f"focusing must be in [0, inf), got {focusing}")
    if target.is_floating_point():
        raise ValueError("target must hold class indices: the focal loss has no soft targets")
    data_loss = entropic_cross_entropy(logits, target, ignore_index=ignore_index, dim=dim)
    z, target, _ = _classes_last(logits, target, None, dim)
    if focusing == 0.0 or z.shape[-1] == 1:
        return data_loss
    own = F.one_hot(target.where(target != ignore_index, 0), z.shape[-1]).bool()
    log_rest = z.masked_fill(own, -math.inf).logsumexp(-1) - z.logsumexp(-1)
    return (focusing * log_rest).exp() * data_loss


def entropic_binary_cross_entropy(
    logits: Tensor, target: Tensor, *, ent_coef: float | Tensor = 0.0, pos_weight: Tensor | None = None
) -> Tensor:
    """``w (BCE(logits, target) - ent_coef H(sigmoid(logits)))`` per label, ``[...] -> [...]``.

    Args:
        logits: ``[...]``, one per label.
        target: ``[...]``, in [0, 1].
        ent_coef: as in :func:`entropic_cross_entropy`.
        pos_weight: broadcastable to the logits; weighs positive labels, entropy included:
            ``w = pos_weight y + 1 - y``.
    """
    check_same_shape(logits=logits, target=target)
    target = target.to(logits.dtype)
    data_loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none", pos_weight=pos_weight)
    entropy = bernoulli_entropy(logits)
    if pos_weight is not None:
        entropy = (pos_weight * target + 1.0 - target) * entropy
    return entropic_loss(data_loss, entropy, ent_coef=ent_coef)


def entropic_gaussian_nll(mean: Tensor, log_std: Tensor, target: Tensor, *, ent_coef: float | Tensor = 0.0) -> Tensor:
    """``-log N(target; mean, std^2) - ent_coef H`` of diagonal Gaussians, summed over D, ``[..., D] -> [...]``.

    At the optimum the mean is right and ``std^2 = Var / (1 - ent_coef)``: from 1 on there is no optimum.

    Args:
        mean: ``[..., D]``.
        log_std: ``[..., D]``.
        target: ``[..., D]``.
        ent_coef: < 1 for the optimum to exist; as in :func:`entropic_cross_entropy`.
    """
    check_same_shape(mean=mean, log_std=log_std, target=target)
    standardized = (target - mean) * (-log_std).exp()
    data_loss = (0.5 * standardized.square() + log_std + 0.5 * math.log(2.0 * math.pi)).sum(-1)
    return entropic_loss(data_loss, gaussian_entropy(log_std), ent_coef=ent_coef)


def _classes_last(
    logits: Tensor, target: Tensor, mask: Tensor | None, dim: int | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Logits, soft targets and mask with the axis of the classes last, their shapes checked."""
    if logits.ndim == 0:
        raise ValueError("logits must have an axis of classes, got a scalar")
    axis = min(1, logits.ndim - 1) if dim is None else dim
    z = logits.movedim(axis, -1)
    if target.is_floating_point():
        check_same_shape(logits=logits, target=target)
        target = target.movedim(axis, -1)
    elif target.shape != z.shape[:-1]:
        raise ValueError(
            f"target must have shape {tuple(z.shape[:-1])} (class indices) or {tuple(logits.shape)} (probabilities, "
            f"floating point) for logits {tuple(logits.shape)}, got {tuple(target.shape)} of {target.dtype}"
        )
    if mask is not None and mask.ndim > 1:
        mask = mask.movedim(axis, -1)
    return z, target, mask


def _log_prob_and_entropy(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Of classes ``[...]`` under logits ``[..., C]``; in one pass where that is worth it and has been measured."""
    is_large = z.is_cpu and z.dtype == torch.float32 and z.numel() >= _LARGE
    if is_large and (torch.compiler.is_compiling() or has_machine_code()):
        return log_prob_and_entropy(z, target)[:2]
    return z.log_softmax(-1).gather(-1, target.unsqueeze(-1)).squeeze(-1), categorical_entropy(z)


def _smoothed(target_probs: Tensor, z: Tensor, mask: Tensor | None, label_smoothing: float) -> Tensor:
    """Targets ``[..., C]`` of which a share is spread over the allowed classes."""
    if not label_smoothing:
        return target_probs
    allowed = torch.ones_like(z) if mask is None else mask.expand_as(z).to(z.dtype)
    return (1.0 - label_smoothing) * target_probs + label_smoothing * allowed / allowed.sum(-1, keepdim=True)


def _require(condition: Tensor, expected: str) -> None:
    """Refuse bad targets; on a device without stopping it."""
    if condition.is_cuda:
        torch._assert_async(condition.all())
    elif not condition.all():
        raise ValueError(f"{expected}, which element {(~condition).nonzero()[0].tolist()} does not hold")
