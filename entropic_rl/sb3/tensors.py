"""Tensors out of a file that ``torch.save`` wrote, by reading its instructions instead of following them.

Such a file is a zip of raw numbers and one pickle that says how tensors lie in them. A pickle is a program that may
call anything; here it is only parsed (``pickletools``), and of its instructions those are understood that describe
dictionaries, tuples, numbers, texts and tensors. Names of functions are compared, never looked up, so that there is
nothing that could be called. ``torch.load(weights_only=True)`` means to do the same, and has had holes
(CVE-2025-32434, CVE-2026-24747).
"""

from __future__ import annotations

import io
import math
import pickletools
import sys
import zipfile
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["read_member", "read_tensors"]

_MOST_BYTES = 2**31  # of a file's part unpacked: policies of perceptrons take a few million
_MARK = object()
_DTYPES = {
    "torch DoubleStorage": torch.float64,
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}
_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINFLOAT"}
_TAKEN = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPEND": 1, "SETITEM": 2}  # values; others take all since a mark


class _Name(NamedTuple):
    """What a function or class is called: ``torch._utils _rebuild_tensor_v2``."""

    text: str


def read_tensors(content: bytes) -> Any:
    """What ``torch.save`` wrote, if it is built of dictionaries, lists, tuples, plain values and tensors.

    Where it holds a class or function, there is its name instead.

    Raises:
        ValueError: it holds anything else.
        zipfile.BadZipFile: it is no zip file, or damaged.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        [described] = [name for name in archive.namelist() if name.endswith("data.pkl")]
        folder = described.removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist():
            order = read_member(archive, f"{folder}byteorder").decode()
            if order != sys.byteorder:
                raise ValueError(f"expected numbers in {sys.byteorder} byte order, got {order}")

        @cache
        def storage(key: str, dtype: torch.dtype) -> Tensor:
            raw = read_member(archive, f"{folder}data/{key}")
            return torch.frombuffer(bytearray(raw), dtype=dtype) if raw else torch.empty(0, dtype=dtype)

        return _Reading(storage).value(read_member(archive, described))


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """A part of a zip file, if it does not unpack to an unreasonable size.

    Raises:
        KeyError: there is none of that name.
        ValueError: it would take too much memory.
    """
    size = archive.getinfo(name).file_size  # more than that is never unpacked
    if size > _MOST_BYTES:
        raise ValueError(f"expected at most {_MOST_BYTES:,} bytes in {name}, got {size:,}")
    return archive.read(name)


class _Reading:
    """The value that a pickle describes."""

    def __init__(self, storage: Callable[[str, torch.dtype], Tensor]) -> None:
        self._storage = storage
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def value(self, pickled: bytes) -> Any:
        """Read instructions up to the end.

        Raises:
            ValueError: one is none of those that describe tensors, or there is nothing for it to work on.
        """
        try:
            for opcode, argument, _ in pickletools.genops(pickled):
                if opcode.name == "STOP":
                    return self._stack.pop()
                self._take(opcode.name, argument)
        except (IndexError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
            raise ValueError(f"damaged: {error}") from None
        raise ValueError("damaged: it has no end")

    def _take(self, name: str, argument: Any) -> None:
        """Follow one instruction."""
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self._stack.append(_EMPTY[name]())
        elif name in _VALUES:
            self._stack.append(argument)
        elif name == "GLOBAL":
            self._stack.append(_Name(argument))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name != "PROTO":
            self._put_together(name)

    def _put_together(self, name: str) -> None:
        """Follow an instruction that makes one value of several."""
        stack = self._stack
        if name.startswith("TUPLE"):
            stack.append(tuple(self._items(name)))
        elif name in ("APPEND", "APPENDS"):
            items = self._items(name)
            _only(list, stack[-1]).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._items(name)
            _only(dict, stack[-1]).update(zip(items[::2], items[1::2], strict=True))
        elif name == "BINPERSID":
            stack.append(self._stored(stack.pop()))
        elif name == "REDUCE":
            stack.append(_built(*self._popped(2)))
        elif name == "BUILD":  # what a state_dict notes about versions of modules
            _only(dict, stack[-2])
            stack.pop()
        else:
            raise ValueError(f"the instruction {name} describes no tensor")

    def _popped(self, n: int) -> list[Any]:
        if len(self._stack) < n:
            raise ValueError("damaged: too few values")
        taken = self._stack[-n:]
        del self._stack[-n:]
        return taken

    def _items(self, name: str) -> list[Any]:
        """The values that an instruction is about."""
        if name in _TAKEN:
            return self._popped(_TAKEN[name])
        place = max(i for i, value in enumerate(self._stack) if value is _MARK)
        taken = self._stack[place + 1 :]
        del self._stack[place:]
        return taken

    def _stored(self, said: tuple[Any, ...]) -> Tensor:
        """The numbers that ``("storage", type, key, device, count)`` names."""
        kind, dtype, key, *_ = said
        if kind != "storage" or not isinstance(key, str):
            raise ValueError("damaged: expected the name of a storage")
        return self._storage(key, _DTYPES[_only(_Name, dtype).text])


def _built(function: Any, arguments: Sequence[Any]) -> Any:
    """What a function would return, of those that there are in a file of tensors."""
    called = _only(_Name, function).text
    if called == "collections OrderedDict" and not arguments:
        return {}
    if called == "torch._utils _rebuild_parameter":
        return _only(Tensor, arguments[0])
    if called == "torch._utils _rebuild_tensor_v2":
        storage, offset, size, stride, *_ = arguments
        if math.prod(_only(tuple, size)) > len(_only(Tensor, storage)):
            raise ValueError("damaged: a tensor is larger than its numbers")
        return storage.as_strided(size, stride, offset)
    raise ValueError(f"it would call {called}")


def _only(kind: type[Any], value: Any) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"expected a {kind.__name__}, got a {type(value).__name__}")
    return value
