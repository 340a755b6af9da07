"""Measured data made by a model whose numbers are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from twinmodel.equations.load import read

TANK = """\
model: tank
version: 1.2.0
# The comment of a person.
family: ode
dt: 2s
states:
  h: {unit: m, start: 0.5, sigma: 0.3, min: 0, max: 5}
inputs:
  pump: {unit: V, min: 0, max: 10, nominal: 5}
params:
  lift: {value: 0.01, unit: m/(V s), bounds: [0.001, 0.1], calibrate: true}  # of the pump
  drain: {value: 0.05, unit: m^0.5/s, bounds: [0.005, 0.5], calibrate: true}
equations:
  h': lift*pump - drain*sqrt(max(h, 0))
outputs:
  level: {value: h, unit: m, min: 0, max: 5}
noise:
  process: {h: 0.001}
  measurement: {level: 0.01}
"""


@dataclass(frozen=True)
class Record:
    t_ns: np.ndarray
    u: np.ndarray
    y: np.ndarray
    segments: tuple
    sha256: str = "ab" * 32


def record(u, y, segments=None, dt_ns=2_000_000_000):
    return Record(np.arange(len(u)) * dt_ns, u, y, segments or ((0, len(u)),))


def tank_data(ticks=240, lift=0.02, drain=0.09, start=0.9, scatter=0.005, seed=1):
    """Levels of the tank, written again in Python: Runge-Kutta by ten steps a tick."""
    rng = np.random.default_rng(seed)
    u = np.repeat(rng.uniform(2, 8, -(-ticks // 12)), 12)[:ticks, None]
    h, levels = start, []
    for v in u[:, 0]:
        levels.append(h)
        for _ in range(10):
            middle = h + 0.1 * (lift * v - drain * np.sqrt(max(h, 0)))
            h += 0.2 * (lift * v - drain * np.sqrt(max(middle, 0)))
    y = np.array(levels)[:, None] + scatter * rng.normal(size=(ticks, 1))
    return u, y


@pytest.fixture
def tank():
    return read(TANK, "tank.yaml")


@pytest.fixture
def data():
    return record(*tank_data())


@pytest.fixture
def root():
    return Path(__file__).resolve().parents[3]


@pytest.fixture
def make():
    """Functions: texts, data and records of the tank."""

    class Make:
        text = TANK
        record = staticmethod(record)
        data = staticmethod(tank_data)

    return Make
