"""How the functions here are compiled, and where what comes of it is kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import partial
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
    "compiled_exactly",
    "from_bits",
    "is_compiled",
    "put",
]

Floats = NDArray[np.float32]
Floats64 = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Function = TypeVar("Function", bound=Callable[..., Any])

# Sums in any order, products and sums in one instruction; numbers that are not finite keep their meaning.
_FAST = {"contract", "reassoc", "nsz", "arcp"}


def compiled(function: Function) -> Function:
    """``function`` as machine code, which releases the GIL; compiled at its first call, and kept for all later ones."""
    return _kept(numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_FAST), function)


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
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(cache_directory())
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


def cache_directory() -> Path:
    """Where machine code of exactly these sources lies: ``$XDG_CACHE_HOME/entropic_rl/DIGEST``.

    Numba looks at the file of the function called alone, and not at those of the functions that it calls.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "entropic_rl" / digest.hexdigest()[:16]


@compiled
def put(target: Any, source: Any) -> None:
    """``target[:n] = source [n]``; a slice would bring in what words its error, which takes seconds to compile."""
    for i in range(len(source)):
        target[i] = source[i]
