"""The unscented filter and the free run of one signature: op-list, integrator and filter as straight-line code.

Scratch of the filter, rows of L = (2n + 1) W lanes: states | readings | inputs | parameters | registers between
segments. Of the free run, rows of a block: states | inputs | registers between segments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twinmodel.kernel import ops
from twinmodel.kernel.arena import DRIFT, HEADER, I32, WATCH, packed
from twinmodel.kernel.drift_reference import finish
from twinmodel.kernel.generate.form import Form, TooLargeError, Value
from twinmodel.kernel.generate.oplist import Pool
from twinmodel.kernel.generate.segments import Runner, segments
from twinmodel.kernel.generate.tiles import TracedTiles
from twinmodel.kernel.reference import cholesky, condition
from twinmodel.kernel.vm_reference import Programs, integrate, programs

ORDER_MAX = 8
# States, inputs and parameters of a lane; takes a reading of a lane.
Read = Callable[[Value], tuple[list[Value], list[Value], list[Value]]]
Write = Callable[[int, Value, Value], None]


class _Model:
    """Sizes and programs of a signature, and its reals once a model is chosen."""

    def __init__(self, form: Form, integers: I32) -> None:
        self.n, self.m, self.p, self.substeps, self.q, self.consts, self.registers, self.kind, self.pooled = (
            int(v) for v in integers[: HEADER - 3]
        )
        if max(self.n, self.m, self.p) > ORDER_MAX:
            raise TooLargeError(f"{self.n} states, {self.m} inputs, {self.p} outputs")
        self.form = form
        self.code: Programs = programs(integers)
        self.head = DRIFT + 2 * self.n
        self.noise = self.p + self.n * (self.n + 1)
        self.size = self.head + self.noise + 4 + self.consts + self.pooled

    def choose(self, model: Value) -> None:
        """Reads what all lanes share; `model` is the first element of the model in M."""
        load = self.form.load
        own = model + (self.head + self.noise)
        self.settings = [load("M", model + k) for k in range(self.head)]
        self.others = [load("M", model + (self.head + k)) for k in range(self.noise)]
        self.h, self.spread, self.w0, self.w1 = (load("M", own + k) for k in range(4))
        self.fixed = [load("M", own + (4 + k)) for k in range(self.consts)]
        self.pool = Pool(self.form, own + (4 + self.consts), self.pooled)

    def registers_of(self, x: list[Value], u: list[Value], params: list[Value]) -> list[Any]:
        """The register file at the start of a program."""
        pinned = [*x, *u, *params, *self.fixed]
        return [*pinned, *[None] * (self.registers - len(pinned))]

    def advance(self, R: list[Any]) -> list[Value]:
        """The states one substep on."""
        h: Any = self.h
        x: list[Any] = integrate(self.code, self.kind, R, self.pool, (h, 1))
        return x

    def readings(
        self, lanes: Value, row: int, read: Callable[[Value], list[Any]], finish: Callable[[list[Any], Value], None]
    ) -> None:
        """Runs the readings over all lanes; scratch is free from `row` on."""
        pinned = self.n + self.m + self.q + self.consts
        parts = segments(self.code.readings, self.code.reading_results, pinned)
        Runner(self.form, self.pool, lanes, row - pinned, pinned).run(parts, read, finish)

    @property
    def passes(self) -> int:
        """How often `advance` makes a tick."""
        return 1 if self.kind == ops.MAP else self.substeps


def ode_form(integers: I32) -> Form:
    """The step of a signature.

    Raises:
        TooLargeError: the generic kernel serves it better.
    """
    form = Form()
    model = _Model(form, integers)
    n, m, p, q = model.n, model.m, model.p, model.q
    width = form.argument("W")
    pairs, points = n * (n + 1) // 2, 2 * n + 1
    rows = {"S": n + pairs + m + WATCH * p + 2 + q, "Z": m + p + 3, "O": 6 * p + 1}
    lanes = width * points
    with form.loop(form.argument("K_")) as t:
        at = {array: t * (width * k) for array, k in rows.items()}
        model.choose(form.load("K", t) * model.size)
        tick = _Tick(form, model, at, width, lanes)
        tick.predict()
        with form.loop(model.passes), form.loop(lanes, lanes=True) as lane:
            x = model.advance(tick.read(lane))
            for i in range(n):
                form.store("G", lanes * i + lane, x[i])
        tick.gather()
        tick.readings()
        tick.update()
    return form


class _Tick:
    """The parts of a tick that go lane by lane over a tile, and the rows of points between them."""

    def __init__(self, form: Form, model: _Model, at: dict[str, Value], width: Value, lanes: Value) -> None:
        self._form, self._model, self._at, self._width, self._lanes = form, model, at, width, lanes
        self._points = 2 * model.n + 1

    def read(self, lane: Value) -> list[Any]:
        """The register file of one point."""
        n, m, p, q = self._model.n, self._model.m, self._model.p, self._model.q
        rows = [*range(n), *range(n + p, n + p + m + q)]
        values = [self._form.load("G", self._lanes * row + lane) for row in rows]
        return self._model.registers_of(values[:n], values[n : n + m], values[n + m :])

    def predict(self) -> None:
        """Points of the state before the tick, with the inputs held, and the parameters at all of them."""
        model = self._model
        with self._form.loop(self._width, lanes=True) as w:
            t = self._tiles(w)
            t.bad[:] = 0.0
            self._scatter(t, w)
            first = model.n + model.n * (model.n + 1) // 2 + model.m + WATCH * model.p + 2
            for k in range(model.q):
                value = self._form.load("S", (self._at["S"] + self._width * (first + k)) + w)
                self._fill(model.n + model.p + model.m + k, value, w)
            t.flush()

    def gather(self) -> None:
        """Mean and covariance of the points after the tick; then points of them, with the new inputs."""
        n = self._model.n
        with self._form.loop(self._width, lanes=True) as w:
            t = self._tiles(w)
            x = [self._row(i, w) for i in range(n)]
            for i in range(n):
                t.x[i] = self._mean(x[i])
                x[i] = [v - t.x[i] for v in x[i]]
            for i in range(n):
                for j in range(i, n):
                    c = packed(n, i, j)
                    t.P[c] = self._covariance(x[i], x[j]) + (t.Q[c] + t.fq * t.Q_held[c])
            t.clip()
            t.hold()
            self._scatter(t, w)
            t.flush()

    def readings(self) -> None:
        """Outputs at every point."""
        model, form = self._model, self._form

        def finish(R: list[Any], lane: Value) -> None:
            for r, register in enumerate(model.code.reading_results):
                form.store("G", self._lanes * (model.n + r) + lane, R[register])

        model.readings(self._lanes, model.n + model.p + model.m + model.q, self.read, finish)

    def update(self) -> None:
        """Conditions the states on the measurements, one after the other."""
        n, p, form = self._model.n, self._model.p, self._form
        with form.loop(self._width, lanes=True) as w:
            t = self._tiles(w)
            y = [self._row(n + r, w) for r in range(p)]
            for r in range(p):
                t.prediction[r] = self._mean(y[r])
                y[r] = [v - t.prediction[r] for v in y[r]]
                t.estimate[r] = t.prediction[r]
            x = [[v - t.x[i] for v in self._row(i, w)] for i in range(n)]
            xy: Any = [[self._covariance(x[i], y[r]) for r in range(p)] for i in range(n)]
            yy: Any = {(r, c): self._covariance(y[r], y[c]) for r in range(p) for c in range(r, p)}
            t.nis[:] = 0.0
            for r in range(p):
                t.spread[r] = form.operate("sqrt", form.where(yy[r, r] > 0.0, yy[r, r], 0.0) + t.R[r] * t.fr)
            for r in range(p):
                condition(t, r, xy, yy)
            diverged = t.bad.value
            finish(t)
            for r in range(p):
                t.sigma[r] = form.operate("sqrt", form.where(yy[r, r] > 0.0, yy[r, r], 0.0))
            t.bad[:] = form.where(diverged > 0.0, 1.0, t.bad)
            t.flush()

    def _tiles(self, w: Value) -> Any:
        model = self._model
        reals = (model.settings, model.others)
        return TracedTiles(self._form, (model.n, model.m, model.p), self._at, w, self._width, reals)

    def _place(self, row: int, point: int, w: Value) -> Value:
        return (self._lanes * row + self._width * point) + w

    def _row(self, row: int, w: Value) -> list[Value]:
        return [self._form.load("G", self._place(row, k, w)) for k in range(self._points)]

    def _fill(self, row: int, value: Any, w: Value) -> None:
        for k in range(self._points):
            self._form.store("G", self._place(row, k, w), value)

    def _scatter(self, t: Any, w: Value) -> None:
        n, m, p = self._model.n, self._model.m, self._model.p
        lower = cholesky(t)
        for i in range(n):
            self._form.store("G", self._place(i, 0, w), t.x[i])
            for j in range(n):
                v = self._model.spread * lower[i][j] if j <= i else self._form.value(0.0)
                self._form.store("G", self._place(i, 1 + j, w), t.x[i] + v)
                self._form.store("G", self._place(i, 1 + n + j, w), t.x[i] - v)
        for k in range(m):
            self._fill(n + p + k, t.u[k], w)

    def _mean(self, row: list[Value]) -> Value:
        v = row[1]
        for value in row[2:]:
            v = v + value
        return self._model.w0 * row[0] + self._model.w1 * v

    def _covariance(self, a: list[Value], b: list[Value]) -> Value:
        products = [left * right for left, right in zip(a, b, strict=True)]
        return self._mean(products)


def rollout_form(integers: I32) -> Form:
    """The free run of a signature of either family; arguments: see `rollout`.

    Raises:
        TooLargeError: the generic kernel serves it better.
    """
    form = Form()
    ticks, shared, block = (form.load("K", k) for k in range(3))
    total = form.argument("W")
    body = _Free(form, integers) if int(integers[6]) else _FreeLinear(form, integers)
    n, m, p, q = body.n, body.m, body.p, body.q
    count = form.operate("quotient", total + (block - 1), block)
    with form.loop(count) as part:
        base = part * block
        rest = total - base
        lanes = form.where(rest < block, rest, block)
        with form.loop(n) as row, form.loop(lanes, lanes=True) as w:
            form.store("G", row * lanes + w, form.load("S", (row * total + base) + w))
        with form.loop(ticks) as t:
            one = shared > 0
            with form.loop(form.where(one, m, form.value(0, "i"))) as k:
                value = form.load("Z", t * m + k)
                with form.loop(lanes, lanes=True) as w:
                    form.store("G", (k + n) * lanes + w, value)
            with form.loop(form.where(one, 0, form.value(m, "i"))) as k, form.loop(lanes, lanes=True) as w:
                form.store("G", (k + n) * lanes + w, form.load("Z", ((t * m + k) * total + base) + w))

            def read(w: Value) -> tuple[list[Value], list[Value], list[Value]]:
                values = [form.load("G", lanes * row + w) for row in range(n + m)]
                params = [form.load("S", (total * (n + row) + base) + w) for row in range(q)]
                return values[:n], values[n:], params

            def write(r: int, value: Value, w: Value) -> None:
                form.store("O", ((t * p + r) * total + base) + w, value)

            body.readings(lanes, read, write)
            with form.loop(body.passes), form.loop(lanes, lanes=True) as w:
                for i, value in enumerate(body.advance(*read(w))):
                    form.store("G", lanes * i + w, value)
    return form


class _Free:
    """A model of an op-list in a free run."""

    def __init__(self, form: Form, integers: I32) -> None:
        self._model = model = _Model(form, integers)
        model.choose(form.value(0, "i"))
        self.n, self.m, self.p, self.q, self.passes = model.n, model.m, model.p, model.q, model.passes

    def readings(self, lanes: Value, read: Read, write: Write) -> None:
        model = self._model

        def finish(R: list[Any], w: Value) -> None:
            for r, register in enumerate(model.code.reading_results):
                write(r, R[register], w)

        model.readings(lanes, model.n + model.m, lambda w: model.registers_of(*read(w)), finish)

    def advance(self, *pinned: list[Value]) -> list[Value]:
        return self._model.advance(self._model.registers_of(*pinned))


class _FreeLinear:
    """A linear model in a free run."""

    def __init__(self, form: Form, integers: I32) -> None:
        self._form = form
        self.n, self.m, self.p = n, m, p = tuple(int(v) for v in integers[:3])
        self.q, self.passes = 0, 1
        if max(n, m, p) > 2 * ORDER_MAX:
            raise TooLargeError(f"{n} states, {m} inputs, {p} outputs")
        self._A = DRIFT + 2 * n + p + n * (n + 1)
        self._a = self._A + n * (n + m)
        self._C = self._a + n
        self._c = self._C + p * (n + m)

    def readings(self, lanes: Value, read: Read, write: Write) -> None:
        n, m = self.n, self.m
        with self._form.loop(lanes, lanes=True) as w:
            x, u, _ = read(w)
            for r in range(self.p):
                write(r, self._row(self._c + r, self._C + r * n, x, self._C + self.p * n + r * m, u), w)

    def advance(self, x: list[Value], u: list[Value], _: list[Value]) -> list[Value]:
        n, m = self.n, self.m
        return [self._row(self._a + i, self._A + i * n, x, self._A + n * n + i * m, u) for i in range(n)]

    def _row(self, offset: int, states: int, x: list[Value], inputs: int, u: list[Value]) -> Value:
        v = self._form.load("M", offset)
        for k, value in enumerate(x):
            v = v + self._form.load("M", states + k) * value
        for k, value in enumerate(u):
            v = v + self._form.load("M", inputs + k) * value
        return v
