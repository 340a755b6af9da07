"""The model of two-tanks.yaml written in Python; both give the same package, byte by byte.

python examples/plants/two_tanks.py two-tanks.twin
"""

from __future__ import annotations

import sys
from pathlib import Path

from twinmodel.equations.builder import Model, maximum, sqrt
from twinmodel.package.build import build_document


def two_tanks() -> Model:
    """Two tanks in a row: a pump fills the first, which drains into the second through an orifice."""
    m = Model(
        "two-tanks",
        version="1.0.0",
        family="ode",
        dt="1s",
        description="Cascaded tanks with a voltage-driven pump; level1 is virtual.",
    )
    h1 = m.state("h1", unit="m", start=0.2, sigma=0.2, min=0, max=2)
    h2 = m.state("h2", unit="m", start=0.2, sigma=0.2, min=0, max=2)
    pump = m.input("pump", unit="V", min=0, max=10, nominal=5)
    k1 = m.param("k1", 0.02, unit="m^0.5/s", bounds=[0.002, 0.2], calibrate=True, sigma=0.005)
    k3 = m.param("k3", 0.02, unit="m^0.5/s", bounds=[0.002, 0.2], calibrate=True, sigma=0.005)
    k4 = m.param("k4", 0.002, unit="m/(V s)", bounds=[0.0002, 0.02], calibrate=True, sigma=0.0005)
    passed = k1 * sqrt(maximum(h1, 0))
    m.rate(h1, k4 * pump - passed)
    m.rate(h2, passed - k3 * sqrt(maximum(h2, 0)))
    m.output("level1", h1, unit="m", min=0, max=2, nominal=0.25, resolution=0.0001)
    m.output("level2", h2, unit="m", min=0, max=2, nominal=0.25, resolution=0.0001)
    m.noise(process={h1: 0.0002, h2: 0.0002}, measurement={"level1": 0.002, "level2": 0.002})
    m.part("regime", box={pump: [0, 10], h1: [0, 1.5], h2: [0, 1.5]})
    return m


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(build_document(two_tanks().document()))
