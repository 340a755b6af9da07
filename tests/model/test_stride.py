"""Many ticks in one go give the bits of tick by tick, whatever is missing, leaps or diverges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinmodel.estimator import Estimator
from twinmodel.stride import StridingEstimator

S = 1_000_000_000
T0 = 1_700_000_000 * S


def both(package):
    return Estimator(package, tier="interpreted"), StridingEstimator(package, tier="interpreted")


def frames(package, ticks, seed, missing=0.2, leap=0.05):
    rng = np.random.default_rng(seed)
    lows = np.array([p.low if p.low is not None else 0.0 for p in package.inputs])
    nominal = np.array([p.nominal for p in package.inputs])
    u = nominal + rng.normal(size=(ticks, len(nominal))) * (np.abs(nominal) + 1) * 0.05 + 0 * lows
    y = np.array([p.nominal for p in package.outputs]) * (1 + 0.05 * rng.normal(size=(ticks, len(package.outputs))))
    u[rng.random(u.shape) < missing] = np.nan
    y[rng.random(y.shape) < missing] = np.nan
    steps = np.where(rng.random(ticks) < leap, rng.integers(2, 5, ticks), 1)
    return T0 + np.cumsum(steps) * package.dt_ns, u, y


def same(estimator, strider, t_ns, u, y):
    said = [estimator.step(int(t), u[k], y[k]) for k, t in enumerate(t_ns)]
    found = strider.stride(t_ns, u, y)
    for name in ("estimate", "sigma", "prediction", "innovation", "drift", "spread"):
        expected = np.array([getattr(one, name) for one in said])
        assert getattr(found, name).tobytes() == expected.tobytes() or np.array_equal(
            getattr(found, name), expected, equal_nan=True
        ), name
    for name in ("drifting", "settling", "in_regime"):
        assert getattr(found, name).tolist() == [getattr(one, name) for one in said], name
    assert strider.state_hash() == estimator.state_hash()
    assert strider.rejections == estimator.rejections


@pytest.mark.parametrize("name", ["two-tanks", "pump", "exchanger"])
def test_many_ticks_in_one_go_have_the_bits_of_tick_by_tick(packages, name):
    package = packages[name]
    t_ns, u, y = frames(package, 150, 1)
    estimator, strider = both(package)
    same(estimator, strider, t_ns[:60], u[:60], y[:60])
    # From a checkpoint on, and into inputs that no filter survives.
    strider.restore(estimator.checkpoint())
    y = y.copy()
    y[80:84] *= 1e6
    same(estimator, strider, t_ns[60:], u[60:], y[60:])
    assert strider.rejections > 0


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 0.3))
def test_any_frames_give_the_same_bits(packages, seed, missing, leap):
    package = packages["two-tanks"]
    same(*both(package), *frames(package, 40, seed, missing, leap))
