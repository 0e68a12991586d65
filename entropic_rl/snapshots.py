"""All that objects are made of, as tensors and plain values, and back: nothing that a training needs is forgotten.

Instead of a list of what to save per class, which is wrong as soon as somebody adds an attribute, a snapshot walks all
attributes; what it does not know how to keep is an error that names it. It is put back into objects that were built
anew from the same settings. Numbers are written into the tensors that are there, so that views and shared tensors stay
what they are. A class names in ``NO_STATE`` those attributes of its own that never change, or follow from others.
"""

from __future__ import annotations

import enum
import functools
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from torch import Tensor

__all__ = ["Snapshot", "difference", "flaw_after", "look", "put_back", "rebind", "take", "unlike"]

_PLAIN = (bool, int, float, str, type(None))
_FIXED = (
    enum.Enum, PurePath, type, torch.dtype, torch.device, torch.Size, np.dtype, spaces.Space, types.FunctionType,
    types.BuiltinFunctionType, types.ModuleType, range, slice, EnvSpec,
)  # fmt: skip
_FIXED_NODE = {"fixed": True}
_STEPPED = (SyncVectorEnv, AsyncVectorEnv)  # of Gymnasium: their copies play their episodes again


@dataclass
class Snapshot:
    """The state of objects.

    Attributes:
        tree: what they are made of, as JSON has it; tensors are named.
        tensors: numbers by name, on the CPU, or the tensors themselves.
    """

    tree: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)


def take(roots: Mapping[str, Any], *, copy: bool = True) -> Snapshot:
    """The state of several objects, by the names that they are given.

    Args:
        roots: the objects. Objects of other packages than theirs and this one cannot be walked.
        copy: whether the tensors are copies; without, they are only good until the objects go on.

    Raises:
        TypeError: an attribute is of a kind that cannot be kept, or hidden in a function.
    """
    return _Walk({_package(root) for root in roots.values()}, copy).over(roots)


def look(roots: Mapping[str, Any]) -> Snapshot:
    """As :func:`take`, with the tensors themselves instead of their numbers, wherever they are; nothing is copied."""
    return _Walk({_package(root) for root in roots.values()}, copy=False, move=False).over(roots)


class _Walk:
    """One walk over objects and all that they hold."""

    def __init__(self, packages: set[str], copy: bool, move: bool = True) -> None:
        self._packages, self._copy, self._move = packages | {_package(self)}, copy, move
        self._tensors: dict[str, Tensor] = {}
        self._seen: dict[int, str] = {}
        self._storages: set[int] = set()
        self._hidden: list[tuple[str, Any]] = []
        self._alive: list[Any] = []  # identities are only told apart while objects live

    def over(self, roots: Mapping[str, Any]) -> Snapshot:
        tree = {name: self._taken(root, name) for name, root in roots.items()}
        for path, item in self._hidden:
            if id(item) not in self._seen:
                raise TypeError(f"{path}: a snapshot cannot keep the {type(item).__qualname__} inside a function")
        return Snapshot(tree, self._tensors)

    def _taken(self, item: Any, path: str) -> Any:
        if isinstance(item, _PLAIN) and not isinstance(item, enum.Enum):
            return {"value": item}
        if isinstance(item, types.FunctionType | functools.partial | types.MethodType):
            self._hidden += [(path, held) for held in _held(item) if self._may_change(held)]
            return _FIXED_NODE
        if isinstance(item, _FIXED) or _is_settings(item):
            return _FIXED_NODE
        if id(item) in self._seen:
            return {"same": self._seen[id(item)]}
        self._seen[id(item)] = path
        self._alive.append(item)
        return self._taken_numbers(item, path) or self._taken_parts(item, path)

    def _taken_numbers(self, item: Any, path: str) -> Any:
        if isinstance(item, Tensor):
            self._tensors[path] = self._numbers(item)
            return {"tensor": path} | ({} if item.is_cpu else {"device": str(item.device)})
        if isinstance(item, np.ndarray) and item.dtype != object:
            self._tensors[path] = torch.from_numpy(np.array(item, order="C"))
            return {"array": path}
        if isinstance(item, np.random.Generator):
            return {"generator": self._taken(item.bit_generator.state, f"{path}.state")}
        return None

    def _taken_parts(self, item: Any, path: str) -> Any:
        if isinstance(item, Mapping):
            return {"dict": [[_plain_key(key, path), self._taken(part, f"{path}.{key}")] for key, part in item.items()]}
        if isinstance(item, list | tuple):
            node = {"list" if isinstance(item, list) else "tuple": self._each(item, path)}
            return node | {"class": type(item).__qualname__} if hasattr(item, "_fields") else node
        if isinstance(item, _STEPPED):
            return {"copies": self._each(_tapes(item, path), f"{path}.copies")}
        if not self._is_known(item):
            raise TypeError(f"{path}: a snapshot cannot keep a {type(item).__module__}.{type(item).__qualname__}")
        skipped = getattr(type(item), "NO_STATE", ())
        parts = {name: part for name, part in _attributes(item).items() if name not in skipped}
        content = {name: self._taken(part, f"{path}.{name}") for name, part in parts.items()}
        return {"object": content, "class": type(item).__qualname__}

    def _each(self, items: Sequence[Any], path: str) -> list[Any]:
        return [self._taken(part, f"{path}.{i}") for i, part in enumerate(items)]

    def _numbers(self, tensor: Tensor) -> Tensor:
        """On the CPU in a storage of their own: views do not lie beside what they are views of; or as they are."""
        if not self._move:
            return tensor
        there = tensor.detach()
        storage = there.untyped_storage()
        alone = there.is_contiguous() and storage.nbytes() == there.nbytes and storage.data_ptr() not in self._storages
        self._storages.add(storage.data_ptr())
        return there.to("cpu", copy=self._copy or not alone).contiguous()

    def _may_change(self, item: Any) -> bool:
        """Whether something that a function holds can be state: settings, which are frozen, cannot."""
        if isinstance(item, Tensor | np.ndarray | np.random.Generator | list | dict):
            return True
        return self._is_known(item) and not _is_settings(item) and not isinstance(item, _FIXED)

    def _is_known(self, item: Any) -> bool:
        return _package(item) in self._packages


