"""The generic Kalman filter: sizes are read at run time, so one compilation serves every linear model.

The reference's operations in the reference's order; every loop over lanes handles one term of one row. It costs a few
times what the code written out for a signature does, and less than a second to compile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twinmodel.kernel import drift_reference as drift
from twinmodel.kernel.arena import DRIFT, LANES, LARGEST, WATCH
from twinmodel.kernel.generate.form import Form, Row, Value

Place = Callable[[Value], Value]
Term = Callable[[Value, Value], Value]


def generic_linear_form() -> Form:
    """The step of any linear model, its coefficients shared by all lanes or of each lane."""
    form = Form()
    tiles, lanes = form.argument("K_"), form.argument("W")
    own = form.load("I", 5) > 0
    full = lanes == LANES
    nothing = form.value(0, "i")
    shared = form.where(own, nothing, tiles)
    # Full tiles of a shared model are what a fleet is made of: for them the number of lanes is known to the compiler.
    for count, each, width in (
        (form.where(full, shared, nothing), False, form.value(LANES, "i")),
        (form.where(full, nothing, shared), False, lanes),
        (form.where(own, tiles, nothing), True, lanes),
    ):
        with form.loop(count) as t:
            _Tile(form, t, width, each=each).step()
    return form


class _Tile:
    """One tile of one model; scratch rows: x | A P | h | K | variance, inverse, innovation."""

    def __init__(self, form: Form, t: Value, width: Value, *, each: bool) -> None:
        self._form, self._each = form, each
        self._W = width
        n, m, p = (form.load("I", k) for k in range(3))
        self._n, self._m, self._p = n, m, p
        self._pairs = pairs = (n * (n + 1)) >> 1
        count = p + pairs * 2 + (n + p) * (n + m + 1)
        head = n * 2 + DRIFT
        self._head = form.load("K", t) * (head if each else head + count)
        tiles = form.argument("K_")
        self._first = form.argument("M_") - (tiles - t) * (width * count) if each else self._head + head
        self._Q, self._held = p, p + pairs
        self._A = self._held + pairs
        self._B = self._A + n * n
        self._a = self._B + n * m
        self._C = self._a + n
        self._D = self._C + p * n
        self._c = self._D + p * m
        self._s = t * (width * (n + pairs + m + p * WATCH + 2))
        self._z = t * (width * (m + p + 3))
        self._o = t * (width * (p * 6 + 1))
        self._u, self._watch = n + pairs, n + pairs + m
        self._flag = self._watch + p * WATCH
        self._h, self._gain = n + n * n, n + n * n + n
        self._v = self._gain + n

    def step(self) -> None:
        """Predict, then one scalar update an output."""
        p, form = self._p, self._form
        self._predict()
        self._clip()
        self._lanes(self._m, self._hold)
        with form.loop(p) as r:
            self._output(self._out(p * 2 + r), r)
            self._quadratic(r)
            self._each_lane(lambda w: form.store("O", self._out(p * 5 + r)(w), self._root(self._sum(r, w))))
        self._each_lane(lambda w: form.store("O", self._out(p * 6)(w), 0.0))
        with form.loop(p) as r:
            self._measure(r)
        self._finish()
        with form.loop(p) as r:
            self._output(self._out(r), r)
            self._quadratic(r)
            self._each_lane(lambda w: form.store("O", self._out(p + r)(w), self._root(self._variance(w))))

    def _predict(self) -> None:
        form, n, m = self._form, self._n, self._m
        with form.loop(n) as i:
            self._put("G", self._scratch(i), lambda w: self._coefficient(self._a + i, w))
            self._add("G", self._scratch(i), n, lambda k, w: self._coefficient(self._A + i * n + k, w) * self._x(k, w))
            self._add(
                "G",
                self._scratch(i),
                m,
                lambda k, w: self._coefficient(self._B + i * m + k, w) * self._x(self._u + k, w),
            )
        with form.loop(n) as i, form.loop(n) as j:
            place = self._scratch(n + i * n + j)
            self._put("G", place, self._zero)
            self._add("G", place, n, lambda k, w: self._coefficient(self._A + i * n + k, w) * self._cov(k, j, w))
        with form.loop(n) as i, form.loop(n - i) as beyond:
            j = i + beyond
            q = self._packed(i, j)
            fq = self._in(m + self._p)
            self._put("S", self._state(n + q), lambda w: self._coefficient(self._Q + q, w)
                      + form.load("Z", fq(w)) * self._coefficient(self._held + q, w))  # fmt: skip
            self._add("S", self._state(n + q), n, lambda k, w: form.load("G", self._scratch(n + i * n + k)(w))
                      * self._coefficient(self._A + j * n + k, w))  # fmt: skip
        self._lanes(n, lambda i, w: form.store("S", self._state(i)(w), form.load("G", self._scratch(i)(w))))

    def _measure(self, r: Value) -> None:
        form, n, p, m = self._form, self._n, self._p, self._m
        variance = self._scratch(self._v)
        fr = self._in(m + p + 1)
        self._put("G", variance, lambda w: self._coefficient(r, w) * form.load("Z", fr(w)))
        with form.loop(n) as i:
            h = self._scratch(self._h + i)
            self._put("G", h, self._zero)
            self._add("G", h, n, lambda k, w: self._cov(k, i, w) * self._coefficient(self._C + r * n + k, w))
            self._put("G", variance, lambda w: form.load("G", variance(w))
                      + self._coefficient(self._C + r * n + i, w) * form.load("G", h(w)))  # fmt: skip
        self._output(self._out(r), r)
        self._each_lane(lambda w: self._observe(r, w))
        inverse, nu = self._scratch(self._v + 1), self._scratch(self._v + 2)
        with form.loop(n) as i, form.loop(self._W, lanes=True) as w:
            gain = form.load("G", self._scratch(self._h + i)(w)) * form.load("G", inverse(w))
            form.store("G", self._scratch(self._gain + i)(w), gain)
            form.store("S", self._state(i)(w), self._x(i, w) + gain * form.load("G", nu(w)))
        with form.loop(n) as i, form.loop(n - i) as beyond, form.loop(self._W, lanes=True) as w:
            place = self._state(n + self._packed(i, i + beyond))(w)
            gain = form.load("G", self._scratch(self._gain + i)(w))
            h_j = form.load("G", self._scratch(self._h + i + beyond)(w))
            form.store("S", place, form.load("S", place) - gain * h_j)

    def _observe(self, r: Value, w: Value) -> None:
        rows = _Watched(self, r, w)
        watched: Any = rows
        variance: Any = rows.variance
        nu, inverse = drift.observe(watched, 0, variance)
        self._form.store("G", self._scratch(self._v + 1)(w), inverse)
        self._form.store("G", self._scratch(self._v + 2)(w), nu)
        rows.flush()

    def _finish(self) -> None:
        form, n, p = self._form, self._n, self._p
        flag, bad, top = self._state(self._flag), self._state(self._flag + 1), self._scratch(self._v)
        self._clip()
        self._put("S", bad, self._zero)
        with form.loop(n) as i, form.loop(self._W, lanes=True) as w:
            diagonal = form.load("S", self._state(n + self._packed(i, i))(w))
            sound = (form.operate("abs", self._x(i, w)) < LARGEST) & (diagonal >= 0.0)
            form.store("S", bad(w), form.where(sound, form.load("S", bad(w)), 1.0))
        self._put("G", top, self._zero)
        with form.loop(p) as r, form.loop(self._W, lanes=True) as w:
            score = form.load("O", self._out(p * 4 + r)(w))
            highest = form.load("G", top(w))
            form.store("G", top(w), form.where(score > highest, score, highest))
        with form.loop(self._W, lanes=True) as w:
            highest = form.load("G", top(w))
            held = form.where(highest < form.load("M", self._head + 5), 0.0, form.load("S", flag(w)))
            form.store("S", flag(w), form.where(highest >= 1.0, 1.0, held))

    def _clip(self) -> None:
        form = self._form

        def clipped(i: Value, w: Value) -> None:
            low = form.load("M", self._head + DRIFT + i)
            high = form.load("M", self._head + DRIFT + self._n + i)
            v = self._x(i, w)
            v = form.where(v < low, low, v)
            form.store("S", self._state(i)(w), form.where(v > high, high, v))

        self._lanes(self._n, clipped)

    def _hold(self, k: Value, w: Value) -> None:
        v = self._form.load("Z", self._in(k)(w))
        place = self._state(self._u + k)(w)
        self._form.store("S", place, self._form.where(v == v, v, self._form.load("S", place)))  # noqa: PLR0124 - NaN test

    def _output(self, place: Place, r: Value) -> None:
        n, m = self._n, self._m
        self._put("O", place, lambda w: self._coefficient(self._c + r, w))
        self._add("O", place, n, lambda k, w: self._coefficient(self._C + r * n + k, w) * self._x(k, w))
        self._add("O", place, m, lambda k, w: self._coefficient(self._D + r * m + k, w) * self._x(self._u + k, w))

    def _quadratic(self, r: Value) -> None:
        """C P C' of output r into the row of the variance, not yet bounded."""
        form, n = self._form, self._n
        place = self._scratch(self._v)
        self._put("G", place, self._zero)
        with form.loop(n) as i:
            for first, count in ((i, form.value(1, "i")), (i + 1, n - i - 1)):
                with form.loop(count) as beyond, form.loop(self._W, lanes=True) as w:
                    j = first + beyond
                    factor = self._coefficient(self._C + r * n + i, w) * self._coefficient(self._C + r * n + j, w)
                    factor = factor if first is i else 2.0 * factor
                    form.store("G", place(w), form.load("G", place(w)) + factor * self._cov(i, j, w))

    def _variance(self, w: Value) -> Value:
        v = self._form.load("G", self._scratch(self._v)(w))
        return self._form.where(v > 0.0, v, 0.0)

    def _sum(self, r: Value, w: Value) -> Value:
        noise = self._coefficient(r, w) * self._form.load("Z", self._in(self._m + self._p + 1)(w))
        return self._variance(w) + noise

    def _root(self, v: Value) -> Value:
        return self._form.operate("sqrt", v)

    def _coefficient(self, at: Value, w: Value) -> Value:
        return self._form.load("M", (self._first + at * self._W) + w if self._each else self._first + at)

    def _packed(self, i: Value, j: Value) -> Value:
        return (i * self._n - ((i * (i - 1)) >> 1)) + (j - i)

    def _cov(self, i: Value, j: Value, w: Value) -> Value:
        q = self._form.where(i <= j, self._packed(i, j), self._packed(j, i))
        return self._form.load("S", self._state(self._n + q)(w))

    def _x(self, row: Value, w: Value) -> Value:
        return self._form.load("S", self._state(row)(w))

    def _state(self, row: Value) -> Place:
        return lambda w: (self._s + row * self._W) + w

    def _in(self, row: Value) -> Place:
        return lambda w: (self._z + row * self._W) + w

    def _out(self, row: Value) -> Place:
        return lambda w: (self._o + row * self._W) + w

    def _scratch(self, row: Value) -> Place:
        return lambda w: row * self._W + w

    def _zero(self, _: Value) -> Value:
        return self._form.value(0.0)

    def _each_lane(self, write: Callable[[Value], None]) -> None:
        with self._form.loop(self._W, lanes=True) as w:
            write(w)

    def _lanes(self, count: Value, write: Callable[[Value, Value], None]) -> None:
        with self._form.loop(count) as k, self._form.loop(self._W, lanes=True) as w:
            write(k, w)

    def _put(self, array: str, place: Place, value: Place) -> None:
        self._each_lane(lambda w: self._form.store(array, place(w), value(w)))

    def _add(self, array: str, place: Place, count: Value, term: Term) -> None:
        self._lanes(
            count, lambda k, w: self._form.store(array, place(w), self._form.load(array, place(w)) + term(k, w))
        )


