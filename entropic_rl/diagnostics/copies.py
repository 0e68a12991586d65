"""Working on a copy: a user's module in float64, and random generators as they were."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from entropic_rl.errors import ConfigError, first_line

__all__ = ["double_copy", "random_state_kept"]

M = TypeVar("M", bound=nn.Module)


def double_copy(module: M, name: str = "module") -> M:
    """A copy of ``module`` in float64 that shares nothing with it.

    Args:
        module: as it is, in either mode.
        name: of the argument, for errors.

    Raises:
        ConfigError: it cannot be copied, has lazy parameters without a shape, complex ones, or some in half precision.
    """
    for own, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
            raise ConfigError(
                f"{name}: expected parameters that have a shape, got the lazy {own!r}; call it once first"
            )
        if tensor.is_complex() or (tensor.is_floating_point() and tensor.dtype.itemsize < 4):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ConfigError(f"{name}: expected float32 or float64, got {kind} in {own!r}; convert it with .float()")
    try:
        return copy.deepcopy(module).double()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ConfigError(
            f"{name}: expected a module that can be copied, got {first_line(error)!r}; detach the tensors that it keeps"
        ) from error


@contextmanager
def random_state_kept(module: nn.Module | None = None) -> Iterator[None]:
    """Afterwards every generator is where it was: torch's on the devices of ``module``, NumPy's and Python's."""
    parameters = list(module.parameters()) if isinstance(module, nn.Module) else []  # what is none is refused later
    devices = sorted({p.device.index or 0 for p in parameters if p.device.type == "cuda"})
    of_numpy, of_python = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        np.random.set_state(of_numpy)
        random.setstate(of_python)