def put_back(snapshot: Snapshot, roots: Mapping[str, Any], *, late: Sequence[type] = ()) -> None:
    """Write a snapshot into objects that were built from the same settings.

    Args:
        snapshot: of objects with these names.
        roots: the objects.
        late: classes whose objects may not be there yet, because they are made on the way.

    Raises:
        ValueError: they are other objects than those that it was taken of.
    """
    _Put(snapshot.tensors, {cls.__qualname__: cls for cls in late}).all(snapshot, roots)


def flaw_after(snapshot: Snapshot, roots: Mapping[str, Any], *, late: Sequence[type] = ()) -> str | None:
    """Put a snapshot back, take it again, and say where both differ; None if they are the same bit by bit."""
    try:
        put_back(snapshot, roots, late=late)
        return difference(snapshot, take(roots, copy=False))
    except (KeyError, IndexError, AttributeError, TypeError, ValueError, RuntimeError, StopIteration) as error:
        return str(error) or "it is damaged"


def rebind(snapshot: Snapshot, roots: Mapping[str, Any]) -> None:
    """Let objects hold the very tensors of what :func:`look` gave again, and its plain values; no number is copied."""
    _Put(snapshot.tensors, {}, write=False).all(snapshot, roots)


class _Put:
    """One walk that writes; every method returns what stands where ``item`` stood, the same object wherever it can."""

    def __init__(self, tensors: Mapping[str, Tensor], late: Mapping[str, type], *, write: bool = True) -> None:
        self._tensors, self._late, self._write = tensors, late, write
        self._done: dict[str, Any] = {}
        self._written: dict[int, Tensor] = {}  # by identity

    def all(self, snapshot: Snapshot, roots: Mapping[str, Any]) -> None:
        for name, root in roots.items():
            if name not in snapshot.tree:
                raise ValueError(f"{name} is missing")
            self.into(root, snapshot.tree[name], name)

    def into(self, item: Any, node: dict[str, Any], path: str) -> Any:
        kind = next(iter(node))
        if kind == "fixed":
            return item
        if kind == "value":
            return node["value"]
        if kind == "same":  # as another attribute, however it is now
            return self._done[node["same"]]
        self._done[path] = item  # before its parts, which may point back
        self._done[path] = getattr(self, f"_{kind}")(item, node, path)
        return self._done[path]

    def _object(self, item: Any, node: dict[str, Any], path: str) -> Any:
        if item is None and node["class"] in self._late:
            item = self._done[path] = object.__new__(self._late[node["class"]])
        if type(item).__qualname__ != node["class"]:
            raise ValueError(f"{path} is a {node['class']} in one and a {type(item).__qualname__} in the other")
        now = _attributes(item)
        for name, part in node["object"].items():
            new = self.into(now.get(name), part, f"{path}.{name}")
            if name not in now or new is not now[name]:
                object.__setattr__(item, name, new)
        return item

    def _list(self, item: Any, node: dict[str, Any], path: str) -> Any:
        parts = self._each(item or (), node["list"], path)
        if not isinstance(item, list):
            return parts
        item[:] = parts  # others may hold it, too
        return item

    def _tuple(self, item: Any, node: dict[str, Any], path: str) -> Any:
        parts = self._each(item or (), node["tuple"], path)
        if "class" not in node:
            return tuple(parts)
        cls: Any = type(item) if item is not None else self._late[node["class"]]
        return cls(*parts)

    def _dict(self, item: Any, node: dict[str, Any], path: str) -> Any:
        before = dict(item or {})
        parts = {key: self.into(before.get(key), part, f"{path}.{key}") for key, part in node["dict"]}
        if not isinstance(item, dict):
            return parts
        item.clear()
        item.update(parts)
        return item

    def _tensor(self, item: Any, node: dict[str, Any], path: str) -> Any:
        then = self._tensors[node["tensor"]]
        if not self._write:
            return then
        fits = isinstance(item, Tensor) and item.shape == then.shape and item.dtype == then.dtype
        if fits and id(item) not in self._written:  # else two places hold one now that held two then
            self._written[id(item)] = item
            with torch.no_grad():
                item.copy_(then)
            return item
        return then.to(item.device if isinstance(item, Tensor) else node.get("device", "cpu"), copy=True)

    def _array(self, item: Any, node: dict[str, Any], path: str) -> Any:
        return self._tensors[node["array"]].numpy().copy()

    def _generator(self, item: Any, node: dict[str, Any], path: str) -> Any:
        item.bit_generator.state = self.into(None, node["generator"], f"{path}.state")
        return item

    def _copies(self, item: Any, node: dict[str, Any], path: str) -> Any:
        item.set_attr("tape", self._each((), node["copies"], f"{path}.copies"))
        return item

    def _each(self, items: Sequence[Any], nodes: Sequence[dict[str, Any]], path: str) -> list[Any]:
        before = [*items, *[None] * len(nodes)]
        return [self.into(before[i], node, f"{path}.{i}") for i, node in enumerate(nodes)]


