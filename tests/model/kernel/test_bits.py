"""Compiled and interpreted kernels give the same bits, for any model, any lanes, any holes in the measurements."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from twinmodel.equations.blocks import Block, Blocks, Table
from twinmodel.equations.derive import jacobian
from twinmodel.equations.oplist import Program, lower, verify
from twinmodel.equations.parse import Dense, Lookup, Name, Number, Op, Source
from twinmodel.errors import ConflictError
from twinmodel.kernel.arena import fresh_state, pack, plan_linear, plan_ode, unpack
from twinmodel.kernel.ops import MAP, RK4, ROS2
from twinmodel.kernel.parity import canonical, run_hash
from twinmodel.kernel.proof import prove
from twinmodel.kernel.reference import KERNELS

DRIFT = np.array([0.05, 0.5, 0.03, 0.06, 4.0, 0.5, 0.002, 0.03, 0.05, 1.5, 2.0])


def _covariance(g, n):
    root = g.normal(size=(n, n))
    return root @ root.T + np.eye(n)


def _common(g, n, p):
    return {
        "low": np.full(n, -30.0), "high": np.full(n, 30.0), "R": g.uniform(0.5, 2, p), "Q": _covariance(g, n) * 0.1,
        "Q_held": _covariance(g, n),
    }  # fmt: skip


def linear_plan(g, n, m, p):
    tensors = _common(g, n, p) | {
        "A": g.normal(size=(n, n)) * 0.4, "B": g.normal(size=(n, m)), "a": g.normal(size=n),
        "C": g.normal(size=(p, n)), "D": g.normal(size=(p, m)), "c": g.normal(size=p),
    }  # fmt: skip
    return plan_linear(tensors, DRIFT)


_UNARY = ("neg", "abs", "tanh", "sin", "cos", "exp", "log", "sqrt")
_BINARY = ("add", "sub", "mul", "div", "min", "max", "pow", "less")


def ode_plan(g, n, m, p, method=RK4):
    """A random model of any operations, NaN and infinities among what they give, that does not run away."""
    names = [f"x{i}" for i in range(n)] + [f"u{i}" for i in range(m)] + ["k", "l"]
    source = Source("random")
    points = np.array([-3.0, -0.5, 0.5, 2.0, 5.0])
    blocks = Blocks(
        {"curve": Table(points, g.normal(size=5)), "field": Table(points, g.normal(size=(5, 3)), points[:3])},
        {"dense": Block(g.normal(size=3), g.normal(size=(3, 2)))},
    )

    def expr(depth):
        if depth == 0:
            return Name(names[g.integers(len(names))]) if g.random() < 0.8 else Number(float(g.normal()))
        kind, a, b = g.integers(0, 22), expr(depth - 1), expr(depth - 1)
        if kind < 8:
            return Op(_UNARY[kind], (a,))
        if kind < 16:
            return Op(_BINARY[kind - 8], (a, b))
        if kind < 18:
            return Op("select", (Op("less", (a, b)), b, expr(0)))
        if kind < 20:
            return Dense("dense", (a, b), int(g.integers(3)))
        return Lookup("curve", (a,)) if kind == 20 else Lookup("field", (a, b))

    def tame(inner, name):
        # A comparison with NaN is false, so that NaN becomes 0.1.
        inner = Op("select", (Op("less", (Op("abs", (inner,)), Number(20.0))), inner, Number(0.1)))
        return (Op("sub", (inner, Name(name))), source)

    rates = [tame(expr(3), f"x{i}") for i in range(n)]
    outputs = [(Name("x0"), source), *((Op("tanh", (expr(2),)), source) for _ in range(p - 1))]
    slopes, definitions = [], {}
    if method == ROS2:
        derived = jacobian([rate for rate, _ in rates], names[:n], {}, blocks)
        slopes, definitions, blocks = [(e, source) for e in derived.entries], derived.definitions, derived.blocks
    lowered = lower([rates, outputs, slopes], definitions, names, blocks)
    for program in lowered.programs:
        assert verify(program, len(names) + len(lowered.consts), lowered.registers, lowered.pool) is None
    tensors = _common(g, n, p) | {
        "params": g.normal(size=2), "consts": np.array(lowered.consts, float), "inputs_nominal": np.zeros(m),
    }  # fmt: skip
    programs = tuple(a for q in lowered.programs for a in (q.code, q.results))
    return plan_ode(tensors | {"pool": lowered.pool}, programs, lowered.registers, (10**9, 3, method), DRIFT)


def drive(plan, steps, lanes, tiles, ticks, seed):
    """Runs several kernels side by side on the same hostile inputs; True when any filter broke down."""
    g = np.random.default_rng(seed)
    layout = plan.layout
    n, m, p = layout.n, layout.m, layout.p
    start = fresh_state(plan, g.normal(size=n), _covariance(g, n), np.ones(m), lanes, tiles)
    models = np.zeros(tiles, np.int32)
    runs = [(step, start.copy(), np.zeros(layout.output_rows * lanes * tiles)) for step in steps]
    for tick in range(ticks):
        coming = g.normal(size=(tiles, layout.input_rows, lanes)) * 2
        coming[:, : m + p][g.random((tiles, m + p, lanes)) < 0.15] = np.nan
        coming[:, m + p] = (g.random((tiles, lanes)) < 0.1) * 3.0
        coming[:, m + p + 1] = 1.0
        coming[:, m + p + 2] = g.random((tiles, lanes)) < 0.05
        for step, state, results in runs:
            scratch = np.full(layout.scratch_rows * lanes, np.nan)
            step(plan.integers, plan.reals, models, state, coming.ravel(), results, scratch, lanes)
        for _, state, results in runs[1:]:
            assert canonical(state) == canonical(runs[0][1]), f"state differs at tick {tick}"
            assert canonical(results) == canonical(runs[0][2]), f"results differ at tick {tick}"
    return runs[0][1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("lanes", [1, 8])
@pytest.mark.parametrize(("n", "m", "p"), [(1, 0, 1), (2, 2, 2), (5, 1, 3)])
@pytest.mark.parametrize("family", ["linear", "ode"])
def test_compiled_and_interpreted_give_the_same_bits(compiled, family, n, m, p, lanes, seed):
    g = np.random.default_rng([seed, n])
    plan = linear_plan(g, n, m, p) if family == "linear" else ode_plan(g, n, m, p, (RK4, ROS2, MAP)[seed % 3])
    state = drive(plan, [KERNELS[family], compiled[family]], lanes, 2, 12, seed)
    assert np.isfinite(state).any()


@pytest.mark.parametrize("family", ["linear", "ode"])
def test_a_lane_gives_the_same_bits_alone_and_among_others(compiled, family):
    plan = (linear_plan if family == "linear" else ode_plan)(np.random.default_rng(9), 2, 1, 2)
    layout, g = plan.layout, np.random.default_rng(10)
    wide = fresh_state(plan, np.ones(2), np.eye(2), np.zeros(1), 8)
    alone = fresh_state(plan, np.ones(2), np.eye(2), np.zeros(1), 1)
    for _ in range(10):
        coming = g.normal(size=(layout.input_rows, 8))
        coming[-3:] = [[0.0] * 8, [1.0] * 8, [0.0] * 8]
        args = (plan.integers, plan.reals, np.zeros(1, np.int32))
        rows = layout.output_rows
        compiled[family](*args, wide, coming.ravel(), np.zeros(rows * 8), np.zeros(layout.scratch_rows * 8), 8)
        one = np.ascontiguousarray(coming[:, 5])
        compiled[family](*args, alone, one, np.zeros(rows), np.zeros(layout.scratch_rows), 1)
    assert wide.reshape(-1, 8)[:, 5].tobytes() == alone.tobytes()


def test_the_kalman_filter_agrees_with_the_textbook():
    g = np.random.default_rng(4)
    n, m, p = 3, 2, 2
    plan = linear_plan(g, n, m, p)
    ends = np.cumsum([n * n, n * m, n, p * n, p * m, p])
    own = plan.reals[-ends[-1] :]
    A, B, a, C, D, c = np.split(own, ends[:-1])
    A, B, C, D = A.reshape(n, n), B.reshape(n, m), C.reshape(p, n), D.reshape(p, m)
    at = len(DRIFT) + 2 * n
    R = np.diag(plan.reals[at : at + p])
    Q = unpack(plan.reals[at + p : at + p + 6], n)
    x, P, u = np.ones(n), np.eye(n), np.zeros(m)
    state = fresh_state(plan, x, P, u)
    results = np.zeros(plan.layout.output_rows)
    for _ in range(5):
        new, y = g.normal(size=m), g.normal(size=p)
        x, P = A @ x + B @ u + a, A @ P @ A.T + Q
        u = new
        prediction = C @ x + D @ u + c
        S = C @ P @ C.T + R
        spread = np.sqrt(np.diag(S))
        K = P @ C.T @ np.linalg.inv(S)
        nis = (y - prediction) @ np.linalg.inv(S) @ (y - prediction)
        x, P = x + K @ (y - prediction), P - K @ S @ K.T
        coming = np.concatenate([u, y, [0, 1, 1]])  # muted: nothing is kept out of the state
        KERNELS["linear"](plan.integers, plan.reals, np.zeros(1, np.int32), state, coming, results, results, 1)
        np.testing.assert_allclose(state[:n], x, rtol=1e-9)
        np.testing.assert_allclose(state[n : n + 6], pack(P), rtol=1e-9)
        np.testing.assert_allclose(
            results[: 3 * p], np.r_[C @ x + D @ u + c, np.sqrt(np.diag(C @ P @ C.T)), prediction]
        )
        np.testing.assert_allclose(results[5 * p : 6 * p], spread)
        assert results[-1] == pytest.approx(nis)


def test_the_unscented_filter_agrees_with_the_linear_one_on_a_linear_model():
    """x' = -x + u, y = 2 x: both filters must see the same numbers, RK4 aside."""
    common = {"low": np.array([-1e9]), "high": np.array([1e9]), "R": np.array([0.5]), "Q": np.array([[0.1]])}
    common |= {"Q_held": np.array([[0.2]])}
    source = Source("")
    rate = Op("sub", (Name("u"), Name("x")))
    lowered = lower([[(rate, source)], [(Op("mul", (Number(2.0), Name("x"))), source)]], {}, ["x", "u"])
    tensors = common | {"params": np.empty(0), "consts": np.array(lowered.consts), "inputs_nominal": np.zeros(1)}
    programs = tuple(a for q in lowered.programs for a in (q.code, q.results))
    ode = plan_ode(tensors | {"pool": lowered.pool}, programs, lowered.registers, (10**8, 1, RK4), DRIFT)
    decay = np.exp(-0.1)
    matrices = {"A": [[decay]], "B": [[1 - decay]], "a": [0.0], "C": [[2.0]], "D": [[0.0]], "c": [0.0]}
    linear = plan_linear(common | {k: np.array(v) for k, v in matrices.items()}, DRIFT)
    states = [fresh_state(p, np.ones(1), np.eye(1), np.zeros(1)) for p in (ode, linear)]
    g = np.random.default_rng(1)
    for tick in range(20):
        coming = np.array([g.normal(), g.normal() if tick % 3 else np.nan, 1.0, 1.0, 0.0])
        out = []
        for plan, state in zip((ode, linear), states, strict=True):
            results = np.zeros(plan.layout.output_rows)
            KERNELS[plan.family](plan.integers, plan.reals, np.zeros(1, np.int32), state, coming, results, results, 1)
            out.append(results)
        np.testing.assert_allclose(out[0], out[1], rtol=1e-4, atol=1e-6)


