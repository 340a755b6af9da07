"""Op-lists as straight-line code: each operation becomes statements, registers become values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twinmodel.kernel import ops
from twinmodel.kernel.arena import I32
from twinmodel.kernel.generate.form import Form, TooLargeError, Value
from twinmodel.kernel.transcendental import Primitives, make
from twinmodel.kernel.vm_reference import Writer

# Products of one dense block that are written out; larger ones keep the generic kernel busy enough.
DENSE_MAX: Final = 2048
_BINARY: Final[dict[int, Callable[[Value, Value], Value]]] = {
    ops.ADD: lambda a, b: a + b,
    ops.SUB: lambda a, b: a - b,
    ops.MUL: lambda a, b: a * b,
    ops.DIV: lambda a, b: a / b,
}


class Pool(Writer):
    """Runs op-lists by writing them.

    Args:
        form: the program being written.
        at: first element of the pool in M; kind i.
        size: elements of the pool; bounds the search in a table.
    """

    def __init__(self, form: Form, at: Value, size: int) -> None:
        self._form, self._at = form, at
        # An interval of a table with n points is found in this many halvings, for 2n + 1 numbers are in the pool.
        self._halvings = max(size // 2, 1).bit_length()
        own = Primitives(lambda function: function, form.where, form.bits, form.real)
        functions = make(own)
        self._unary: dict[int, Callable[[Value], Value]] = {
            ops.NEG: lambda a: -a, ops.ABS: lambda a: form.operate("abs", a),
            ops.SQRT: lambda a: form.operate("sqrt", a),
            ops.EXP: functions.exp, ops.LOG: functions.log, ops.TANH: functions.tanh,
            ops.SIN: functions.sin, ops.COS: functions.cos,
        }  # fmt: skip
        self._power = functions.pow

    def run(self, code: I32, R: list[Any]) -> None:
        """See `Writer`."""
        where = self._form.where
        for opcode, target, a, b, c, d in code.tolist():
            if opcode in _BINARY:
                R[target] = _BINARY[opcode](R[a], R[b])
            elif opcode in self._unary:
                R[target] = self._unary[opcode](R[a])
            elif opcode == ops.MIN:
                R[target] = where((R[a] < R[b]) | (R[a] != R[a]), R[a], R[b])
            elif opcode == ops.MAX:
                R[target] = where((R[a] > R[b]) | (R[a] != R[a]), R[a], R[b])
            elif opcode == ops.POW:
                R[target] = self._power(R[a], R[b])
            elif opcode == ops.LESS:
                R[target] = where(R[a] < R[b], 1.0, 0.0)
            elif opcode == ops.SELECT:
                R[target] = where(R[a] > 0.0, R[b], R[c])
            elif opcode == ops.DENSE:
                R[target : target + d] = self._dense(c, R[a : a + b], d)
            elif opcode == ops.LOOKUP1:
                R[target] = self._lookup1(self._at + c, R[a])
            else:
                R[target] = self._lookup2(self._at + c, R[a], R[b])

    def _load(self, index: Value) -> Value:
        return self._form.load("M", index)

    def _dense(self, at: int, rows: list[Value], outputs: int) -> list[Value]:
        if len(rows) * outputs > DENSE_MAX:
            raise TooLargeError(f"a dense block of {outputs} x {len(rows)}")
        return self.weigh(at, outputs, [self._form.value(j, "i") for j in range(outputs)], rows)

    def weigh(self, at: int, outputs: int, numbers: list[Value], rows: list[Value]) -> list[Value]:
        """Some outputs of the dense block at `at` of the pool, by their numbers."""
        sums = [self._load(self._at + at + j) for j in numbers]
        weights = [self._at + (at + outputs) + j * len(rows) for j in numbers]
        for k, row in enumerate(rows):
            sums = [v + self._load(place + k) * row for v, place in zip(sums, weights, strict=True)]
        return sums

    def _segment(self, xs: Value, n: Value, x: Value) -> Value:
        """Number of the interval, by halving as often as any table of the pool may need."""
        where, one = self._form.where, self._form.value(1, "i")
        low, high = self._form.value(0, "i"), n - 2
        for _ in range(self._halvings):
            middle = ((low + high) + one) >> one
            up = self._load(xs + middle) <= x
            going = low < high
            low, high = where(going & up, middle, low), where(going & ~up, middle - one, high)
        return low

    def _along(self, xs: Value, n: Value, k: Value, x: Value) -> Value:
        first, last = self._load(xs), self._load(xs + (n - 1))
        x = self._form.where(x < first, first, x)
        x = self._form.where(x > last, last, x)
        left = self._load(xs + k)
        return (x - left) / (self._load((xs + k) + 1) - left)

    def _lookup1(self, at: Value, x: Value) -> Value:
        n = self._form.truncate(self._load(at))
        xs, ys = at + 1, (at + 1) + n
        k = self._segment(xs, n, x)
        t = self._along(xs, n, k, x)
        return (1.0 - t) * self._load(ys + k) + t * self._load((ys + k) + 1)

    def _lookup2(self, at: Value, x: Value, y: Value) -> Value:
        n, m = self._form.truncate(self._load(at)), self._form.truncate(self._load(at + 1))
        xs, ys = at + 2, (at + 2) + n
        i, j = self._segment(xs, n, x), self._segment(ys, m, y)
        t, s = self._along(xs, n, i, x), self._along(ys, m, j, y)
        q = ((ys + m) + i * m) + j
        low = (1.0 - t) * self._load(q) + t * self._load(q + m)
        high = (1.0 - t) * self._load(q + 1) + t * self._load((q + 1) + m)
        return (1.0 - s) * low + s * high
