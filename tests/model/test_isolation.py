"""Who is to blame: sensors that lie, models that drift, and when nobody can tell."""

from __future__ import annotations

import numpy as np
import pytest

from twinmodel.estimator import Estimator
from twinmodel.residuals import Residuals, fault_of

NS = 10**9
START = 1_700_000_000 * NS
FAULT_AT = 200


@pytest.fixture
def verdicts(packages, kernel_cache, compiled, truths, simulate):
    """Function: plant, fault of y at a tick -> what was said of the cause, in order."""

    def run(name, fault, *, wear_at=1 << 40, all_measured=False):
        estimator = Estimator(packages[name], tier="vm", cache_dir=kernel_cache)
        g = np.random.default_rng(9)
        said = []
        for tick, (u, seen, truth) in enumerate(simulate(truths[name], 420, 3, wear_at=wear_at)):
            y = truth + truths[name].sigma * g.normal(size=len(truth)) if all_measured else seen
            if tick >= FAULT_AT:
                fault(y, tick - FAULT_AT)
            estimate = estimator.step(START + tick * NS, u, y)
            if estimate.isolation is None:
                continue
            if not said or said[-1].verdict != estimate.isolation.verdict:
                said.append(estimate.isolation)
        return said

    return run


def bias(output, size):
    def fault(y, _):
        y[output] += size

    return fault


def ramp(y, ticks):
    y[2] += 0.002 * ticks


def frozen(y, _):
    y[0] = 41.0


def nothing(*_): ...


@pytest.mark.parametrize(
    ("plant", "fault", "verdict", "kind"),
    [
        ("pump", bias(1, 0.4), "sensor:head", "bias of +0."),
        ("pump", ramp, "sensor:power", "drift of +0.00"),
        ("pump", frozen, "sensor:flow", "frozen at 41"),
        ("exchanger", bias(0, 0.5), "sensor:hot_out", "bias of +0."),
        ("exchanger", bias(1, -0.5), "sensor:cold_out", "bias of -0."),
    ],
)
def test_a_lying_sensor_is_named_with_its_fault(verdicts, plant, fault, verdict, kind):
    said = verdicts(plant, fault)
    assert [s.verdict for s in said] == ["pending", verdict]
    assert said[-1].evidence.startswith(kind)
    assert said[-1].candidates == (verdict,)


@pytest.mark.parametrize("plant", ["pump", "exchanger"])
def test_a_worn_machine_is_the_model_s_drift(verdicts, plant):
    said = verdicts(plant, nothing, wear_at=FAULT_AT)
    assert [s.verdict for s in said] == ["pending", "model"]
    assert "no single sensor" in said[-1].evidence


def test_one_measured_output_cannot_tell(verdicts):
    said = verdicts("two-tanks", nothing, wear_at=FAULT_AT)
    assert said[-1].verdict == "not_isolable"
    assert "fewer than two" in said[-1].evidence


def test_a_lie_that_a_change_of_the_model_would_look_like_is_not_isolable(verdicts):
    said = verdicts("two-tanks", bias(0, 0.02), all_measured=True)
    assert said[-1].verdict == "not_isolable"
    assert said[-1].candidates == ("sensor:level1", "model")
    assert "a change of k" in said[-1].evidence


def test_faults_have_their_names():
    g = np.random.default_rng(1)
    noise = 0.1 * g.normal(size=60)
    assert fault_of(np.full(60, 3.0), noise) == "frozen at 3"
    assert fault_of(noise + 5, noise + 1).startswith("bias of +0.99")
    assert fault_of(noise, noise + 0.05 * np.arange(60)).startswith("drift of +0.049")
    assert fault_of(noise, noise - noise.mean()).startswith("noise of 0.")


def test_a_filter_that_has_diverged_explains_nothing():
    found = Residuals(2, 0, 60)
    for tick in range(60):
        prediction = np.zeros((3, 2))
        prediction[0] = np.nan if tick > 30 else 0.0
        found.add(np.zeros(2), prediction, np.ones((3, 2)))
    assert found.misfit(0, [1]) == np.inf
    assert found.misfit(1, [0]) < 1.0
