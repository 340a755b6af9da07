"""Tiers of an estimator: the same bits in each, changed between ticks as kernels get ready."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest

from tests.model.followed import NS, PLANTS, START, follow
from twinmodel.errors import ConflictError
from twinmodel.estimator import Estimator
from twinmodel.kernel import warmup


def test_both_tiers_give_the_same_bits_over_a_long_run(packages, jit, truths, simulate):
    for name in PLANTS:
        compiled_one, interpreted = jit(name), Estimator(packages[name], tier="interpreted")
        rows = simulate(truths[name], 150, 21)
        rows[40] = (np.full_like(rows[40][0], np.nan), rows[40][1], rows[40][2])
        for a, b in zip(follow(compiled_one, rows), follow(interpreted, rows), strict=True):
            for field in ("estimate", "sigma", "prediction", "innovation", "drift"):
                assert getattr(a, field).tobytes() == getattr(b, field).tobytes()
        assert compiled_one.state_hash() == interpreted.state_hash()


@pytest.fixture
def late(monkeypatch):
    """Kernels that get ready when a test says so, and what was asked for: (family, whether for one model)."""
    late = SimpleNamespace(ready={}, asked=[])

    def request(family, folder, plan=None):
        late.asked.append((family, plan is not None))

    monkeypatch.setattr(warmup, "compiled", lambda key: late.ready.get("vm" if key == "ode" else "jit"))
    monkeypatch.setattr(warmup, "request", request)
    return late


PUMPED = np.array([2900.0]), np.array([60.0, 25.0, 6.5])


def test_auto_starts_interpreted_and_changes_tier_by_tier_between_ticks(packages, late, kernel_cache, compiled):
    estimator = Estimator(packages["pump"], cache_dir=kernel_cache)
    tiers = []
    for tick, ready in enumerate([None, "vm", None, "jit", None]):
        if ready:
            late.ready[ready] = compiled["ode"]
        estimator.step(START + tick * NS, *PUMPED)
        tiers.append(estimator.tier)
    assert tiers == ["interpreted", "vm", "vm", "jit", "jit"]
    assert late.asked == [("ode", False), ("ode", True)]


def test_a_compiled_kernel_with_other_bits_is_not_used_and_the_next_one_is(packages, late, kernel_cache, compiled):
    def wrong(*args):
        compiled["ode"](*args)
        args[5][0] = np.nextafter(args[5][0], np.inf)

    estimator = Estimator(packages["pump"], cache_dir=kernel_cache)
    late.ready["jit"] = wrong
    estimator.step(START, *PUMPED)
    assert estimator.tier == "interpreted"
    late.ready["vm"] = compiled["ode"]
    estimator.step(START + NS, *PUMPED)
    assert estimator.tier == "vm"


def test_without_a_private_folder_the_interpreted_tier_goes_on(packages, late, monkeypatch):
    monkeypatch.setattr(warmup, "cache_folder", lambda given: None)
    estimator = Estimator(packages["pump"])
    estimator.step(START, *PUMPED)
    assert estimator.tier == "interpreted"
    assert late.asked == []


def test_a_package_of_other_bits_fails_parity(packages):
    package = packages["exchanger"]
    tensors = dict(package.tensors)
    tensors["A"] = np.nextafter(tensors["A"], 2.0)
    with pytest.raises(ConflictError) as caught:
        Estimator(replace(package, tensors=MappingProxyType(tensors)), tier="interpreted")
    assert caught.value.reason == "PARITY_FAILED"
