"""The operator on GPUs, by Triton where it is installed, as it is with torch for CUDA."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from entropic_rl.entropy_operator.formulas import By

__all__ = ["backward", "forward", "is_available"]

_MOST = 8192  # elements of a row that a program holds at a time


@cache
def is_available() -> bool:
    """Whether there is Triton."""
    return find_spec("triton") is not None


@cache
def kernels() -> Any:
    """The module of kernels."""
    from entropic_rl.entropy_operator import triton_kernels

    return triton_kernels


def forward(
    z: Tensor, index: Tensor | None, mask: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As :func:`entropic_rl.entropy_operator.formulas.forward`; an index that is no class has log-probability NaN."""
    z, n = _in_rows(z), len(z)
    log_prob, entropy, log_partition = (torch.zeros(n, device=z.device) for _ in range(3))
    stats = torch.empty(3, n, dtype=torch.float64, device=z.device)
    block = _block(z)
    with _current(z):
        kernels().forward_kernel[(n,)](
            z, z if index is None else index.contiguous(), z if mask is None else mask.view(torch.uint8), log_prob,
            entropy, log_partition, stats, n, z.shape[1], z.stride(0), *_steps(mask), 1.0 / temperature,
            HAS_INDEX=index is not None, HAS_MASK=mask is not None, BLOCK=block, num_warps=_warps(block),
        )  # fmt: skip
    return log_prob, entropy, log_partition, stats


def backward(by: By, z: Tensor, index: Tensor | None, mask: Tensor | None, temperature: float, stats: Tensor) -> Tensor:
    """As :func:`entropic_rl.entropy_operator.formulas.backward`."""
    z, n = _in_rows(z), len(z)
    grad = torch.empty(z.shape, dtype=z.dtype, device=z.device)
    nothing = torch.zeros(n, device=z.device)
    by_log_prob, by_entropy, by_log_partition = (nothing if g is None else g.to(torch.float32).contiguous() for g in by)
    block, n_classes = _block(z), z.shape[1]
    with _current(z):
        kernels().backward_kernel[(n, -(-n_classes // block))](
            z, z if index is None else index.contiguous(), z if mask is None else mask.view(torch.uint8),
            stats.contiguous(), nothing if index is None else by_log_prob, by_entropy, by_log_partition, grad, n,
            n_classes, z.stride(0), *_steps(mask), 1.0 / temperature, HAS_INDEX=index is not None,
            HAS_MASK=mask is not None, BLOCK=block, num_warps=_warps(block),
        )  # fmt: skip
    return grad


def _in_rows(z: Tensor) -> Tensor:
    """Rows that may lie apart, each of which lies together."""
    z = z.detach()
    return z if z.stride(1) == 1 else z.contiguous()


def _current(z: Tensor) -> AbstractContextManager[None]:
    """Where kernels are launched: Triton takes the current GPU, whatever its arguments lie on."""
    return torch.cuda.device(z.device) if z.is_cuda else nullcontext()


def _steps(mask: Tensor | None) -> tuple[int, int]:
    return (0, 0) if mask is None else (mask.stride(0), mask.stride(1))


def _block(z: Tensor) -> int:
    return min(1 << max(z.shape[1] - 1, 0).bit_length(), _MOST)


def _warps(block: int) -> int:
    return min(max(block // 512, 1), 16)