def test_parity_hashes_see_a_single_bit():
    plan = linear_plan(np.random.default_rng(2), 2, 1, 1)
    start = (np.ones(2), np.eye(2), np.zeros(1))
    u, y = np.ones((4, 1)), np.full((4, 1), np.nan)
    first = run_hash(plan, KERNELS["linear"], start, u, y)
    assert run_hash(plan, KERNELS["linear"], start, u, y) == first
    changed = u.copy()
    changed[3] = np.nextafter(1.0, 2.0)
    assert run_hash(plan, KERNELS["linear"], (start[0], start[1], start[2]), u, np.nan_to_num(y)) != first
    plan.reals[-1] = np.nextafter(plan.reals[-1], 9.0)
    assert run_hash(plan, KERNELS["linear"], start, u, y) != first


def test_importing_the_runtime_does_not_import_numba():
    code = (
        "import sys, twinmodel.rom, twinmodel.align, twinmodel.kernel.warmup, twinmodel.package.build;"
        "sys.exit(any(m in sys.modules for m in ('numba', 'llvmlite', 'scipy', 'pint')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_a_program_without_operations_runs(compiled):
    empty = (np.zeros((0, 6), np.int32), np.array([0], np.int32))
    assert verify(Program(*empty, 1), 1, 1) is None
    tensors = _common(np.random.default_rng(1), 1, 1) | {
        "params": np.empty(0), "consts": np.empty(0), "pool": np.empty(0), "inputs_nominal": np.empty(0),
    }  # fmt: skip
    plan = plan_ode(tensors, (*empty, *empty), 1, (10**9, 1, RK4), DRIFT)
    drive(plan, [KERNELS["ode"], compiled["ode"]], 1, 1, 5, 0)


def test_the_proof_takes_compiled_code_and_refuses_one_wrong_bit(compiled):
    for family, step in compiled.items():
        prove(family, step)

        # What a kernel gives: the state, or the outputs of a free run.
        place = 5 if family == "rollout" else 3

        def wrong(*arrays, step=step, place=place):
            step(*arrays)
            arrays[place][0] = np.nextafter(arrays[place][0], 9.0)

        with pytest.raises(ConflictError, match="other bits"):
            prove(family, wrong)
