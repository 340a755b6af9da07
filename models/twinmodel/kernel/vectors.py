"""Elementary operations over rows of lanes as explicit vectors of 8; imported only by `vm`.

LLVM unrolls a loop over lanes so far that a tile of 8 never enters its vector part. Here the width is said: 8 lanes a
turn, then the rest one by one. Every lane gets the same IEEE operations in the same order either way.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numba

from twinmodel.kernel.lanes import primitive

# Untyped, like all of numba below its surface.
ir: Any = importlib.import_module("llvmlite.ir")
cgutils: Any = importlib.import_module("numba.core.cgutils")

WIDTH: Final = 8
_REAL: Final = ir.DoubleType()
_VECTOR: Final = ir.VectorType(_REAL, WIDTH)
_INT: Final = ir.IntType(64)
# What an operation makes of a builder and its operands, vectors or reals alike.
Compute = Callable[..., Any]


class _Row:
    """The doubles of an array, read and written at an element number."""

    def __init__(self, context: Any, builder: Any, kind: Any, array: Any) -> None:
        self._builder = builder
        self._start = context.make_array(kind)(context, builder, array).data

    def _place(self, at: Any, shape: Any) -> Any:
        place = self._builder.gep(self._start, [at], source_etype=_REAL)
        return self._builder.bitcast(place, shape.as_pointer())

    def load(self, at: Any, shape: Any = _REAL) -> Any:
        return self._builder.load(self._place(at, shape), align=8, typ=shape)

    def store(self, value: Any, at: Any) -> None:
        self._builder.store(value, self._place(at, value.type), align=8)


def _turns(builder: Any, lanes: Any) -> Iterator[tuple[Any, Any]]:
    """Opens the loop over vectors, then that over what is left: (shape, first lane) to be filled by the caller."""
    full = builder.and_(lanes, _INT(-WIDTH))
    with _loop(builder, _INT(0), full, WIDTH) as w:
        yield _VECTOR, w
    with _loop(builder, full, lanes, 1) as w:
        yield _REAL, w


@contextmanager
def _loop(builder: Any, start: Any, stop: Any, step: int) -> Iterator[Any]:
    with cgutils.for_range_slice(builder, start, stop, _INT(step), _INT) as (at, _):
        yield at


def _spread(builder: Any, value: Any, shape: Any) -> Any:
    """A number in every lane."""
    if shape is _REAL:
        return value
    one = builder.insert_element(ir.Constant(shape, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH))


def _rows(sources: int, compute: Compute) -> Any:
    """A function (R, d, a, b, c, L) that computes L lanes from R[d] on out of those from R[a], R[b], R[c] on."""

    @primitive
    def each(context: Any, R: Any, d: Any, a: Any, b: Any, c: Any, L: Any) -> Any:  # noqa: ARG001 - what numba hands in
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            row = _Row(context, builder, signature.args[0], args[0])
            target, lanes = args[1], args[5]
            for shape, w in _turns(builder, lanes):
                operands = [row.load(builder.add(at, w), shape) for at in args[2 : 2 + sources]]
                row.store(compute(builder, *operands), builder.add(target, w))
            return context.get_dummy_value()

        whole = numba.types.int64
        return numba.types.none(R, whole, whole, whole, whole, whole), build

    return each


def _call(name: str) -> Compute:
    """An operation LLVM has under this name for vectors and reals."""

    def compute(builder: Any, x: Any) -> Any:
        suffix = "f64" if x.type == _REAL else f"v{WIDTH}f64"
        kind = ir.FunctionType(x.type, [x.type])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.{suffix}"), [x])

    return compute


def _extreme(order: str) -> Compute:
    """The first where it is below (or above) the second or NaN, else the second."""

    def compute(builder: Any, x: Any, y: Any) -> Any:
        first = builder.or_(builder.fcmp_ordered(order, x, y), builder.fcmp_unordered("uno", x, x))
        return builder.select(first, x, y)

    return compute


def _less(builder: Any, x: Any, y: Any) -> Any:
    one, zero = _spread(builder, _REAL(1.0), x.type), _spread(builder, _REAL(0.0), x.type)
    return builder.select(builder.fcmp_ordered("<", x, y), one, zero)


def _select(builder: Any, x: Any, y: Any, z: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", x, _spread(builder, _REAL(0.0), x.type)), y, z)


add = _rows(2, lambda builder, x, y: builder.fadd(x, y))
sub = _rows(2, lambda builder, x, y: builder.fsub(x, y))
mul = _rows(2, lambda builder, x, y: builder.fmul(x, y))
div = _rows(2, lambda builder, x, y: builder.fdiv(x, y))
neg = _rows(1, lambda builder, x: builder.fneg(x))
absolute = _rows(1, _call("fabs"))
sqrt = _rows(1, _call("sqrt"))
smaller = _rows(2, _extreme("<"))
larger = _rows(2, _extreme(">"))
less = _rows(2, _less)
select = _rows(3, _select)


@primitive
def weigh(context: Any, R: Any, d: Any, a: Any, L: Any, M: Any, bias: Any, weights: Any, count: Any) -> Any:  # noqa: ARG001 - as above
    """L lanes from R[d] on = M[bias] + M[weights] * R[a] + M[weights + 1] * R[a + L] + ..., `count` rows of L lanes."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        row = _Row(context, builder, signature.args[0], args[0])
        pool = _Row(context, builder, signature.args[4], args[4])
        target, first, lanes, offset, place, rows = args[1], args[2], args[3], args[5], args[6], args[7]
        for shape, w in _turns(builder, lanes):
            total = cgutils.alloca_once(builder, shape)
            builder.store(_spread(builder, pool.load(offset), shape), total)
            with _loop(builder, _INT(0), rows, 1) as k:
                weight = _spread(builder, pool.load(builder.add(place, k)), shape)
                at = builder.add(builder.add(first, w), builder.mul(k, lanes))
                product = builder.fmul(weight, row.load(at, shape))
                builder.store(builder.fadd(builder.load(total, typ=shape), product), total)
            row.store(builder.load(total, typ=shape), builder.add(target, w))
        return context.get_dummy_value()

    whole = numba.types.int64
    return numba.types.none(R, whole, whole, whole, M, whole, whole, whole), build
