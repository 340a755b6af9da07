"""Layers of a network as loops: the bits of the reference, whatever stands between them."""

from __future__ import annotations

import numpy as np
import pytest

from twinmodel.kernel import machine, ops, proof
from twinmodel.kernel.arena import plan_ode
from twinmodel.kernel.compile import compile_signature
from twinmodel.kernel.generate.segments import segments
from twinmodel.kernel.reference import KERNELS

# Registers: 0 state, 1-3 inputs, 4 parameter, then temporaries. A sum made first is read last, after two layers; the
# second has an odd number of outputs; the inputs go through a function themselves.
PINNED = 5
READINGS = [
    (ops.ADD, 5, 1, 2, 0, 0),
    (ops.DENSE, 6, 1, 3, 0, 16),
    *((ops.TANH, 22 + k, 6 + k, 0, 0, 0) for k in range(16)),
    (ops.DENSE, 38, 22, 16, 64, 5),
    *((ops.SIN, 6 + k, 38 + k, 0, 0, 0) for k in range(5)),
    (ops.MUL, 11, 4, 6, 0, 0),
    (ops.ADD, 11, 11, 5, 0, 0),
    (ops.ADD, 12, 10, 0, 0, 0),
]


@pytest.fixture(scope="module")
def plan(make_noise):
    g = np.random.default_rng(7)
    noise = make_noise(g, 1, 2)
    tensors = noise | {
        "params": np.array([1.5]), "consts": np.empty(0), "pool": g.normal(size=64 + 5 * 17) * 0.5,
        "inputs_nominal": np.zeros(3),
    }  # fmt: skip
    rates = np.array([(ops.MUL, 5, 0, 4, 0, 0), (ops.TANH, 6, 5, 0, 0, 0)], np.int32)
    programs = [rates, np.array([6], np.int32), np.array(READINGS, np.int32), np.array([11, 12], np.int32)]
    drift = np.array([0.05, 2.0, 0.5, 16.0, 4.0, 0.5, 0.002, 0.5, 20.0, 1.5, 2.0])
    return plan_ode(tensors, programs, 43, (1_000_000_000, 1, ops.MAP), drift)


def test_a_filter_and_a_free_run_of_a_network_give_the_bits_of_the_reference(plan):
    step = machine.Machine(*compile_signature("ode", plan.integers))
    run = machine.Machine(*compile_signature("rollout", plan.integers))
    for lanes in (1, 5, 8, 16):
        assert proof._run(plan, step, lanes) == proof._run(plan, KERNELS["ode"], lanes)
        assert proof._roll(plan, run, lanes) == proof._roll(plan, KERNELS["rollout"], lanes)


def test_segments_hold_all_rows_in_order_and_what_later_ones_read(plan):
    code = np.array(READINGS, np.int32)
    parts = segments(code, [11, 12], PINNED)
    assert [part.run for part in parts] == [False, True, True, True, True, False]
    np.testing.assert_array_equal(np.concatenate([part.code for part in parts]), code)
    assert 5 in parts[0].kept & parts[3].kept
    assert parts[-1].kept == {11, 12}


def test_functions_of_inputs_or_of_what_the_run_itself_writes_are_no_loop():
    of_inputs = np.array([(ops.EXP, 10 + k, 1 + k, 0, 0, 0) for k in range(4)], np.int32)
    chained = np.array([(ops.EXP, 11 + k, 10 + k, 0, 0, 0) for k in range(4)], np.int32)
    for code in (of_inputs, chained):
        assert [part.run for part in segments(code, [13], PINNED)] == [False]
