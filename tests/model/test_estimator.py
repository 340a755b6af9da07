"""The estimator: honest sigma, drift in time and only then, holes, gaps, swaps, checkpoints."""

from __future__ import annotations

import numpy as np
import pytest

from tests.model.followed import NS, PLANTS, START, follow
from twinmodel.coverage import coverage, truth_coverage
from twinmodel.equations.load import read
from twinmodel.errors import InputError, StorageError
from twinmodel.estimator import Estimator
from twinmodel.handover import Legacy, take_over
from twinmodel.kernel.arena import fresh_state, unpack
from twinmodel.package import tensors
from twinmodel.package.archive import load
from twinmodel.package.build import build_document
from twinmodel.package.signing import sign
from twinmodel.rom import open_estimator


@pytest.fixture
def made(key, trusted):
    """Function: text of a model file -> verified package."""
    return lambda text: load(sign(build_document(read(text)), key), trusted)


@pytest.mark.parametrize("name", PLANTS)
def test_ninety_percent_intervals_cover_the_truth_and_estimates_beat_measurements(jit, truths, simulate, name):
    plant = truths[name]
    of_truth, of_measurements, squares = [], [], []
    for seed in range(6):
        rows = simulate(plant, 900, seed)
        estimates = follow(jit(name), rows)
        truth = np.array([t for _, _, t in rows])
        of_truth.append(truth_coverage(estimates, truth))
        of_measurements.append(coverage(estimates, np.array([y for _, y, _ in rows])))
        squares.append(np.mean((np.array([e.estimate for e in estimates]) - truth)[200:] ** 2, axis=0))
    for found in (np.mean(of_truth, axis=0), np.mean(of_measurements, axis=0)[plant.measured]):
        assert np.all(found > 0.88), found
        assert np.all(found < 0.92), found
    rms = np.sqrt(np.mean(squares, axis=0))
    assert np.all(rms < 0.8 * plant.sigma), rms


