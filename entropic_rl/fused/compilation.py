"""How the functions here are compiled, and where what comes of it is kept."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = [
    "Booleans",
    "Floats",
    "Floats64",
    "Integers",
    "bits_of",
    "cache_directory",
    "called_by_pointer",
    "compiled",
    "compiled_as_written",
    "compiled_exactly",
    "fetch_add",
    "floats64_at",
    "floats_at",
    "from_bits",
    "integers_at",
    "is_compiled",
    "put",
]

Floats = NDArray[np.float32]
Floats64 = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
_HERE = Path(__file__).parent
Function = TypeVar("Function", bound=Callable[..., Any])

# Sums in any order, products and sums in one instruction; numbers that are not finite keep their meaning.
_FAST = {"contract", "reassoc", "nsz", "arcp"}
_AS_WRITTEN = {"contract", "nsz"}


def compiled(function: Function) -> Function:
    """``function`` as machine code, which releases the GIL; compiled at its first call, and kept for all later ones."""
    return _kept(numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_FAST), function)


def compiled_as_written(function: Function) -> Function:
    """The same, but that sums keep their order, also within functions that call it; several numbers at a time, too."""
    return _kept(numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_AS_WRITTEN), function)


def compiled_exactly(function: Function) -> Function:
    """The same, with arithmetic as it is written."""
    options = {
        "nogil": True,
        "cache": True,
        "error_model": "numpy",
        "fastmath": False,
    }  # else a caller's are taken over
    return _kept(numba.njit(**options), function)


def called_by_pointer(signature: Any) -> Callable[[Function], Function]:
    """``function`` as machine code that other compiled functions call without knowing it; arithmetic as it is written.

    It is compiled at once, and kept.
    """
    return partial(_kept, numba.cfunc(signature, cache=True, nopython=True, error_model="numpy"))


def _kept(compile_: Callable[[Function], Function], function: Function) -> Function:
    folder = Path(function.__code__.co_filename).parent
    own = cache_directory(folder) if folder.parent == _HERE.parent else cache_directory()
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(own)
    try:
        return compile_(function)
    finally:
        numba.config.CACHE_DIR = before


def is_compiled(name: str) -> bool:
    """Whether machine code of the function with this name has been kept."""
    return any(cache_directory().rglob(f"*.{name}-*.nbi"))


@intrinsic  # type: ignore[untyped-decorator]
def bits_of(typing_context: Any, x: Any) -> Any:
    """The 64 bits of a float64, as an integer."""
    return types.int64(types.float64), lambda context, builder, signature, args: builder.bitcast(
        args[0], ir.IntType(64)
    )


@intrinsic  # type: ignore[untyped-decorator]
def from_bits(typing_context: Any, bits: Any) -> Any:
    """The float64 that has these 64 bits."""
    return types.float64(types.int64), lambda context, builder, signature, args: builder.bitcast(
        args[0], ir.DoubleType()
    )


@intrinsic  # type: ignore[untyped-decorator]
def fetch_add(typing_context: Any, numbers: Any, i: Any, n: Any) -> Any:
    """Add ``n`` to an integer that other threads add to, too; what it was before. All that they wrote until then is
    seen.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.atomic_rmw("add", builder.gep(array.data, [args[1]]), args[2], "seq_cst")

    return types.int64(numbers, types.int64, types.int64), generate


@cache
def cache_directory(folder: Path = _HERE) -> Path:
    """Where machine code of exactly these sources lies: ``$XDG_CACHE_HOME/entropic_rl/DIGEST``.

    Numba looks at the file of the function called alone, and not at those of the functions that it calls: the digest is
    of all that lie in its ``folder`` of this package, and of these here. It is of their place, too: Numba keeps what
    lies in different ones apart.
    """
    digest = hashlib.sha256(str(folder).encode())
    for path in sorted({*_HERE.glob("*.py"), *folder.glob("*.py")}):
        digest.update(path.read_bytes())
    return _home() / digest.hexdigest()[:16]


@cache
def _home() -> Path:
    """Where machine code is kept; if nothing can be written there, in a folder of this process."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "entropic_rl"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            return home
    except OSError:
        return Path(tempfile.mkdtemp(prefix="entropic_rl-"))


@compiled
def put(target: Any, source: Any) -> None:
    """``target[:n] = source [n]``; a slice would bring in what words its error, which takes seconds to compile."""
    for i in range(len(source)):
        target[i] = source[i]


def _pointer_to(kind: Any) -> Any:
    """What machine code takes for a pointer to numbers of a kind, out of an address."""

    def pointer(_: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(address), generate

    return intrinsic(pointer)


_float32, _float64, _int64 = (_pointer_to(kind) for kind in (types.float32, types.float64, types.int64))


@compiled
def floats_at(address: int, shape: tuple[int, ...]) -> Floats:
    """Numbers of a tensor as an array in machine code, without the time that it takes to make one outside."""
    return numba.carray(_float32(address), shape)


@compiled
def floats64_at(address: int, shape: tuple[int, ...]) -> Floats64:
    """The same of float64."""
    return numba.carray(_float64(address), shape)


@compiled
def integers_at(address: int, shape: tuple[int, ...]) -> Integers:
    """The same of int64."""
    return numba.carray(_int64(address), shape)