class _Watched:
    """The rows of one output that `drift_reference.observe` reads and changes; the output is number 0 to it."""

    def __init__(self, tile: _Tile, r: Value, w: Value) -> None:
        form, m, p = tile._form, tile._m, tile._p  # noqa: SLF001 - a part of the tile
        self._rows: list[Row] = []

        def row(array: str, place: Place) -> Row:
            made = Row(form, array, lambda: place(w))
            self._rows.append(made)
            return made

        state, coming, out = tile._state, tile._in, tile._out  # noqa: SLF001 - as above
        self.M = [form.load("M", tile._head + k) for k in range(DRIFT)]  # noqa: SLF001 - as above
        self.variance = form.load("G", tile._scratch(tile._v)(w))  # noqa: SLF001 - as above
        self.watch = [[row("S", state(tile._watch + r * WATCH + k)) for k in range(WATCH)]]  # noqa: SLF001 - as above
        self.y, self.mute = [row("Z", coming(m + r))], row("Z", coming(m + p + 2))
        self.estimate, self.prediction = [row("O", out(r))], [row("O", out(p * 2 + r))]
        self.innovation, self.score = _One(row("O", out(p * 3 + r))), _One(row("O", out(p * 4 + r)))
        self.nis = row("O", out(p * 6))

    def flush(self) -> None:
        for row in self._rows:
            row.flush()


class _One:
    """A single row that is changed by assignment to its item."""

    def __init__(self, row: Row) -> None:
        self._row = row

    def __getitem__(self, _: int) -> Row:
        return self._row

    def __setitem__(self, _: int, value: Any) -> None:
        self._row[:] = value
