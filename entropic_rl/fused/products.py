"""Products of small matrices, faster than the libraries': those prepare for large ones."""

from __future__ import annotations

import numpy as np

from entropic_rl.fused.blocks import WIDTH, block_1, block_2, block_4, block_6
from entropic_rl.fused.compilation import Floats, compiled, put

__all__ = ["product"]


@compiled
def product(c: Floats, a: Floats, b: Floats, add: bool) -> None:
    """``c [m, n] = a [m, k] b [k, n]``, or add it; numbers of ``c`` lie row by row, those of ``a`` and ``b`` anyhow.

    Columns of ``b`` are copied first: with strides that are powers of two its rows would drive each other out of the
    cache.
    """
    n = c.shape[1]
    whole = n - n % WIDTH
    panel = np.empty((len(b), WIDTH), np.float32)
    for column in range(0, whole, WIDTH):
        for i in range(len(b)):
            for j in range(WIDTH):
                panel[i, j] = b[i, column + j]
        _blocks(c, a, panel, column, add)
    if whole < n:
        rest = np.empty((len(c), WIDTH), np.float32)
        panel[:] = np.float32(0.0)
        for i in range(len(b)):
            put(panel[i], b[i, whole:])
        _blocks(rest, a, panel, 0, False)
        for i in range(len(c)):
            for j in range(n - whole):
                c[i, whole + j] = rest[i, j] + (c[i, whole + j] if add else np.float32(0.0))


@compiled
def _blocks(c: Floats, a: Floats, panel: Floats, column: int, add: bool) -> None:
    """All rows of some columns."""
    row, n_rows = 0, len(c)
    while row + 6 <= n_rows:
        block_6(c, a, panel, row, column, add)
        row += 6
    if row + 4 <= n_rows:
        block_4(c, a, panel, row, column, add)
        row += 4
    if row + 2 <= n_rows:
        block_2(c, a, panel, row, column, add)
        row += 2
    if row < n_rows:
        block_1(c, a, panel, row, column, add)
