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
_ALIGN = 4  # bytes
_VECTOR, _SHORT = ir.VectorType(_NUMBER, WIDTH), ir.VectorType(_NUMBER, _SQUARE)
_ZEROS = ir.Constant(_SHORT, [0.0] * _SQUARE)


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
                old = builder.load(place, align=_ALIGN)
                builder.store(builder.select(add, old, ir.Constant(_VECTOR, [0.0] * WIDTH)), total)
            _add_products(builder, left, right, row, first, sums)
            for place, total in zip(places, sums, strict=True):
                builder.store(builder.load(total), place, align=_ALIGN)
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
        numbers = builder.load(_place(builder, right, loop.index, first, 0, _VECTOR), align=_ALIGN)
        factors = builder.gep(start, [builder.mul(loop.index, stride)])
        for r, total in enumerate(sums):
            at = builder.gep(factors, [builder.mul(ir.Constant(_INDEX, r), row_stride)])
            factor = _spread(builder, builder.load(builder.bitcast(at, _NUMBER.as_pointer())))
            builder.store(builder.call(multiply_add, [factor, numbers, builder.load(total)]), total)


def _square(is_whole: bool) -> Any:
    """``(c, a, row, column, n_rows, n_columns)`` sets ``c`` from ``(column, row)`` on to rows of ``a`` from ``(row,
    column)`` on, turned over: _SQUARE of them and as many columns, or the first ones of both.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def turn(typing_context: Any, c: Any, a: Any, row: Any, column: Any, n_rows: Any, n_columns: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            arrays = zip(signature.args[:2], args[:2], strict=True)
            target, source = [context.make_array(kind)(context, builder, value) for kind, value in arrays]
            row, column, n_rows, n_columns = args[2:]
            places = [_place(builder, source, row, column, r, _SHORT) for r in range(_SQUARE)]
            to = [_place(builder, target, column, row, r, _SHORT) for r in range(_SQUARE)]
            if is_whole:
                rows = [builder.load(place, align=_ALIGN) for place in places]
                for place, line in zip(to, _turned(builder, rows), strict=True):
                    builder.store(line, place, align=_ALIGN)
            else:
                load, store = _masked(builder)
                asked = zip(places, _corner(builder, n_rows, n_columns), strict=True)
                rows = [builder.call(load, [place, _LANE(_ALIGN), mask, _ZEROS]) for place, mask in asked]
                lines = zip(_turned(builder, rows), to, _corner(builder, n_columns, n_rows), strict=True)
                for line, place, mask in lines:
                    builder.call(store, [line, place, _LANE(_ALIGN), mask])
            return context.get_dummy_value()

        return types.void(c, a, *[types.int64] * 4), generate

    return turn


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """Rows of a square to its columns: within squares of every size those off the diagonal change places."""
    rows, lines = list(rows), range(_SQUARE)
    for half in (4, 2, 1):
        first = _lanes([_SQUARE + j - half if j & half else j for j in lines])
        second = _lanes([_SQUARE + j if j & half else j + half for j in lines])
        for r in (r for r in lines if not r & half):
            above, below = rows[r], rows[r + half]
            rows[r], rows[r + half] = [builder.shuffle_vector(above, below, lanes) for lanes in (first, second)]
    return rows


def _masked(builder: Any) -> tuple[Any, Any]:
    """Functions that load, and that store, the lanes of a mask and touch no other memory."""
    mask, at = ir.VectorType(ir.IntType(1), _SQUARE), _SHORT.as_pointer()
    kinds = {
        "load": ir.FunctionType(_SHORT, [at, _LANE, mask, _SHORT]),
        "store": ir.FunctionType(ir.VoidType(), [_SHORT, at, _LANE, mask]),
    }
    load, store = (
        cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.{name}.v{_SQUARE}f32.p0v{_SQUARE}f32")
        for name, kind in kinds.items()
    )
    return load, store


def _corner(builder: Any, n_rows: Any, n_columns: Any) -> list[Any]:
    """Of each row of a square, the lanes of the first columns; none of the rows behind the first ones."""
    kind = ir.VectorType(_INDEX, _SQUARE)
    last = builder.insert_element(ir.Constant(kind, ir.Undefined), n_columns, ir.Constant(_LANE, 0))
    last = builder.shuffle_vector(last, ir.Constant(kind, ir.Undefined), _lanes([0] * _SQUARE))
    lanes = builder.icmp_signed("<", ir.Constant(kind, list(range(_SQUARE))), last)
    none = ir.Constant(lanes.type, [0] * _SQUARE)
    is_there = [builder.icmp_signed(">", n_rows, ir.Constant(_INDEX, r)) for r in range(_SQUARE)]
    return [builder.select(is_row, lanes, none) for is_row in is_there]


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
_turn, _turn_some = _square(is_whole=True), _square(is_whole=False)


@compiled
def turn_over(c: Floats, a: Floats) -> None:
    """Set the first n columns of ``c [k, ...]`` to the rows of ``a [n, k]``, whose numbers lie row by row."""
    n, k = a.shape
    for row in range(0, n, _SQUARE):
        for column in range(0, k, _SQUARE):
            if row + _SQUARE <= n and column + _SQUARE <= k:
                _turn(c, a, row, column, 0, 0)
            else:
                _turn_some(c, a, row, column, n - row, k - column)
