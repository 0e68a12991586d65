"""Products of small matrices, faster than the libraries': those prepare for large ones."""

from __future__ import annotations

import numpy as np

from entropic_rl.fused.blocks import WIDTH, block_1, block_2, block_4, block_6, turn_over
from entropic_rl.fused.compilation import Floats, compiled, put

__all__ = ["product", "product_with_turned"]


@compiled
def product(c: Floats, a: Floats, b: Floats, add: bool) -> None:
    """``c [m, n] = a [m, k] b [k, n]``, or add it; numbers of ``b`` and ``c`` lie row by row, those of ``a`` anyhow."""
    n = c.shape[1]
    whole = n - n % WIDTH
    for column in range(0, whole, WIDTH):
        _blocks(c, a, b, column, column, add)
    if whole < n:
        panel = np.zeros((len(b), WIDTH), np.float32)
        for i in range(len(b)):
            put(panel[i], b[i, whole:])
        _last_columns(c, a, panel, whole, add)


@compiled
def product_with_turned(c: Floats, a: Floats, b: Floats, add: bool) -> None:
    """``c [m, n] = a [m, k] b^T`` of ``b [n, k]``, or add it: WIDTH columns of ``b^T`` after the other are copied."""
    n, k = b.shape
    whole = n - n % WIDTH
    panel = np.empty((k, WIDTH), np.float32)
    for column in range(0, whole, WIDTH):
        turn_over(panel, b[column : column + WIDTH])
        _blocks(c, a, panel, column, 0, add)
    if whole < n:
        panel[:] = np.float32(0.0)
        turn_over(panel, b[whole:])
        _last_columns(c, a, panel, whole, add)


@compiled
def _last_columns(c: Floats, a: Floats, panel: Floats, column: int, add: bool) -> None:
    """Columns of ``c`` from ``column`` on, fewer than those of ``panel [k, WIDTH]``."""
    rest = np.empty((len(c), WIDTH), np.float32)
    _blocks(rest, a, panel, 0, 0, False)
    for i in range(len(c)):
        for j in range(c.shape[1] - column):
            c[i, column + j] = rest[i, j] + (c[i, column + j] if add else np.float32(0.0))


@compiled
def _blocks(c: Floats, a: Floats, b: Floats, column: int, first: int, add: bool) -> None:
    """All rows of WIDTH columns, from ``column`` of ``c`` and from the ``first`` of ``b`` on."""
    row, n_rows = 0, len(c)
    while row + 6 <= n_rows:
        block_6(c, a, b, row, column, first, add)
        row += 6
    if row + 4 <= n_rows:
        block_4(c, a, b, row, column, first, add)
        row += 4
    if row + 2 <= n_rows:
        block_2(c, a, b, row, column, first, add)
        row += 2
    if row < n_rows:
        block_1(c, a, b, row, column, first, add)
