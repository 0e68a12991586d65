"""What code must not do to a device that it does not want to wait for, made visible without one.

On the device "meta", tensors have shapes and no numbers: whatever asks one for a number raises there by itself. What a
GPU is waited for beside that, and what a CUDA graph cannot record, is found here among the calls themselves.
"""

import contextlib

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
READ_BY_THE_HOST = (aten.masked_fill.Tensor, aten.masked_fill_.Tensor)  # CUDA asks for the value
ASSIGNMENTS = (aten.index_put.default, aten.index_put_.default, aten.index.Tensor)
MAKERS = (torch.tensor, torch.as_tensor, Tensor.new_tensor)


class Rude(Exception):  # noqa: N818 - it is what somebody was
    """A call that a GPU is waited for, or that a graph would not repeat."""


@contextlib.contextmanager
def good_manners(*, alone=False):
    """Within it, whatever lies on a device other than the CPU must not have to do with the CPU.

    Copies to the device that nobody waits for are let through, unless it is to be left ``alone``: within a graph the
    host's memory would be read again.
    """
    with _Calls(), _Operations(alone):
        yield


class _Calls(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in MAKERS and result.device.type != "cpu":
            data = args[1] if func is Tensor.new_tensor else args[0]
            if not isinstance(data, Tensor):
                raise Rude(f"{func.__name__} copies numbers of the host")
        has_numbers = not all(isinstance(x, Tensor) for x in (*args, *kwargs.values()))
        if func in (torch.where, Tensor.where) and has_numbers and result.device.type != "cpu":
            raise Rude("where copies a number of the host")
        return result


class _Operations(TorchDispatchMode):
    def __init__(self, alone):
        super().__init__()
        self._alone = alone

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        places = {x.device.type for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)}
        if places <= {"cpu"}:
            return result
        if "cpu" in places and (self._alone or not _is_in_passing(func, args, kwargs)):
            raise Rude(f"{func} has to do with {' and '.join(sorted(places))}")
        if func in READ_BY_THE_HOST:
            raise Rude(f"{func} asks for its value")
        if func in ASSIGNMENTS and any(x is not None and x.dtype is torch.bool for x in args[1]):
            raise Rude(f"{func} asks how many a mask lets through")
        return result


def _is_in_passing(func, args, kwargs):
    """Whether it is a copy that is not waited for."""
    if func is aten.copy_.default:
        return len(args) > 2 and args[2]
    return func is aten._to_copy.default and kwargs.get("non_blocking", False)
