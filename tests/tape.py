"""What a CUDA graph does, on the CPU: operations are recorded, and repeated on the memory they were recorded with."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
ASKING = {aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default, aten.masked_select.default}


class Tape:
    """Stands in for :class:`entropic_rl.cuda_graphs.CudaGraph`.

    Recording computes nothing, as there: what was overwritten is put back, and all that is new is left full of
    nonsense until it is replayed.
    """

    def warm_up(self, function):
        return function()

    def record(self, function):
        self._operations = _Operations()
        with self._operations:
            result = function()
        self._operations.undo()
        return result

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, made in self._operations.done:
            again = tree_leaves(func(*args, **kwargs))
            for place, x in zip(made, again, strict=True):
                if isinstance(x, Tensor) and _memory(x) != _memory(place):
                    place.copy_(x)


class _Operations(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.done, self._before, self._new = [], {}, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in ASKING:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        kwargs = kwargs or {}
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if func._schema.is_mutable:
            for x in given:
                if _memory(x) not in self._new and _memory(x) not in self._before:
                    self._before[_memory(x)] = (x, x.untyped_storage().clone())
        result = func(*args, **kwargs)
        made = tree_leaves(result)
        known = {_memory(x) for x in given}
        self._new |= {_memory(x): x for x in made if isinstance(x, Tensor) and _memory(x) not in known}
        self.done.append((func, args, kwargs, made))
        return result

    def undo(self):
        for x, storage in self._before.values():
            x.untyped_storage().copy_(storage)
        for x in self._new.values():
            x.untyped_storage().fill_(0xFF)


def _memory(x):
    return x.untyped_storage().data_ptr()
