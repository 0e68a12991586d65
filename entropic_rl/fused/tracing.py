"""Rules of an environment as Python source that Numba compiles: traced once, then written out for a single copy.

``Dynamics`` are tensor programs in which copies never meet. Tracing them with one copy leaves a list of tensor
operations; here each is carried out on arrays of *names* of numbers, and what is left are lines of arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Symbols", "Untraceable", "Writer", "trace"]

_MAX_LINES = 2000  # more would take minutes to compile
_WIDE = 16  # numbers of a table's row from which it is copied by a loop
_ELSEWHERE = ("dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking")  # seen from the result
_CASTS = {torch.float64: "np.float64", torch.float32: "np.float32", torch.int64: "np.int64", torch.bool: "bool"}


class Untraceable(Exception):  # noqa: N818 - says what is so, not that it is wrong
    """There is an operation that cannot be written out."""


@dataclass(frozen=True)
class Symbols:
    """An array of numbers known by name.

    Attributes:
        names: objects: names of variables, or literals.
        dtype: of the numbers.
        row: ``(table, index, width)`` if it is a whole row of a table and has not been looked at in detail.
    """

    names: NDArray[Any]
    dtype: torch.dtype
    row: tuple[int, str, int] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """As of the tensor that it stands for."""
        return self.names.shape


class Writer:
    """Lines of source, and the tables that they look numbers up in.

    Attributes:
        lines: the source.
        tables: all numbers of all tables, one table after the other.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tables = np.empty(0)

    def line(self, expression: str, dtype: torch.dtype) -> str:
        """A variable with this value; its name.

        Raises:
            Untraceable: there are too many lines, or numbers are of another kind.
        """
        if len(self.lines) >= _MAX_LINES:
            raise Untraceable(f"more than {_MAX_LINES} operations")
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {_cast_to(dtype)}({expression})")
        return name

    def table(self, numbers: Tensor) -> int:
        """Keep these numbers; where they begin."""
        start = len(self.tables)
        self.tables = np.concatenate([self.tables, numbers.to(torch.float64).flatten().numpy()])
        return start

    def map(self, template: str, dtype: torch.dtype, *operands: Any) -> Symbols:
        """``template`` with each of the operands, cast to the dtype they are put in with, for all places."""
        arrays = np.broadcast_arrays(*[self.array(x).names for x in operands])
        found = np.empty(arrays[0].shape, dtype=object)
        for place in np.ndindex(found.shape):
            found[place] = self.line(template.format(*[array[place] for array in arrays]), dtype)
        return Symbols(found, dtype)

    def array(self, x: Any, dtype: torch.dtype | None = None) -> Symbols:
        """Symbols of whatever an operation was given, of another dtype if one is named."""
        if isinstance(x, Symbols):
            if x.row is not None:
                table, index, width = x.row
                parts = [self.line(f"tables[{table} + {index} * {width} + {d}]", x.dtype) for d in range(width)]
                x = Symbols(np.array(parts, dtype=object).reshape(x.shape), x.dtype)
            return x if dtype is None or dtype is x.dtype else self.map("{0}", dtype, x)
        if isinstance(x, Tensor):
            names = np.empty(tuple(x.shape), dtype=object)
            for place in np.ndindex(names.shape):
                names[place] = _literal(x[place].item(), x.dtype)
            return self.array(Symbols(names, x.dtype), dtype)
        own = torch.as_tensor(x).dtype if dtype is None else dtype
        return Symbols(np.array(_literal(x, own), dtype=object), own)


def trace(writer: Writer, function: Callable[..., Any], *inputs: tuple[Tensor, Symbols]) -> list[Symbols]:
    """Write out ``function`` of ``inputs``: examples, of one copy, and the names that stand for them.

    Raises:
        Untraceable: saying which operation cannot be.
    """
    with _Tracer(writer, inputs) as tracer:
        results = function(*[example for example, _ in inputs])
        return [tracer.symbols(result) for result in results]


