"""Keeping freed memory in the process: a training allocates the same large temporaries at every update."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)
_LARGE = 2**30
_PAD = 2**26


def keep_freed_memory() -> None:
    """Let the C library reuse large blocks instead of giving them back and asking for them anew.

    Above 128 KiB glibc maps fresh pages for every tensor, and the page faults cost more than the arithmetic on it: an
    update of soft actor-critic with layers of 256 takes 20 ms with them and 14 without. Does nothing elsewhere than on
    Linux with glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_MMAP_THRESHOLD, _LARGE)
    mallopt(_TRIM_THRESHOLD, _LARGE)
    mallopt(_TOP_PAD, _PAD)