def difference(one: Snapshot, other: Snapshot) -> str | None:
    """Where two snapshots differ first, as a path; None if they are the same bit by bit."""
    if (path := unlike(one, other)) is not None:
        return path
    return next((name for name, x in one.tensors.items() if not _same_bits(x, other.tensors[name])), None)


def unlike(one: Snapshot, other: Snapshot) -> str | None:
    """Where two snapshots differ first in anything but the numbers of tensors; None if they do nowhere."""
    for name in {**one.tree, **other.tree}:
        if (path := _tree_difference(one.tree.get(name), other.tree.get(name), name)) is not None:
            return path
    pairs = ((name, tensor, other.tensors[name]) for name, tensor in one.tensors.items())
    return next((name for name, x, y in pairs if x.shape != y.shape or x.dtype != y.dtype), None)


def _tree_difference(one: Any, other: Any, path: str) -> str | None:
    if isinstance(one, dict) and isinstance(other, dict):
        names = [*one, *(name for name in other if name not in one)]
        pairs = [(one.get(name), other.get(name), f"{path}.{name}") for name in names]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(*both, f"{path}.{i}") for i, both in enumerate(zip(one, other, strict=True))]
    else:
        return None if _same_value(one, other) else path
    return next((found for pair in pairs if (found := _tree_difference(*pair)) is not None), None)


def _same_value(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return float(one).hex() == float(other).hex()  # NaN is NaN, and -0 is not 0
    return bool(isinstance(one, bool) == isinstance(other, bool) and one == other)


def _same_bits(one: Tensor, other: Tensor) -> bool:
    # Also where strides are 0.
    flat = (x.contiguous().as_strided((x.numel(),), (1,)) for x in (one, other))
    return torch.equal(*(numbers.view(torch.uint8) for numbers in flat))


def _tapes(env: Any, path: str) -> Any:
    try:
        return env.get_attr("tape")
    except AttributeError:
        raise TypeError(f"{path}: a snapshot cannot keep environments without an EpisodeTape around each") from None


def _plain_key(key: Any, path: str) -> Any:
    if not isinstance(key, _PLAIN):
        raise TypeError(f"{path}: a snapshot cannot keep a dict with a {type(key).__qualname__} as key")
    return key


def _held(function: Any) -> list[Any]:
    """What a function holds on to beside its arguments."""
    if isinstance(function, functools.partial):
        return [*function.args, *function.keywords.values(), *_held(function.func)]
    if isinstance(function, types.MethodType):
        return [function.__self__]
    cells = getattr(function, "__closure__", None) or ()
    return [cell.cell_contents for cell in cells]


def _is_settings(item: Any) -> bool:
    """Whether it is frozen and holds no numbers that could be written to: objects that are built anew have it again."""
    parameters = getattr(type(item), "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        return False
    return all(map(_is_constant, _attributes(item).values()))


def _is_constant(item: Any) -> bool:
    if isinstance(item, list | tuple):
        return all(map(_is_constant, item))
    if isinstance(item, Mapping):
        return all(map(_is_constant, item.values()))
    return isinstance(item, (*_PLAIN, *_FIXED)) or _is_settings(item)


def _package(item: Any) -> str:
    return type(item).__module__.partition(".")[0]


def _attributes(item: Any) -> dict[str, Any]:
    slots = [name for cls in type(item).__mro__ for name in getattr(cls, "__slots__", ()) if not name.startswith("__")]
    return {name: getattr(item, name) for name in slots if hasattr(item, name)} | getattr(item, "__dict__", {})
