"""Blocks of a product of matrices that stay in registers, in the words of LLVM: Numba has none for them."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["WIDTH", "block_1", "block_2", "block_4", "block_6"]

WIDTH = 16  # columns of a block: two vectors of AVX2, one of AVX-512, four of NEON
_INDEX, _NUMBER, _BYTES = ir.IntType(64), ir.FloatType(), ir.IntType(8).as_pointer()
_VECTOR = ir.VectorType(_NUMBER, WIDTH)


def _block(rows: int) -> Any:
    """``(c [m, n], a [m, k], panel [k, WIDTH], row, column, add)`` sets rows of ``c`` from ``row`` on and WIDTH columns
    from ``column`` on to those of ``a`` times ``panel``, or adds it to them. Six rows and their factors take 14 of the
    16 registers that AVX2 has.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def block(typing_context: Any, c: Any, a: Any, panel: Any, row: Any, column: Any, add: Any) -> Any:
        signature = types.void(c, a, panel, types.int64, types.int64, types.boolean)

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            arrays = zip(signature.args[:3], args[:3], strict=True)
            target, left, right = [context.make_array(kind)(context, builder, value) for kind, value in arrays]
            row, column, add = args[3:]
            places = [_place(builder, target, row, column, r) for r in range(rows)]
            sums = [cgutils.alloca_once(builder, _VECTOR) for _ in range(rows)]
            for place, total in zip(places, sums, strict=True):
                old = builder.load(place, align=4)
                builder.store(builder.select(add, old, ir.Constant(_VECTOR, [0.0] * WIDTH)), total)
            _add_products(builder, left, right, row, sums)
            for place, total in zip(places, sums, strict=True):
                builder.store(builder.load(total), place, align=4)
            return context.get_dummy_value()

        return signature, generate

    return block


def _add_products(builder: Any, left: Any, right: Any, row: Any, sums: list[Any]) -> None:
    """Add to each sum the products of its row with the panel."""
    row_stride, stride = cgutils.unpack_tuple(builder, left.strides, 2)
    panel_stride, _ = cgutils.unpack_tuple(builder, right.strides, 2)
    n, _ = cgutils.unpack_tuple(builder, right.shape, 2)
    multiply_add = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fmuladd.v{WIDTH}f32"
    )
    start = builder.gep(builder.bitcast(left.data, _BYTES), [builder.mul(row, row_stride)])
    with cgutils.for_range(builder, n, intp=_INDEX) as loop:
        panel_row = builder.gep(builder.bitcast(right.data, _BYTES), [builder.mul(loop.index, panel_stride)])
        numbers = builder.load(builder.bitcast(panel_row, _VECTOR.as_pointer()), align=4)
        factors = builder.gep(start, [builder.mul(loop.index, stride)])
        for r, total in enumerate(sums):
            at = builder.gep(factors, [builder.mul(ir.Constant(_INDEX, r), row_stride)])
            factor = _spread(builder, builder.load(builder.bitcast(at, _NUMBER.as_pointer())))
            builder.store(builder.call(multiply_add, [factor, numbers, builder.load(total)]), total)


def _place(builder: Any, target: Any, row: Any, column: Any, r: int) -> Any:
    """Where row ``r`` of the block lies."""
    row_stride, stride = cgutils.unpack_tuple(builder, target.strides, 2)
    below = builder.mul(builder.add(row, ir.Constant(_INDEX, r)), row_stride)
    offset = builder.add(below, builder.mul(column, stride))
    return builder.bitcast(builder.gep(builder.bitcast(target.data, _BYTES), [offset]), _VECTOR.as_pointer())


def _spread(builder: Any, number: Any) -> Any:
    """A vector of copies."""
    unset, lanes = ir.Constant(_VECTOR, ir.Undefined), ir.VectorType(ir.IntType(32), WIDTH)
    first = builder.insert_element(unset, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, unset, ir.Constant(lanes, [0] * WIDTH))


block_1, block_2, block_4, block_6 = _block(1), _block(2), _block(4), _block(6)
