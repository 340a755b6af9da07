"""Q and R found in simulated truth; intervals that hold in data nobody looked at."""

import numpy as np
import pytest

from twinmodel.equations.load import read
from twinmodel.equations.revise import with_params
from twinmodel.fit.noise import coverage, estimate_noise
from twinmodel.fit.segments import cut

WALK = """\
model: walk
version: 1.0.0
family: linear
dt: 1s
states: {x: {unit: m, start: 0, sigma: 1}}
inputs: {push: {unit: m/s, min: -10, max: 10}}
params: {rate: {value: 0.1, unit: 1/s}}
equations: {"x'": push - rate*x}
outputs: {place: {value: x, unit: m, min: -50, max: 50}}
noise: {process: {x: 0.02}, measurement: {place: 0.5}}
"""


@pytest.fixture(scope="module")
def truth():
    """A walk with process noise 0.2 m/sqrt(s) and a sensor of 0.1 m."""
    rng = np.random.default_rng(3)
    a, ticks = np.exp(-0.1), 1600
    u = np.repeat(rng.uniform(-1, 1, ticks // 20), 20)[:, None]
    x, places = 0.0, []
    for v in u[:, 0]:
        places.append([x])
        x = a * x + (1 - a) / 0.1 * v + 0.2 * np.sqrt((1 - a * a) / 0.2) * rng.normal()
    return u, np.array(places) + 0.1 * rng.normal(size=(ticks, 1))


def test_noise_is_found_and_intervals_hold_where_nobody_looked(truth, make, compiled):
    u, y = truth
    document = read(WALK)
    y = y.copy()
    y[100:130] = np.nan
    segments = cut(make.record(u, y, dt_ns=1_000_000_000), holdout=0.5)
    step = lambda _plan: compiled["linear"]  # noqa: E731
    found = estimate_noise(document, segments, [np.zeros(1)], step)
    assert found.process["x"] == pytest.approx(0.2, rel=0.2)
    assert found.measurement["place"] == pytest.approx(0.1, rel=0.3)
    assert found.likelihood[1] > found.likelihood[0]
    assert 0.88 <= found.covered_seen <= 0.92
    assert 0.88 <= found.covered_hidden <= 0.93
    told = with_params(document, {}, noise={"process": found.process, "measurement": found.measurement})
    assert coverage(told, segments, [np.zeros(1)], step) == pytest.approx(0.9, abs=0.025)
    assert coverage(document, segments, [np.zeros(1)], step) > 0.93
