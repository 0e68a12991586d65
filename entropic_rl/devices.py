"""What may be asked of a device, and brought to it, without waiting until it has done all that it still has to do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["answers_at_once", "brought"]

_IMMEDIATE = ("cpu",)


def answers_at_once(device: torch.device) -> bool:
    """Whether its numbers are there already when the host asks for them; to ask another device is to wait for it."""
    return device.type in _IMMEDIATE


def brought(numbers: Sequence[float], device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Numbers ``[N]`` of the host on a device, by a copy that is not waited for."""
    host = torch.tensor(numbers, dtype=dtype)
    if device.type == "cuda":
        host = host.pin_memory()  # from other memory CUDA copies while the host waits
    return host.to(device, non_blocking=True)
