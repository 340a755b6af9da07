"""Packages of the example plants, the plants themselves, and one cache of compiled kernels for all tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from twinmodel.estimator import Estimator
from twinmodel.kernel import warmup
from twinmodel.package.archive import load
from twinmodel.package.build import build
from twinmodel.package.signing import generate_key, key_id, sign

PLANTS = Path(__file__).resolve().parents[2] / "examples" / "plants"


@dataclass(frozen=True)
class Plant:
    """Truth that stands on its own: equations written again in Python, integrated by midpoints of 250 ms."""

    rates: Callable
    outputs: Callable
    inputs: Callable
    start: np.ndarray
    process: np.ndarray
    input_sigma: np.ndarray
    sigma: np.ndarray
    measured: np.ndarray


def _tanks(x, u, health):
    upper, lower = np.sqrt(np.maximum(x, 0))
    flow = 0.02 * health * upper
    return np.array([0.002 * u[0] - flow, flow - 0.02 * lower])


def _exchanger(x, u, health):
    passed = 0.05 * health * (x[0] - x[1])
    return np.array([(u[0] - x[0]) / 20 - passed, (u[1] - x[1]) / 20 + passed])


def _pump(x, u, health):
    n, q = u[0] / 2900, x[0]
    return np.array([0.4 * (32 * health * n * n - 8 - (24 / 3600) * q * abs(q))])


def _pump_outputs(x, u, health):
    n, q = u[0] / 2900, x[0]
    head = 32 * health * n * n - 0.3 * (24 / 3600) * q * abs(q)
    return np.array([q, head, 0.5 + 9810 * (q / 3600) * head / 0.7 / 1000])


def _same(x, u, health):
    return x


def _array(*values):
    return np.array(values, float)


TRUTHS = {
    "two-tanks": Plant(
        _tanks, _same, lambda g: _array(g.uniform(3, 7)), _array(0.3, 0.1), _array(2e-4, 2e-4), _array(0.0),
        _array(0.002, 0.002), np.array([False, True]),
    ),
    "exchanger": Plant(
        _exchanger, _same, lambda g: _array(g.uniform(60, 90), g.uniform(10, 25)), _array(50, 30), _array(0.02, 0.02),
        _array(0.1, 0.1), _array(0.1, 0.1), np.array([True, True]),
    ),
    "pump": Plant(
        _pump, _pump_outputs, lambda g: _array(g.uniform(2000, 3000)), _array(50), _array(0.1), _array(0.0),
        _array(0.3, 0.1, 0.05), np.array([True, True, True]),
    ),
}  # fmt: skip


def _simulate(plant: Plant, ticks: int, seed: int, wear_at: int = 1 << 40, health: float = 0.8):
    """Rows of (u as measured, y as measured, true outputs), one a second; from `wear_at` on the plant is worn."""
    g = np.random.default_rng(seed)
    x, u = plant.start.copy(), plant.inputs(g)
    rows = []
    for tick in range(ticks):
        if tick % 300 == 0:
            u = plant.inputs(g)
        now = 1.0 if tick < wear_at else health
        truth = plant.outputs(x, u, now).copy()
        y = truth + plant.sigma * g.normal(size=len(truth))
        rows.append((u + plant.input_sigma * g.normal(size=len(u)), np.where(plant.measured, y, np.nan), truth))
        for _ in range(4):
            middle = x + 0.125 * plant.rates(x, u, now)
            x = x + 0.25 * plant.rates(middle, u, now)
        x = x + plant.process * g.normal(size=len(x))
    return rows


@pytest.fixture(scope="session")
def key():
    return generate_key()


@pytest.fixture(scope="session")
def trusted(key):
    return {key_id(key.public_key()): key.public_key()}


@pytest.fixture(scope="session")
def blobs(key):
    return {path.stem: sign(build(path), key) for path in sorted(PLANTS.glob("*.yaml"))}


@pytest.fixture(scope="session")
def packages(blobs, trusted):
    return {name: load(blob, trusted) for name, blob in blobs.items()}


@pytest.fixture(scope="session")
def plants():
    return PLANTS


@pytest.fixture(scope="session")
def truths():
    return TRUTHS


@pytest.fixture(scope="session")
def simulate():
    return _simulate


@pytest.fixture(scope="session")
def kernel_cache(pytestconfig):
    """The user's folder, shared by all workers, the demo and all clones: a machine waits for the compiler once."""
    shared = warmup.cache_folder()
    if shared is not None:
        return shared
    folder = Path(pytestconfig.cache.mkdir("kernels"))
    folder.chmod(0o700)
    if warmup.cache_folder(folder) is None:
        pytest.fail(f"{folder} is not private")
    return folder


@pytest.fixture(scope="session")
def compiled(kernel_cache):
    """Both kernels, compiled."""
    warmup.warm(kernel_cache)
    return {family: warmup.compiled(family) for family in warmup.FAMILIES}


@pytest.fixture
def jit(packages, kernel_cache, compiled):
    return lambda name: Estimator(packages[name], tier="vm", cache_dir=kernel_cache)