class _Tracer(TorchDispatchMode):
    """Sees every operation on tensors, does it, and writes down those that depend on the inputs."""

    def __init__(self, writer: Writer, inputs: Sequence[tuple[Tensor, Symbols]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._writer = writer
        self._known = {id(example): (example, symbols) for example, symbols in inputs}  # which also keeps them alive

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip it, torch would have to import it, for a second

    def symbols(self, x: Any) -> Any:
        """What is known of a tensor, through lists; itself if that is its numbers."""
        if isinstance(x, list | tuple):
            return [self.symbols(part) for part in x]
        return self._known[id(x)][1] if id(x) in self._known else x

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found, given = function(*args, **(kwargs or {})), [self.symbols(x) for x in args]
        if not any(isinstance(x, Symbols) for x in _leaves(given)):
            return found
        name = function.__name__.split(".")[0]
        if name not in _OPERATIONS:
            raise Untraceable(name)
        is_several = isinstance(found, list | tuple)
        results = list(found) if is_several else [found]
        settings = {name: value for name, value in (kwargs or {}).items() if name not in _ELSEWHERE}
        try:
            written = _OPERATIONS[name](self._writer, results[0].dtype, *given, **settings)
        except (TypeError, ValueError) as error:  # of arguments that it does not know
            raise Untraceable(f"{name} with these arguments") from error
        for result, symbols in zip(results, written if is_several else [written], strict=True):
            if tuple(result.shape) != symbols.shape:
                raise Untraceable(f"{name} of these shapes")
            self._known[id(result)] = (result, symbols)
        return found


def _leaves(x: Any) -> list[Any]:
    return [leaf for part in x for leaf in _leaves(part)] if isinstance(x, list | tuple) else [x]


def _cast_to(dtype: torch.dtype) -> str:
    if dtype not in _CASTS:
        raise Untraceable(f"{dtype}")
    return _CASTS[dtype]


def _literal(x: float, dtype: torch.dtype) -> str:
    number = repr(x) if math.isfinite(x) else {math.inf: "np.inf", -math.inf: "-np.inf"}.get(x, "np.nan")
    return f"{_cast_to(dtype)}({number})"


def _elementwise(template: str) -> Callable[..., Symbols]:
    """Operands in the result's dtype."""

    def write(writer: Writer, dtype: torch.dtype, *operands: Any, alpha: Any = 1, value: Any = 1) -> Symbols:
        if len(operands) > template.count("{") or (template == "not {0}" and dtype != torch.bool):
            raise Untraceable("a weight that is not named, or bits of an integer turned over")
        weight = value if alpha == 1 else alpha
        extra = [] if weight == 1 else [writer.array(weight, dtype)]
        pattern = template if not extra else _WEIGHTED[template]
        return writer.map(pattern, dtype, *[writer.array(x, dtype) for x in operands], *extra)

    return write


_WEIGHTED = {
    "{0} + {1}": "{0} + {2} * {1}",
    "{0} - {1}": "{0} - {2} * {1}",
    "{0} + {1} * {2}": "{0} + {3} * {1} * {2}",
}


def _compare(sign: str) -> Callable[..., Symbols]:
    def write(writer: Writer, dtype: torch.dtype, left: Any, right: Any) -> Symbols:
        common = torch.result_type(
            *[torch.zeros(1, dtype=x.dtype) if hasattr(x, "dtype") else x for x in (left, right)]
        )
        return writer.map(f"{{0}} {sign} {{1}}", dtype, writer.array(left, common), writer.array(right, common))

    return write


def _clamp(writer: Writer, dtype: torch.dtype, x: Any, low: Any = None, high: Any = None) -> Symbols:
    found = writer.array(x, dtype)  # what is not a number stays so
    if low is not None:
        found = writer.map("{1} if {0} < {1} else {0}", dtype, found, writer.array(low, dtype))
    if high is not None:
        found = writer.map("{1} if {0} > {1} else {0}", dtype, found, writer.array(high, dtype))
    return found


def _masked_fill(writer: Writer, dtype: torch.dtype, x: Any, mask: Any, value: Any) -> Symbols:
    return _where(writer, dtype, mask, value, x)


def _where(writer: Writer, dtype: torch.dtype, condition: Any, one: Any, other: Any) -> Symbols:
    operands = writer.array(condition), writer.array(one, dtype), writer.array(other, dtype)
    return writer.map("{1} if {0} else {2}", dtype, *operands)


def _index_select(writer: Writer, dtype: torch.dtype, table: Any, dim: int, index: Any) -> Symbols:
    if not isinstance(table, Tensor) or dim != 0:
        raise Untraceable("index_select of what is computed")
    start, width = writer.table(table), int(np.prod(table.shape[1:]))
    [which] = writer.array(index).names.flatten()
    row = Symbols(np.empty((1, *table.shape[1:]), dtype=object), dtype, (start, which, width))
    return row if width >= _WIDE else writer.array(row)


def _reduced(template: str) -> Callable[..., Symbols]:
    def write(writer: Writer, dtype: torch.dtype, x: Any, dims: Any = (), keepdim: bool = False) -> Symbols:
        dims = dims if isinstance(dims, list | tuple) else [dims]
        if len(dims) != 1:
            raise Untraceable("a reduction over several dimensions")
        [dim] = dims
        parts = [Symbols(part, dtype) for part in np.moveaxis(writer.array(x, dtype).names, dim, 0)]
        found = parts[0]
        for part in parts[1:]:
            found = writer.map(template, dtype, found, part)
        return Symbols(np.expand_dims(found.names, dim), dtype) if keepdim else found

    return write


def _moved(change: Callable[..., Any]) -> Callable[..., Any]:
    """Names put elsewhere: no arithmetic."""

    def write(writer: Writer, dtype: torch.dtype | None, x: Any, *arguments: Any) -> Any:
        symbols = writer.array(x)
        found = change(symbols.names, *arguments)
        if isinstance(found, list):
            return [Symbols(np.asarray(part, dtype=object), symbols.dtype) for part in found]
        return Symbols(np.asarray(found, dtype=object), symbols.dtype)

    return write


def _joined(join: Callable[..., Any]) -> Callable[..., Symbols]:
    def write(writer: Writer, dtype: torch.dtype, parts: Any, dim: int = 0) -> Symbols:
        return Symbols(join([writer.array(part, dtype).names for part in parts], dim), dtype)

    return write


def _slice(names: NDArray[Any], dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Any:
    place = [slice(None)] * names.ndim
    place[dim] = slice(start, end, step)
    return names[tuple(place)]


def _select(names: NDArray[Any], dim: int, index: int) -> Any:
    return np.take(names, index, axis=dim)


def _unbind(names: NDArray[Any], dim: int = 0) -> list[Any]:
    return list(np.moveaxis(names, dim, 0))


def _filled(number: Any) -> Callable[..., Symbols]:
    def write(writer: Writer, dtype: torch.dtype, x: Any, *value: Any) -> Symbols:
        return Symbols(np.full(x.names.shape, _literal(value[0] if value else number, dtype), dtype=object), dtype)

    return write


def _pow(writer: Writer, dtype: torch.dtype, x: Any, exponent: Any) -> Symbols:
    base = writer.array(x, dtype)
    if exponent == 2:
        return writer.map("{0} * {0}", dtype, base)
    return writer.map("{0} ** {1}", dtype, base, writer.array(exponent, dtype))


def _cast(writer: Writer, dtype: torch.dtype, x: Any) -> Symbols:
    return x if isinstance(x, Symbols) and x.dtype == dtype else writer.array(x, dtype)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": _elementwise("{0} + {1}"),
    "sub": _elementwise("{0} - {1}"),
    "rsub": _elementwise("{1} - {0}"),
    "mul": _elementwise("{0} * {1}"),
    "div": _elementwise("{0} / {1}"),
    "addcmul": _elementwise("{0} + {1} * {2}"),
    "neg": _elementwise("-{0}"),
    "abs": _elementwise("abs({0})"),
    "sin": _elementwise("math.sin({0})"),
    "cos": _elementwise("math.cos({0})"),
    "tanh": _elementwise("math.tanh({0})"),
    "exp": _elementwise("math.exp({0})"),
    "sqrt": _elementwise("math.sqrt({0})"),
    "floor": _elementwise("math.floor({0})"),
    "remainder": _elementwise("{0} % {1}"),
    "pow": _pow,
    "lt": _compare("<"),
    "le": _compare("<="),
    "gt": _compare(">"),
    "ge": _compare(">="),
    "eq": _compare("=="),
    "ne": _compare("!="),
    "bitwise_and": _elementwise("{0} & {1}"),
    "bitwise_or": _elementwise("{0} | {1}"),
    "bitwise_not": _elementwise("not {0}"),
    "where": _where,
    "masked_fill": _masked_fill,
    "clamp": _clamp,
    "index_select": _index_select,
    "any": _reduced("{0} or {1}"),
    "all": _reduced("{0} and {1}"),
    "sum": _reduced("{0} + {1}"),
    "unbind": _moved(_unbind),
    "select": _moved(_select),
    "slice": _moved(_slice),
    "permute": _moved(np.transpose),
    "unsqueeze": _moved(np.expand_dims),
    "squeeze": _moved(np.squeeze),
    "view": _moved(np.reshape),
    "expand": _moved(np.broadcast_to),
    "stack": _joined(np.stack),
    "cat": _joined(np.concatenate),
    "_to_copy": _cast,
    "clone": _cast,
    "detach": _cast,
    "zeros_like": _filled(0),
    "ones_like": _filled(1),
    "full_like": _filled(0),
}
