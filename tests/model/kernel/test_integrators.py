"""Integrators are of the order they claim, stiff models stay calm, and lanes carry parameters of their own."""

from __future__ import annotations

import numpy as np
import pytest

from twinmodel.equations.blocks import Blocks
from twinmodel.equations.derive import jacobian
from twinmodel.equations.oplist import lower
from twinmodel.equations.parse import Source, parse
from twinmodel.kernel.arena import fresh_state, plan_ode
from twinmodel.kernel.ops import MAP, RK4, ROS2
from twinmodel.kernel.parity import canonical
from twinmodel.kernel.reference import KERNELS
from twinmodel.kernel.rollout import BLOCK, rollout, rollout_of


def _plan(rates, readings, inputs=(), params=(), method=RK4, dt_s=1.0, substeps=1):
    """A plan of equations in text; states are x0, x1, ..."""
    states = [f"x{i}" for i in range(len(rates))]
    names = [*states, *inputs, *(name for name, _ in params)]
    exprs = [parse(Source(text)) for text in rates]
    slopes = jacobian(exprs, states, {}, Blocks()) if method == ROS2 else None
    entries, definitions = (slopes.entries, slopes.definitions) if slopes else ((), {})
    groups = [exprs, [parse(Source(text)) for text in readings], entries]
    lowered = lower([[(e, Source("")) for e in group] for group in groups], definitions, names)
    n, p = len(rates), len(readings)
    tensors = {
        "low": np.full(n, -1e9), "high": np.full(n, 1e9), "R": np.ones(p), "Q": np.eye(n) * 1e-3, "Q_held": np.eye(n),
        "params": np.array([value for _, value in params], float), "consts": np.array(lowered.consts),
        "pool": lowered.pool, "inputs_nominal": np.zeros(len(inputs)),
    }  # fmt: skip
    programs = [array for q in lowered.programs for array in (q.code, q.results)]
    drift = np.array([0.05, 2.0, 0.5, 16.0, 4.0, 0.5, 0.002, 0.5, 20.0, 1.5, 2.0])
    return plan_ode(tensors, programs, lowered.registers, (round(dt_s * 1e9), substeps, method), drift)


def _end(plan, x0, ticks, u=None, params=()):
    u = np.empty((ticks + 1, 0)) if u is None else u
    lanes = np.array(params, float).reshape(-1, 1)
    return rollout(plan, rollout_of(plan, "interpreted"), np.array(x0, float)[:, None], lanes, u)[-1, :, 0]


@pytest.mark.parametrize(("method", "order"), [(RK4, 4), (ROS2, 2)])
def test_halving_the_step_divides_the_error_by_the_power_of_the_order(method, order):
    """A pendulum; the reference comes from steps 64 times smaller."""
    rates, readings = ["x1", "-sin(x0) - 0.1*x1"], ["x0", "x1"]
    exact = _end(_plan(rates, readings, method=RK4, dt_s=1 / 256), [1.0, 0.5], 512)
    errors = [
        np.abs(_end(_plan(rates, readings, method=method, dt_s=h), [1.0, 0.5], round(2 / h)) - exact).max()
        for h in (1 / 8, 1 / 16)
    ]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.2)


def test_a_stiff_model_settles_with_the_implicit_step_and_blows_up_without():
    rates, readings = ["-1e6*(x0 - u) + x1", "-x1"], ["x0"]
    u = np.full((40, 1), 3.0)
    calm = _end(_plan(rates, readings, ["u"], method=ROS2), [0.0, 1.0], 39, u)
    assert calm == pytest.approx([3.0], abs=1e-5)
    assert not np.isfinite(_end(_plan(rates, readings, ["u"]), [0.0, 1.0], 39, u)).all()


def test_an_implicit_step_whose_first_pivot_vanishes_changes_rows():
    """1 - gamma h J[0, 0] = 0: elimination without a pivot would divide by zero."""
    rates = [f"x0/{0.2928932188134524!r} + 2*x1", "-3*x0 - x1"]
    end = _end(_plan(rates, ["x0", "x1"], method=ROS2), [0.3, -0.2], 1)
    matrix = np.array([[1 / 0.2928932188134524, 2.0], [-3.0, -1.0]])
    left = np.eye(2) - 0.2928932188134524 * matrix
    x = np.array([0.3, -0.2])
    k1 = np.linalg.solve(left, matrix @ x)
    k2 = np.linalg.solve(left, matrix @ (x + k1) - 2 * k1)
    np.testing.assert_allclose(end, x + 1.5 * k1 + 0.5 * k2, rtol=1e-10)


