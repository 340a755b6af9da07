"""Parameters found again in data whose truth is known; what the data cannot tell is refused by name."""

from random import Random

import numpy as np
import pytest

from twinmodel.equations.load import read
from twinmodel.errors import ConflictError, InputError
from twinmodel.fit.calibrate import Settings, calibrate
from twinmodel.fit.objective import Huber, Objective
from twinmodel.fit.segments import cut
from twinmodel.fit.simulation import simulation
from twinmodel.fit.unknowns import gather

QUICK = Settings(starts=3, tier="interpreted")
PRODUCT = (
    "calibrate: true}  # of the pump\n",
    "calibrate: true}\n  gain: {value: 1, bounds: [0.2, 5], calibrate: true}\n",
)


def test_truth_is_found_again_through_gaps_and_missing_values_and_holds_where_it_was_not_looked_at(tank, make):
    u, y = make.data(300)
    y[50:60] = np.nan
    found = calibrate(tank, cut(make.record(u, y, ((0, 120), (125, 300))), holdout=0.2), Random(1), QUICK)
    lift, drain = found.params
    assert abs(lift.after - 0.02) < 4 * lift.sigma < 0.002
    assert abs(drain.after - 0.09) < 4 * drain.sigma < 0.01
    assert found.rmse_hidden[0] < 0.01 < found.rmse_before[0]
    assert 0.004 < found.sigma[0] < 0.006
    assert found.samples_hidden == 59
    assert len(found.descents) == 3


def test_the_same_seed_gives_the_same_numbers(tank, data):
    first, second = (calibrate(tank, cut(data), Random(7), QUICK) for _ in range(2))
    assert first.values == second.values


def test_slopes_of_the_objective_are_those_of_its_cost(tank, make):
    u, y = make.data(60)
    segments = cut(make.record(u, y, ((0, 25), (30, 60))))
    model = simulation(tank, "interpreted")
    unknowns = gather(tank.spec, model.start_sigma.tolist(), 2)
    objective = Objective(model.simulate, segments, unknowns, np.array([0.01]), Huber(3.0))
    z = np.array([0.3, -0.2, 0.5, -0.4])
    _, g, H = objective(z[None])
    step = 1e-5 * np.eye(4)
    numeric = (objective.cost(z + step) - objective.cost(z - step)) / 2e-5
    assert np.allclose(g[0], numeric, rtol=1e-3, atol=1e-3 * np.abs(g).max())
    assert np.allclose(H[0], H[0].T)
    assert H[0][2, 3] == 0.0


def test_two_factors_of_one_product_are_refused_by_name(make, data):
    text = make.text.replace(*PRODUCT).replace("lift*pump", "gain*lift*pump")
    with pytest.raises(ConflictError, match="cannot tell") as caught:
        calibrate(read(text), cut(data), Random(1), QUICK)
    assert caught.value.reason == "FIT_NOT_IDENTIFIABLE"
    assert set(caught.value.facts["parameters"]) == {"lift", "gain"}
    assert "calibrate: false" in caught.value.hint
    assert "sigma" in caught.value.hint


def test_a_prior_makes_them_identifiable_and_is_told(make, data):
    text = make.text.replace(*PRODUCT).replace("lift*pump", "gain*lift*pump")
    text = text.replace("gain: {value: 1,", "gain: {value: 1, sigma: 0.02,")
    found = calibrate(read(text), cut(data), Random(1), QUICK)
    assert found.identification.by_prior == ("gain",)
    assert found.values["gain"] * found.values["lift"] == pytest.approx(0.02, rel=0.02)


def test_a_still_input_is_named_where_it_is_the_cause(make):
    u, y = make.data(100)
    text = make.text.replace("lift: {", "leak: {value: 0.01, unit: m/s, calibrate: true}\n  lift: {")
    text = text.replace("lift*pump -", "lift*pump - leak -")
    with pytest.raises(ConflictError, match="FIT_NOT_IDENTIFIABLE") as caught:
        calibrate(read(text), cut(make.record(np.full_like(u, 4.0), y)), Random(1), QUICK)
    assert caught.value.facts["inputs"] == ["pump"]
    assert "pump moves" in caught.value.hint


def test_a_truth_beyond_a_bound_leaves_the_parameter_there_and_says_so(make, data):
    text = make.text.replace("bounds: [0.001, 0.1]", "bounds: [0.001, 0.015]")
    found = calibrate(read(text), cut(data), Random(1), QUICK)
    assert found.params[0].after == 0.015
    assert found.params[0].at_bound
    assert "lift rests at its bound" in found.warnings


def test_outliers_move_a_robust_fit_less(tank, make):
    u, y = make.data(200)
    y[::10] += 0.5
    plain = calibrate(tank, cut(make.record(u, y)), Random(1), Settings(starts=1, tier="interpreted"))
    robust = calibrate(tank, cut(make.record(u, y)), Random(1), Settings(starts=1, tier="interpreted", robust=True))
    assert abs(robust.values["drain"] - 0.09) < 0.5 * abs(plain.values["drain"] - 0.09)


def test_nothing_to_calibrate_and_unknown_names_are_told(make, data):
    with pytest.raises(InputError, match="no parameter to calibrate"):
        calibrate(read(make.text.replace("calibrate: true", "calibrate: false")), cut(data), Random(1), QUICK)
    with pytest.raises(InputError, match="'lft' is no parameter"):
        calibrate(read(make.text), cut(data), Random(1), Settings(only=("lft",), tier="interpreted"))


def test_a_linear_model_is_fitted_by_its_equations(make):
    text = """\
model: store
version: 1.0.0
family: linear
dt: 2s
states: {T: {unit: K, start: 0, sigma: 5}}
inputs: {heat: {unit: W, min: 0, max: 10}}
params:
  gain: {value: 0.1, unit: K/(W s), bounds: [0.01, 1], calibrate: true}
  rate: {value: 0.05, unit: 1/s, bounds: [0.005, 1], calibrate: true}
equations: {"T'": gain*heat - rate*T}
outputs: {temperature: {value: T, unit: K, min: 0, max: 50}}
"""
    u, _ = make.data(150)
    a, T, y = np.exp(-0.2 * 2), 3.0, []
    for v in u[:, 0]:
        y.append([T])
        T = a * T + (1 - a) / 0.2 * 0.3 * v
    found = calibrate(read(text), cut(make.record(u, np.array(y))), Random(1), QUICK)
    assert found.values == pytest.approx({"gain": 0.3, "rate": 0.2}, rel=1e-3)


def test_a_model_that_cannot_be_simulated_from_any_start_fails_with_its_name(make, data):
    text = make.text.replace("drain*sqrt(max(h, 0))", "drain*sqrt(h - 50)*1").replace("sqrt(h - 50)", "sqrt(h - top)")
    text = text.replace("  drain:", "  top: {value: 50, unit: m}\n  drain:")
    with pytest.raises((ConflictError, InputError)) as caught:
        calibrate(read(text), cut(data), Random(1), QUICK)
    assert caught.value.reason in {"FIT_FAILED", "EQUATION_INVALID"}
