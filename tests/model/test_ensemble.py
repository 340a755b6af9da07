"""Twins stepped together: the same bits as alone, and what goes wrong with one stays with it."""

from __future__ import annotations

import numpy as np
import pytest

from twinmodel.ensemble import Due, Ensemble
from twinmodel.errors import InputError
from twinmodel.estimator import Estimator

NS = 10**9
START = 1_700_000_000 * NS
NAMES = ("two-tanks", "exchanger", "two-tanks", "pump", "two-tanks-1.1", "two-tanks")


@pytest.fixture(params=["interpreted", "vm"])
def made(request, packages, kernel_cache, compiled):
    return lambda: [Estimator(packages[n], tier=request.param, cache_dir=kernel_cache) for n in NAMES]


def frames(estimators, tick, g):
    dues = []
    for estimator in estimators:
        u = np.array([p.nominal for p in estimator.inputs]) * (1 + 0.01 * g.normal(size=len(estimator.inputs)))
        y = np.array([p.nominal for p in estimator.outputs]) * (1 + 0.02 * g.normal(size=len(estimator.outputs)))
        y[g.random(len(y)) < 0.2] = np.nan
        dues.append(Due(estimator, START + tick * NS, u, y))
    return dues


def test_stepped_together_each_twin_has_the_bits_it_has_alone(made):
    together, alone, ensemble = made(), made(), Ensemble()
    for tick in [*range(25), 31, 32]:
        dues = frames(together, tick, np.random.default_rng(tick))
        for got, single, due in zip(ensemble.step(dues), alone, dues, strict=True):
            want = single.step(due.t_ns, due.u, due.y)
            for field in ("estimate", "sigma", "prediction", "innovation", "drift", "spread"):
                assert getattr(got, field).tobytes() == getattr(want, field).tobytes()
            assert (got.drifting, got.settling, got.rejected) == (want.drifting, want.settling, want.rejected)
    assert [e.state_hash() for e in together] == [e.state_hash() for e in alone]
    assert [e.checkpoint() for e in together] == [e.checkpoint() for e in alone]
    assert ensemble.calls > 0


def test_a_twin_that_raises_is_told_in_its_place_and_the_others_go_on(made):
    twins, ensemble = made(), Ensemble()
    g = np.random.default_rng(1)
    ensemble.step(frames(twins, 0, g))
    dues = frames(twins, 1, g)
    late = dues[2]
    dues[2] = Due(late.estimator, START, late.u, late.y)
    results = ensemble.step(dues)
    assert isinstance(results[2], InputError)
    assert all(r.t_ns == START + NS for at, r in enumerate(results) if at != 2)
