"""Blocks of matrices that stay in registers, in the words of LLVM: Numba has none for them."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from entropic_rl.fused.compilation import Floats, compiled

__all__ = ["WIDTH", "block_1", "block_2", "block_4", "block_6", "turn_over"]

WIDTH = 16  # columns of a block: two vectors of AVX2, one of AVX-512, four of NEON
_SQUARE = 8  # rows and columns that are turned at once
_INDEX, _LANE, _NUMBER, _BYTES = ir.IntType(64), ir.IntType(32), ir.FloatType(), ir.IntType(8).as_pointer()
_VECTOR, _SHORT = ir.VectorType(_NUMBER, WIDTH), ir.VectorType(_NUMBER, _SQUARE)


def _block(rows: int) -> Any:
    """``(c [m, n], a [m, k], b [k, ...], row, column, first, add)`` sets rows of ``c`` from ``row`` on and WIDTH of its
    columns from ``column`` on to those of ``a`` times columns of ``b`` from the ``first`` on, or adds it to them. Six
    rows and their factors take 14 of the 16 registers that AVX2 has.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def block(typing_context: Any, c: Any, a: Any, b: Any, row: Any, column: Any, first: Any, add: Any) -> Any:
        signature = types.void(c, a, b, types.int64, types.int64, types.int64, types.boolean)

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            arrays = zip(signature.args[:3], args[:3], strict=True)
            target, left, right = [context.make_array(kind)(context, builder, value) for kind, value in arrays]
            row, column, first, add = args[3:]
            places = [_place(builder, target, row, column, r, _VECTOR) for r in range(rows)]
            sums = [cgutils.alloca_once(builder, _VECTOR) for _ in range(rows)]
            for place, total in zip(places, sums, strict=True):
                old = builder.load(place, align=4)
                builder.store(builder.select(add, old, ir.Constant(_VECTOR, [0.0] * WIDTH)), total)
            _add_products(builder, left, right, row, first, sums)
            for place, total in zip(places, sums, strict=True):
                builder.store(builder.load(total), place, align=4)
            return context.get_dummy_value()

        return signature, generate

    return block


def _add_products(builder: Any, left: Any, right: Any, row: Any, first: Any, sums: list[Any]) -> None:
    """Add to each sum the products of its row with WIDTH columns."""
    row_stride, stride = cgutils.unpack_tuple(builder, left.strides, 2)
    n, _ = cgutils.unpack_tuple(builder, right.shape, 2)
    multiply_add = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fmuladd.v{WIDTH}f32"
    )
    start = builder.gep(builder.bitcast(left.data, _BYTES), [builder.mul(row, row_stride)])
    with cgutils.for_range(builder, n, intp=_INDEX) as loop:
        numbers = builder.load(_place(builder, right, loop.index, first, 0, _VECTOR), align=4)
        factors = builder.gep(start, [builder.mul(loop.index, stride)])
        for r, total in enumerate(sums):
            at = builder.gep(factors, [builder.mul(ir.Constant(_INDEX, r), row_stride)])
            factor = _spread(builder, builder.load(builder.bitcast(at, _NUMBER.as_pointer())))
            builder.store(builder.call(multiply_add, [factor, numbers, builder.load(total)]), total)


@intrinsic  # type: ignore[untyped-decorator]
def _turn(typing_context: Any, c: Any, a: Any, row: Any, column: Any, to_row: Any, to_column: Any) -> Any:
    """Set a square of ``c`` from ``(to_row, to_column)`` on to that of ``a`` from ``(row, column)`` on, turned over."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target, source = [
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args[:2], args[:2], strict=True)
        ]
        row, column, to_row, to_column = args[2:]
        lines = range(_SQUARE)
        rows = [builder.load(_place(builder, source, row, column, r, _SHORT), align=4) for r in lines]
        for half in (4, 2, 1):  # squares within squares: off the diagonal they change places
            first = _lanes([_SQUARE + j - half if j & half else j for j in lines])
            second = _lanes([_SQUARE + j if j & half else j + half for j in lines])
            for r in (r for r in lines if not r & half):
                above, below = rows[r], rows[r + half]
                rows[r], rows[r + half] = [builder.shuffle_vector(above, below, lanes) for lanes in (first, second)]
        for r in lines:
            builder.store(rows[r], _place(builder, target, to_row, to_column, r, _SHORT), align=4)
        return context.get_dummy_value()

    return types.void(c, a, *[types.int64] * 4), generate


def _place(builder: Any, array: Any, row: Any, column: Any, r: int, kind: Any) -> Any:
    """Where numbers of the ``r``-th row below ``row`` lie, from ``column`` on."""
    row_stride, stride = cgutils.unpack_tuple(builder, array.strides, 2)
    below = builder.mul(builder.add(row, ir.Constant(_INDEX, r)), row_stride)
    offset = builder.add(below, builder.mul(column, stride))
    return builder.bitcast(builder.gep(builder.bitcast(array.data, _BYTES), [offset]), kind.as_pointer())


def _lanes(numbers: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_LANE, len(numbers)), numbers)


def _spread(builder: Any, number: Any) -> Any:
    """A vector of copies."""
    unset = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(unset, number, ir.Constant(_LANE, 0))
    return builder.shuffle_vector(first, unset, _lanes([0] * WIDTH))


block_1, block_2, block_4, block_6 = _block(1), _block(2), _block(4), _block(6)


@compiled
def turn_over(c: Floats, a: Floats) -> None:
    """Set the first n columns of ``c [k, ...]`` to the rows of ``a [n, k]``, whose numbers lie row by row."""
    n, k = a.shape
    whole, whole_k = n - n % _SQUARE, k - k % _SQUARE
    for row in range(0, whole, _SQUARE):
        for column in range(0, whole_k, _SQUARE):
            _turn(c, a, row, column, column, row)
    for row in range(n):
        for column in range(whole_k if row < whole else 0, k):
            c[column, row] = a[row, column]
