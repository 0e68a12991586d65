"""Trying something on a module and its optimizer that leaves no trace: everything is put back, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from entropic_rl.diagnostics.copies import random_state_kept

__all__ = ["restored"]


@contextmanager
def restored(module: nn.Module, optimizer: torch.optim.Optimizer, data: Any = None) -> Iterator[None]:
    """Afterwards all is as it was, also after an exception or an interrupt.

    That is: parameters and their gradients, buffers (those that are not saved as well), training modes; the optimizer's
    state, settings and counters; torch's, NumPy's and Python's generators, and those of a data loader and its samplers.
    What a module keeps in attributes of other kinds is not ours to copy.

    Args:
        module: any.
        optimizer: of its parameters.
        data: a loader whose generators are kept; anything else has none.
    """
    with ExitStack() as stack:
        stack.enter_context(random_state_kept(module))
        for generator in _generators(data):
            stack.callback(generator.set_state, generator.get_state())
        _keep_module(stack, module)
        _keep_optimizer(stack, optimizer)
        yield


def _keep_module(stack: ExitStack, module: nn.Module) -> None:
    for part in module.modules():
        stack.callback(setattr, part, "training", part.training)
        stack.callback(_put_back, part._buffers, dict(part._buffers))
        for tensor in part._buffers.values():
            _keep(stack, tensor)
    for parameter in module.parameters():
        _keep(stack, parameter)
        stack.callback(setattr, parameter, "grad", parameter.grad)
        _keep(stack, parameter.grad)


def _keep_optimizer(stack: ExitStack, optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        stack.callback(_put_back, group, dict(group))
        for value in group.values():
            _keep(stack, value)
        for parameter in group["params"]:
            _keep(stack, parameter)
    stack.callback(_put_back, optimizer.state, {p: copy.deepcopy(own) for p, own in optimizer.state.items()})
    stack.callback(_put_back_plain, vars(optimizer), _plain(vars(optimizer)))


def _keep(stack: ExitStack, value: Any) -> None:
    """Put the numbers of a tensor back where they were."""
    if isinstance(value, Tensor):
        stack.callback(_overwrite, value, value.detach().clone())


@torch.no_grad()
def _overwrite(tensor: Tensor, old: Tensor) -> None:
    tensor.copy_(old)


def _put_back(holder: Any, old: dict[Any, Any]) -> None:
    holder.clear()
    holder.update(old)


def _plain(attributes: dict[str, Any]) -> dict[str, Any]:
    """Counters and switches."""
    return {name: value for name, value in attributes.items() if value is None or isinstance(value, bool | int | float)}


def _put_back_plain(attributes: dict[str, Any], old: dict[str, Any]) -> None:
    for name in _plain(attributes).keys() - old.keys():
        del attributes[name]
    attributes.update(old)


def _generators(data: Any) -> list[torch.Generator]:
    """Of a loader and of its samplers, each once."""
    batches = getattr(data, "batch_sampler", None)
    holders = [data, getattr(data, "sampler", None), batches, getattr(batches, "sampler", None)]
    found = [getattr(holder, "generator", None) for holder in holders]
    return list({id(own): own for own in found if isinstance(own, torch.Generator)}.values())
