"""Masks of impossible classes: the one place where they are checked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["check_mask", "masked_logits"]


def masked_logits(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Logits with ``-inf`` where ``mask`` is False.

    Raises:
        ValueError: as :func:`check_mask`.
    """
    mask = check_mask(logits, mask)
    return logits if mask is None else logits.masked_fill(~mask, -torch.inf)


def check_mask(logits: Tensor, mask: Tensor | None) -> Tensor | None:
    """The mask, if it is one for these logits.

    Raises:
        ValueError: the mask is not boolean, does not broadcast to the logits, or a row of it allows nothing.
    """
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must have shape [..., A] with A >= 1, got {tuple(logits.shape)}")
    if mask is None:
        return None
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be a boolean tensor (True = allowed), got {mask.dtype}; use mask.bool()")
    if not _broadcasts_to(mask.shape, logits.shape):
        raise ValueError(f"mask must broadcast to the logits {tuple(logits.shape)}, got {tuple(mask.shape)}")
    every_row_allows_one = mask.any(-1).all()
    if mask.is_cuda or torch.compiler.is_compiling():
        torch._assert_async(every_row_allows_one)  # the same check without stopping the device, or the graph
    elif not every_row_allows_one:
        row = (~mask.any(-1)).nonzero()[0].tolist()
        raise ValueError(f"every row of mask must allow at least one action, but row {row} allows none")
    return mask


def _broadcasts_to(shape: Sequence[int], target: Sequence[int]) -> bool:
    """Whether ``shape`` covers the last axis of ``target`` and broadcasts to it without enlarging it."""
    if not 0 < len(shape) <= len(target) or shape[-1] != target[-1]:
        return False
    return all(n in (1, m) for n, m in zip(reversed(shape), reversed(target), strict=False))