@pytest.mark.parametrize("name", PLANTS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_wear_of_a_fifth_is_found_within_a_minute(jit, truths, simulate, name, seed):
    rows = simulate(truths[name], 700, seed, wear_at=600)
    flags = [e.drifting for e in follow(jit(name), rows)]
    assert not any(flags[:600])
    assert True in flags[600:660]


@pytest.mark.parametrize("name", PLANTS)
def test_hours_of_healthy_data_raise_no_alarm(jit, truths, simulate, name):
    estimates = follow(jit(name), simulate(truths[name], 2 * 3600, 11))
    assert not any(e.drifting for e in estimates)
    assert max(e.drift.max() for e in estimates) < 1.0


def test_the_flag_falls_after_the_cause_is_gone(jit, truths, simulate):
    plant = truths["exchanger"]
    estimator = jit("exchanger")
    rows = simulate(plant, 400, 5, wear_at=200)
    assert follow(estimator, rows)[-1].drifting
    healed = follow(estimator, simulate(plant, 400, 6), first=400)
    assert not healed[-1].drifting


def test_one_spike_of_ten_sigma_is_no_drift(jit, truths, simulate):
    rows = simulate(truths["pump"], 300, 8)
    u, y, truth = rows[200]
    rows[200] = (u, y + np.array([0.0, 10.0, 0.0]) * truths["pump"].sigma, truth)
    estimates = follow(jit("pump"), rows)
    assert not any(e.drifting for e in estimates)
    assert [e.rejected for e in estimates if e.rejected] == [("head",)]


def test_a_spike_leaves_no_trace_in_the_state_but_in_the_count(jit, truths, simulate):
    clean, hit = jit("pump"), jit("pump")
    rows = simulate(truths["pump"], 202, 8)
    follow(clean, rows[:200])
    follow(hit, rows[:200])
    u, y, _ = rows[200]
    missing, spike = y.copy(), y.copy()
    missing[1], spike[1] = np.nan, y[1] + 30 * truths["pump"].sigma[1]
    clean.step(START + 200 * NS, u, missing)
    assert hit.step(START + 200 * NS, u, spike).rejected == ("head",)
    np.testing.assert_array_equal(hit.state, clean.state)
    np.testing.assert_array_equal(hit.covariance, clean.covariance)
    assert (hit.rejections, clean.rejections) == (1, 0)


def test_a_step_of_the_machine_is_believed_after_a_bounded_run(jit, truths, simulate, packages):
    estimator = jit("exchanger")
    rows = [(u, y + (5.0 if i >= 200 else 0.0), t) for i, (u, y, t) in enumerate(simulate(truths["exchanger"], 260, 3))]
    estimates = follow(estimator, rows)
    run = packages["exchanger"].manifest.drift.gate_run
    kept_out = [i for i, e in enumerate(estimates) if "hot_out" in e.rejected]
    assert kept_out == list(range(200, 200 + run))
    moved = estimates[-1].estimate[0] - estimates[199].estimate[0]
    assert moved > 1.0


def test_missing_measurements_widen_sigma_and_leave_no_innovation(jit, truths, simulate):
    estimator = jit("exchanger")
    rows = simulate(truths["exchanger"], 300, 3)
    before = follow(estimator, rows[:200])[-1]
    blind = [(u, np.full(2, np.nan), t) for u, _, t in rows[200:260]]
    during = follow(estimator, blind, 200)
    assert np.all(np.isnan(during[-1].innovation))
    assert np.all(np.isfinite(during[-1].estimate))
    assert np.all(np.diff([e.sigma[0] for e in during]) > 0)
    assert np.all(during[-1].sigma > 1.4 * before.sigma)
    after = follow(estimator, rows[260:], 260)[-1]
    assert np.allclose(after.sigma, before.sigma, rtol=0.05)


def test_a_missing_input_holds_its_last_value_and_widens_sigma(jit, packages):
    held, known = jit("exchanger"), jit("exchanger")
    for i in range(100):
        for e in (held, known):
            last = e.step(START + i * NS, np.array([80.0, 20.0]), np.array([55.0, 45.0]))
    for i in range(100, 110):
        a = held.step(START + i * NS, np.array([np.nan, 20.0]), np.full(2, np.nan))
        b = known.step(START + i * NS, np.array([80.0, 20.0]), np.full(2, np.nan))
        assert np.allclose(a.estimate, b.estimate)
        assert np.all(a.sigma >= b.sigma)
    assert a.sigma[0] > 3 * b.sigma[0] > 3 * last.sigma[0] * 0.9


def test_infinite_values_count_as_missing(jit):
    estimator = jit("exchanger")
    e = estimator.step(START, np.array([np.inf, 20.0]), np.array([np.inf, 40.0]))
    assert np.isnan(e.innovation[0])
    assert np.all(np.isfinite(e.estimate))


def test_missed_ticks_are_predicted_through(jit):
    a, b = jit("two-tanks"), jit("two-tanks")
    nothing = np.array([np.nan]), np.full(2, np.nan)
    for e in (a, b):
        e.step(START, np.array([5.0]), np.array([np.nan, 0.2]))
    for i in range(1, 50):
        b.step(START + i * NS, *nothing)
    y = np.array([np.nan, 0.21])
    assert np.array_equal(a.step(START + 50 * NS, np.array([5.0]), y).estimate,
                          b.step(START + 50 * NS, np.array([5.0]), y).estimate)  # fmt: skip
    assert a.state_hash() == b.state_hash()
    assert a.resets == 0


def test_a_gap_beyond_the_limit_starts_afresh_and_settles(jit, packages):
    estimator, fresh = jit("two-tanks"), jit("two-tanks")
    frame = np.array([5.0]), np.array([np.nan, 0.5])
    for i in range(60):
        last = estimator.step(START + i * NS, *frame)
    assert not last.settling
    limit = packages["two-tanks"].manifest.limits.gap
    after = estimator.step(START + (60 + limit + 1) * NS, *frame)
    assert after.settling
    assert estimator.resets == 1
    assert np.array_equal(after.estimate, fresh.step(START, *frame).estimate)


@pytest.mark.parametrize("offset", [0, -NS, NS // 2, NS + 1])
def test_a_time_that_is_no_later_tick_is_refused_and_changes_nothing(jit, offset):
    estimator = jit("pump")
    frame = np.array([2900.0]), np.array([60.0, 25.0, 6.5])
    estimator.step(START, *frame)
    before = estimator.state_hash()
    with pytest.raises(InputError) as caught:
        estimator.step(START + offset, *frame)
    assert caught.value.reason == "VALUE_INVALID"
    assert estimator.state_hash() == before
    with pytest.raises(ValueError, match="shape"):
        estimator.step(START + NS, np.zeros(2), frame[1])


def test_settling_lasts_as_long_as_the_manifest_says(jit, packages):
    estimator = jit("pump")
    settle = packages["pump"].manifest.drift.settle
    frame = np.array([2900.0]), np.array([60.0, 26.0, 6.5])
    flags = [estimator.step(START + i * NS, *frame).settling for i in range(settle + 5)]
    assert flags == [True] * settle + [False] * 5


def test_a_checkpoint_continues_bit_for_bit(jit, truths, simulate, packages):
    rows = simulate(truths["two-tanks"], 120, 4)
    one, other = jit("two-tanks"), Estimator(packages["two-tanks"], tier="interpreted")
    follow(one, rows[:80])
    other.restore(one.checkpoint())
    assert other.state_hash() == one.state_hash()
    a, b = follow(one, rows[80:], 80), follow(other, rows[80:], 80)
    assert a[-1].estimate.tobytes() == b[-1].estimate.tobytes()
    assert one.state_hash() == other.state_hash()
    assert (one.tier, other.tier) == ("vm", "interpreted")


def test_a_damaged_or_foreign_checkpoint_is_refused_and_changes_nothing(jit):
    one, other = jit("two-tanks"), jit("two-tanks-1.1")
    one.step(START, np.array([5.0]), np.array([np.nan, 0.2]))
    blob = one.checkpoint()
    before = other.state_hash()
    flipped = blob[:70] + bytes([blob[70] ^ 1]) + blob[71:]
    for bad in (blob, flipped, blob[:-1], b""):
        with pytest.raises(StorageError) as caught:
            other.restore(bad)
        assert caught.value.reason == "STATE_INVALID"
    assert other.state_hash() == before


def test_a_swap_keeps_the_state_inflates_it_and_settles(jit, truths, simulate):
    rows = simulate(truths["two-tanks"], 300, 2)
    old, new = jit("two-tanks"), jit("two-tanks-1.1")
    last = follow(old, rows[:200])[-1]
    new.adopt(old)
    assert np.array_equal(new.state, old.state)
    np.testing.assert_allclose(new.covariance, 4 * old.covariance)
    after = follow(new, rows[200:], 200)
    assert after[0].settling
    assert not after[-1].settling
    assert abs(after[0].prediction[0] - last.estimate[0]) < 0.02
    assert not any(e.drifting for e in after)


SINGLE = """\
model: single
version: 1.0.0
family: ode
dt: 1s
states: {STATES}
inputs: {w: {unit: V, min: 0, max: 10}}
params: {r: {value: 0.001, unit: 1/s}, k4: {value: 0.002, unit: m/(V s)}}
equations: {EQUATIONS}
outputs: {level: {value: h2, unit: m}}
noise: {process: {h2: 0.001}, measurement: {level: 0.002}}
"""


def test_a_swap_maps_states_by_name_and_converts_their_unit(jit, made):
    old = jit("two-tanks")
    old.step(START, np.array([5.0]), np.array([np.nan, 0.2]))
    text = SINGLE.replace("{STATES}", "{h2: {unit: mm, start: 5}, extra: {unit: K, start: 7, sigma: 2}}")
    text = text.replace("{EQUATIONS}", '{"h2\'": "k4*w - r*h2", "extra\'": "-r*extra"}')
    new = Estimator(made(text), tier="interpreted")
    new.adopt(old)
    np.testing.assert_allclose(new.state, [1000 * old.state[1], 7.0])
    np.testing.assert_allclose(np.diag(new.covariance), [4e6 * old.covariance[1, 1], 4.0])
    assert new.covariance[0, 1] == 0.0
    new.step(START + NS, np.array([5.0]), np.array([0.2]))


def test_what_is_not_adopted_starts_without_covariances_to_what_is(jit, made):
    old = jit("two-tanks")
    text = SINGLE.replace("{STATES}", "{h2: {unit: m, start: 1}, extra: {unit: K, start: 7, sigma: 2}}")
    package = made(text.replace("{EQUATIONS}", '{"h2\'": "k4*w - r*h2", "extra\'": "-r*extra"}'))
    plan = tensors.plan(package.manifest, package.tensors)
    start = fresh_state(plan, np.ones(2), np.array([[4.0, 3.9], [3.9, 4.0]]), np.ones(1))
    legacy = Legacy(old.package, old.kernel[0].layout, old.arrays[0])
    rows = take_over(legacy, Legacy(package, plan.layout, start))
    assert np.linalg.eigvalsh(unpack(rows[2:5], 2)).min() > 0.0


def test_a_state_of_another_dimension_is_not_adopted(jit, made):
    text = SINGLE.replace("{STATES}", "{h2: {unit: s, start: 5}}").replace("{EQUATIONS}", '{"h2\'": "-r*h2"}')
    text = text.replace("level: {value: h2, unit: m}", "level: {value: h2, unit: s}")
    new = Estimator(made(text), tier="interpreted")
    new.adopt(jit("two-tanks"))
    assert new.state.tolist() == [5.0]


BLOW_UP = SINGLE.replace("{STATES}", "{h2: {unit: m, start: 1}}").replace(
    "{EQUATIONS}", '{"h2\'": "r*h2*h2/c*1000000 + k4*w"}'
).replace("r: {", "c: {value: 0.01, unit: m}, r: {")  # fmt: skip


def test_a_filter_that_diverges_begins_anew_and_never_raises(made):
    package = made(BLOW_UP.replace("start: 1}", "start: 0.0000001, sigma: 0.000000001}"))
    estimator = Estimator(package, tier="interpreted")
    seen = [estimator.step(START + i * NS, np.array([0.0 if i < 3 else 10.0]), np.array([np.nan])) for i in range(40)]
    assert estimator.resets > 0
    assert all(e.settling for e in seen[-3:])
    assert all(np.all(np.isfinite(e.estimate) | np.isnan(e.estimate)) for e in seen)


def test_the_regime_is_told_and_acted_upon(made, plants):
    text = (plants / "two-tanks.yaml").read_text()
    box = "box: {pump: [0, 10], h1: [0, 1.5], h2: [0, 1.5]}"
    frames = [(np.array([5.0]), np.array([np.nan, 0.2])), (np.array([11.0]), np.array([np.nan, 0.2]))]
    sigmas = {}
    for action in ("flag", "inflate", "stop"):
        package = made(text.replace(box, f"{box}\n  action: {action}"))
        estimator = Estimator(package, tier="interpreted")
        inside, outside = (estimator.step(START + i * NS, *f) for i, f in enumerate(frames))
        assert inside.in_regime
        assert not outside.in_regime
        sigmas[action] = outside.sigma
    assert outside.left == ("box:pump",)
    assert np.all(sigmas["inflate"] > sigmas["flag"])
    assert np.all(np.isnan(sigmas["stop"]))


def test_every_condition_of_the_regime_says_its_name_when_it_is_left(made, plants):
    text = (plants / "two-tanks.yaml").read_text()
    regime = """regime:
  box: {pump: [0, 9]}
  rate: {pump: 2, h2: 0.5}
  ellipsoid: {names: [pump, h2], centre: [5, 0.3], shape: [[1, 0], [0, 10]], limit: 3}
"""
    at = text.index("regime:")
    package = made(text[:at] + regime + "\n".join(text[at:].splitlines()[2:]) + "\n")
    estimator = Estimator(package, tier="interpreted")
    left = [
        estimator.step(START + i * NS, np.array([pump]), np.array([np.nan, 0.3])).left
        for i, pump in enumerate([5.0, 6.0, 8.5, 9.5, np.nan, 7.6])
    ]
    assert left == [(), (), ("ellipsoid", "rate:pump"), ("box:pump", "ellipsoid"), ("box:pump", "ellipsoid"), ()]


def test_the_short_way_opens_a_package(blobs, trusted):
    estimator = open_estimator(blobs["exchanger"], trusted, tier="interpreted")
    assert [p.name for p in estimator.inputs] == ["hot_in", "cold_in"]
    assert [p.name for p in estimator.outputs] == ["hot_out", "cold_out"]
    with pytest.raises(ValueError, match="tier"):
        Estimator(estimator.package, tier="gpu")


def test_after_the_clock_was_put_back_a_filter_goes_on_with_its_state(packages):
    estimator = Estimator(packages["two-tanks"], tier="interpreted")
    u, y = np.full(len(estimator.inputs), 5.0), np.full(len(estimator.outputs), 0.2)
    estimator.step(START + 3600 * NS, u, y)
    state = estimator.state
    with pytest.raises(InputError):
        estimator.step(START, u, y)
    estimator.rejoin()
    np.testing.assert_array_equal(estimator.state, state)
    assert estimator.step(START, u, y).t_ns == START
    assert estimator.resets == 0
