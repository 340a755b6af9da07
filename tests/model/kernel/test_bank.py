"""A bank gives each member the bits it would get alone, whatever stands beside it."""

from __future__ import annotations

import numpy as np
import pytest

from twinmodel.kernel.arena import fresh_state, unpack
from twinmodel.kernel.bank import Bank
from twinmodel.kernel.machine import bind, signature
from twinmodel.kernel.parity import canonical
from twinmodel.kernel.reference import KERNELS

N, M, P = 3, 2, 2


def _fleet(make_linear, make_covariance, count):
    g = np.random.default_rng(3)
    plans = [make_linear(g, N, M, P) for _ in range(3)]
    starts = [(g.normal(size=N), make_covariance(g, N), g.normal(size=M)) for _ in plans]
    return plans, g.integers(0, 3, count).tolist(), starts


def _hostile(g, count):
    u, y = g.normal(size=(count, M)), g.normal(size=(count, P)) * 2
    u[g.random(u.shape) < 0.2] = np.nan
    y[g.random(y.shape) < 0.2] = np.nan
    return u, y, g.integers(0, 3, count).astype(float), (g.random(count) < 0.1).astype(float)


@pytest.mark.parametrize("lanes", [1, 5, 8])
@pytest.mark.parametrize("tier", ["interpreted", "vm"])
def test_members_of_a_mixed_fleet_get_the_bits_they_get_alone(make_linear, make_covariance, compiled, tier, lanes):
    step = KERNELS["linear"] if tier == "interpreted" else compiled["linear"]
    plans, members, starts = _fleet(make_linear, make_covariance, 21)
    bank = Bank(plans, members, starts, step, lanes=lanes)
    layout, one = bank.layout, np.zeros(1, np.int32)
    alone = []
    for k in members:
        arrays = (fresh_state(plans[k], *starts[k]), np.zeros(layout.input_rows), np.zeros(layout.output_rows))
        call = bind(step, plans[k].integers, plans[k].reals, one, *arrays, np.zeros(layout.scratch_rows), 1)
        alone.append((*arrays, call))
    g = np.random.default_rng(4)
    for _ in range(8):
        u, y, process, mute = _hostile(g, len(members))
        bank.set(u, y, process=process, mute=mute)
        bank.tick()
        for i, (_, coming, _, call) in enumerate(alone):
            coming[:] = [*u[i], *y[i], process[i], 1.0, mute[i]]
            call()
        results = np.array([results for _, _, results, _ in alone])
        found = [
            bank.estimate,
            bank.sigma,
            bank.prediction,
            bank.innovation,
            bank.score,
            bank.spread,
            bank.nis[:, None],
        ]
        assert canonical(np.concatenate(found, axis=1)) == canonical(results)
        assert all(canonical(bank.row(i)) == canonical(alone[i][0]) for i in range(len(members)))
    state = np.array([state for state, _, _, _ in alone])
    np.testing.assert_array_equal(bank.x, state[:, :N])
    np.testing.assert_array_equal(bank.P[7], unpack(state[7, N : layout.held], N))
    np.testing.assert_array_equal(bank.drifting, state[:, layout.flag] > 0)
    np.testing.assert_array_equal(bank.diverged, state[:, layout.bad] > 0)


def test_a_bank_changes_its_tier_between_two_ticks_and_keeps_its_bits(make_linear, make_covariance, compiled):
    plans, members, starts = _fleet(make_linear, make_covariance, 9)
    first, second = (Bank(plans, members, starts, KERNELS["linear"]) for _ in range(2))
    assert first.state_hash() == second.state_hash()
    g = np.random.default_rng(5)
    for tick in range(6):
        if tick == 3:
            second.use(compiled["linear"])
        u, y, process, mute = _hostile(g, len(members))
        for bank in (first, second):
            bank.set(u, y, process=process, mute=mute)
            bank.tick()
    assert first.state_hash() == second.state_hash()


def test_plans_of_other_signatures_and_members_without_a_plan_are_refused(make_linear, make_covariance):
    plans, _, starts = _fleet(make_linear, make_covariance, 2)
    other = make_linear(np.random.default_rng(1), N + 1, M, P)
    assert signature(plans[0]) == signature(plans[1]) != signature(other)
    with pytest.raises(ValueError, match="one signature"):
        Bank([plans[0], other], [0, 1], starts[:2], KERNELS["linear"])
    for members in ([], [0, 3], [-1]):
        with pytest.raises(ValueError, match="each the position of a plan"):
            Bank(plans, members, starts, KERNELS["linear"])


def test_arrays_a_kernel_could_not_read_are_refused_before_the_call(make_linear, compiled):
    plan = make_linear(np.random.default_rng(1), 1, 0, 1)
    arrays = [np.zeros(64) for _ in range(4)]
    with pytest.raises(TypeError, match="contiguous"):
        compiled["linear"](plan.integers, plan.reals, np.zeros(1, np.int64), *arrays, 1)
    with pytest.raises(TypeError, match="contiguous"):
        compiled["linear"](plan.integers, plan.reals, np.zeros(1, np.int32), arrays[0][::2], *arrays[1:], 1)
