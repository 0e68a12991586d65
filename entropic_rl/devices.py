"""Devices by name, and what may be asked of them and brought to them without waiting for all they still have to do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from entropic_rl.errors import ConfigError

__all__ = ["answers_at_once", "brought", "load_device"]

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


def load_device(name: str) -> torch.device:
    """The device behind ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: it is not available here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    available = {"cpu": True, "cuda": torch.cuda.is_available()}
    if not available[device.type]:
        raise ConfigError(f"--device {name} is not available here (torch {torch.__version__}); use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {name}: expected an index below {torch.cuda.device_count()}; use --device cuda")
    return device