def test_a_map_steps_once_a_tick_whatever_its_step_is():
    plan = _plan(["r*x0*(1 - x0) + u"], ["x0"], ["u"], [("r", 3.7)], method=MAP, dt_s=0.25)
    x, seen = 0.3, []
    for _ in range(20):
        seen.append(x)
        x = 3.7 * x * (1 - x) + 0.01
    u = np.full((20, 1), 0.01)
    y = rollout(plan, KERNELS["rollout"], np.array([[0.3]]), np.array([[3.7]]), u)
    np.testing.assert_allclose(y[:, 0, 0], seen, rtol=1e-12)


@pytest.mark.parametrize("method", [RK4, ROS2, MAP])
def test_lanes_of_a_rollout_get_the_bits_they_get_alone_in_both_tiers(compiled, method):
    plan = _plan(
        ["a*u - b*x0*abs(x0) + 0.1*x1", "tanh(x0) - 0.5*x1"], ["x0 + u", "x1"], ["u"], [("a", 1.0), ("b", 0.2)],
        method=method, dt_s=0.1, substeps=2,
    )  # fmt: skip
    g, lanes, ticks = np.random.default_rng(3), BLOCK + 7, 12
    x0, params, u = g.normal(size=(2, lanes)), g.normal(size=(2, lanes)), g.normal(size=(ticks, 1, lanes))
    y = rollout(plan, KERNELS["rollout"], x0, params, u)
    assert y.shape == (ticks, 2, lanes)
    assert canonical(rollout(plan, compiled["rollout"], x0, params, u)) == canonical(y)
    for w in (0, BLOCK, lanes - 1):
        alone = rollout(plan, compiled["rollout"], x0[:, w : w + 1], params[:, w : w + 1], u[:, :, w : w + 1])
        shared = rollout(plan, compiled["rollout"], x0[:, w : w + 1], params[:, w : w + 1], u[:, :, w])
        assert canonical(alone) == canonical(shared) == canonical(y[:, :, w : w + 1])


def test_a_rollout_refuses_shapes_that_contradict_the_model():
    plan = _plan(["a*u - x0"], ["x0"], ["u"], [("a", 1.0)])
    one, ticks = np.ones((1, 3)), np.ones((5, 1))
    good = (one, one, ticks)
    rollout(plan, KERNELS["rollout"], *good)
    for wrong in ((np.ones((2, 3)), one, ticks), (one, np.ones((1, 2)), ticks), (one, one, np.ones((5, 2)))):
        with pytest.raises(ValueError, match=r"shape|fit"):
            rollout(plan, KERNELS["rollout"], *wrong)
    assert rollout(plan, KERNELS["rollout"], one, one, np.ones((0, 1))).shape == (0, 1, 3)


@pytest.mark.parametrize("tier", ["interpreted", "vm"])
def test_instances_of_a_tile_keep_parameters_of_their_own(compiled, tier):
    plan = _plan(["a*u - b*x0"], ["x0"], ["u"], [("a", 1.0), ("b", 0.2)])
    layout, one = plan.layout, np.zeros(1, np.int32)
    step = compiled["ode"] if tier == "vm" else KERNELS["ode"]
    tile = fresh_state(plan, np.ones(1), np.eye(1), np.zeros(1), 3)
    rows = tile.reshape(-1, 3)
    assert rows[layout.params :].tolist() == [[1.0] * 3, [0.2] * 3]
    rows[layout.params :] = [[1.0, 2.0, 3.0], [0.2, 0.3, 0.4]]
    alone = [np.ascontiguousarray(rows[:, w]) for w in range(3)]
    coming = np.array([0.5, 1.5, 1.0, 1.0, 0.0])
    for _ in range(5):
        results, scratch = np.zeros(layout.output_rows * 3), np.zeros(layout.scratch_rows * 3)
        step(plan.integers, plan.reals, one, tile, np.repeat(coming, 3), results, scratch, 3)
        for state in alone:
            step(plan.integers, plan.reals, one, state, coming, np.zeros(layout.output_rows), scratch, 1)
    assert canonical(rows.T.copy()) == canonical(np.array(alone))
    assert len({row[0] for row in alone}) == 3
    assert rows[layout.params :].tolist() == [[1.0, 2.0, 3.0], [0.2, 0.3, 0.4]]
