"""Generated kernels: the bits of the reference for every operation, family, integrator, lane count and processor."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

from twinmodel.errors import ConflictError
from twinmodel.kernel import machine, proof, warmup
from twinmodel.kernel.arena import own_plan, own_reals
from twinmodel.kernel.bank import Bank
from twinmodel.kernel.compile import ARRAYS, FORMS, NUMBERS, compile_signature
from twinmodel.kernel.generate.c import print_c
from twinmodel.kernel.generate.form import Form, TooLargeError
from twinmodel.kernel.generate.ir import compile_ir, print_ir
from twinmodel.kernel.ops import INTEGRATORS, MAP, OPERATIONS, RK4
from twinmodel.kernel.parity import canonical
from twinmodel.kernel.reference import KERNELS

COMPILERS = [found for name in ("gcc", "clang") if (found := shutil.which(name))]
# Half the flags of the bench: these decide bits, the others speed.
STRICT = ["-O1", "-ffp-contract=off", "-std=gnu11", "-shared", "-fPIC"]
# One model that uses every operation, by each integrator; a linear one; one with coefficients of each lane.
KINDS = [*INTEGRATORS, "linear", "own"]
LEVELS = {"x86-64": "", "nehalem": "sse4_2", "haswell": "avx2", "skylake-avx512": "avx512f"}


def _plan(kind):
    if kind in INTEGRATORS:
        return proof._ode(INTEGRATORS[kind])
    return own_plan(proof._linear()) if kind == "own" else proof._linear()


def _runs(plan, step):
    return [proof._run(plan, step, lanes) for lanes in (1, 5, 8, 16)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_generated_filter_gives_the_bits_of_the_reference_for_any_number_of_lanes(kernel_cache, kind):
    plan = _plan(kind)
    step = warmup.compile_now(plan.family, kernel_cache, plan)
    assert _runs(plan, step) == _runs(plan, KERNELS[plan.family])


@pytest.mark.parametrize("kind", ["map", "linear"])
def test_a_generated_free_run_gives_the_bits_of_the_reference(kernel_cache, kind):
    plan = _plan(kind)
    run = warmup.compile_now("rollout", kernel_cache, plan)
    for lanes in (1, 9):
        assert proof._roll(plan, run, lanes) == proof._roll(plan, KERNELS["rollout"], lanes)


def test_the_model_of_the_proof_uses_every_operation():
    used = {row[0] for row in proof._RATES}
    assert used == set(OPERATIONS)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("kind", ["map", "own"])
def test_strict_c_of_the_same_form_gives_the_same_bits(tmp_path, compiler, kind):
    plan = _plan(kind)
    text = print_c("kernel", FORMS[plan.family](plan.integers), ARRAYS, NUMBERS)
    library, source = tmp_path / "kernel.so", tmp_path / "kernel.c"
    source.write_text(text)
    subprocess.run([compiler, *STRICT, "-o", str(library), str(source)], check=True, timeout=100)
    loaded = ctypes.CDLL(str(library))
    step = machine.Compiled(loaded, ctypes.cast(loaded.kernel, ctypes.c_void_p).value)
    assert _runs(plan, step) == _runs(plan, KERNELS[plan.family])


def _host_has(feature):
    llvm = machine._llvm()
    return not feature or llvm.get_host_cpu_features().get(feature, False)


def test_every_level_of_processor_this_machine_can_run_gives_the_same_bits(make_linear, make_covariance, monkeypatch):
    plan = make_linear(np.random.default_rng(2), 2, 1, 1)
    expected = _runs(plan, KERNELS["linear"])
    for level, feature in LEVELS.items():
        if _host_has(feature):
            monkeypatch.setenv("NUMBA_CPU_NAME", level)
            assert _runs(plan, machine.Machine(*compile_signature("linear", plan.integers))) == expected, level


def test_a_bank_of_one_model_a_member_fills_its_tiles_and_keeps_every_bit(make_linear, make_covariance, kernel_cache):
    g = np.random.default_rng(6)
    plans = [make_linear(g, 3, 2, 2) for _ in range(11)]
    starts = [(g.normal(size=3), make_covariance(g, 3), np.ones(2)) for _ in plans]
    members = list(range(11))
    step = warmup.compile_now("linear", kernel_cache, own_plan(plans[0]))
    banks = [
        Bank(plans, members, starts, KERNELS["linear"]),
        Bank(plans, members, starts, KERNELS["linear"], own=True),
        Bank(plans, members, starts, step, own=True),
    ]
    assert [len(bank.states) for bank in banks] == [11, 2, 2]
    for _ in range(8):
        u, y = g.normal(size=(11, 2)), g.normal(size=(11, 2))
        y[g.random(y.shape) < 0.2] = np.nan
        for bank in banks:
            bank.set(u, y)
            bank.tick()
    assert len({bank.state_hash() for bank in banks}) == 1
    assert len({canonical(bank.estimate) for bank in banks}) == 1


def test_coefficients_of_each_lane_are_for_linear_models_alone():
    plan = proof._ode(RK4)
    start = (np.zeros(2), np.eye(2), np.zeros(1))
    with pytest.raises(ValueError, match="only linear"):
        Bank([plan], [0], [start], KERNELS["ode"], own=True)
    with pytest.raises(ValueError, match="lanes for"):
        own_reals([proof._linear()], np.zeros(2, np.int32), np.zeros((1, 8), np.int64))


def test_a_model_too_large_to_be_worth_it_stays_with_the_generic_kernel(make_linear, kernel_cache):
    plan = make_linear(np.random.default_rng(1), 13, 1, 1)
    with pytest.raises(TooLargeError):
        compile_signature("linear", plan.integers)
    with pytest.raises(ConflictError, match="13 states") as caught:
        warmup.compile_now("linear", kernel_cache, plan)
    assert caught.value.reason == "KERNEL_TOO_LARGE"


def test_only_sizes_and_programs_reach_the_text_of_a_kernel():
    """Reals of a model are read at run time: models of one signature share one text."""
    one, other = proof._ode(MAP), proof._ode(MAP)
    other.reals[:] = np.random.default_rng(1).normal(size=other.reals.shape)
    texts = {print_ir("kernel", FORMS["ode"](plan.integers), ARRAYS, NUMBERS) for plan in (one, other)}
    assert len(texts) == 1
    assert machine.signature(one) == machine.signature(other) != machine.signature(proof._ode(RK4))


def test_constants_keep_their_sign_their_nan_and_every_bit():
    values = [0.0, -0.0, np.nan, np.inf, -np.inf, 5e-324, 0.1, -1e300]
    form = Form()
    with form.loop(form.argument("W"), lanes=True) as w:
        for k, value in enumerate(values):
            form.store("O", w + k * 8, form.where(form.load("S", w) > 0.0, value, form.value(value)))
    code = compile_ir(print_ir("constants", form, ARRAYS, NUMBERS))
    out, one, whole = np.ones(64), np.ones(8), np.zeros(1, np.int32)
    machine.Machine("constants", code)(whole, one, whole, one, one, out, one, 8)
    assert canonical(out) == canonical(np.repeat(values, 8))
    text = print_c("constants", form, ARRAYS, NUMBERS)
    assert "(-0x0.0p+0)" in text
    assert "__builtin_nan" in text


def test_a_value_of_a_program_being_written_has_no_truth():
    form = Form()
    with pytest.raises(TypeError, match="no truth"):
        bool(form.load("S", 0) > 1.0)
    with pytest.raises(TypeError, match="kinds"):
        form.load("S", 0) + form.argument("W")
