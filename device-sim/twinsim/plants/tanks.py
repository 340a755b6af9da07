"""Two coupled tanks: a pump fills the first, the first drains into the second, the second into the sewer.

    h1' = k4*pump - k1*sqrt(h1)          h1, h2: levels, m
    h2' = k1*sqrt(h1) - k3*sqrt(h2)      pump: voltage, V

Only the second level has a sensor; the first is what a twin estimates. Ageing: k3 falls (the outlet is blocked).
A controller drives the pump by itself, until somebody holds it at a voltage.
"""

from __future__ import annotations

import math

import numpy as np

from twinsim.plants.motion import State, Wander, runge_kutta, settled, substeps

K1 = 0.02
K3 = 0.02
K4 = 0.002
LEVEL_SIGMA_M = 0.002
PUMP_RANGE_V = (3.0, 7.0)


class Tanks:
    """State of the tanks; see the module for the equations.

    Attributes:
        k3: of the outlet.
        held_v: voltage somebody holds the pump at, None while the controller drives it.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._noise = rng
        self.k3 = K3
        self._pump = Wander(rng, *PUMP_RANGE_V)
        self.held_v: float | None = None
        self._state: State = settled(self._rates, (0.2, 0.2), seconds=400)

    @property
    def pump_v(self) -> float:
        """Voltage of the pump: the one it is held at, else that of the controller."""
        return self._pump.value if self.held_v is None else self.held_v

    def _rates(self, state: State) -> State:
        through = K1 * math.sqrt(max(state[0], 0.0))
        return (K4 * self.pump_v - through, through - self.k3 * math.sqrt(max(state[1], 0.0)))

    def step(self, dt_s: float) -> None:
        """See `Plant.step`; the pump voltage is constant within a sub-step."""
        count, h = substeps(dt_s)
        for _ in range(count):
            self._pump.advance(h)
            h1, h2 = runge_kutta(self._rates, self._state, h)
            self._state = (max(h1, 0.0), max(h2, 0.0))

    def read(self) -> dict[str, float]:
        """`level2` in m with noise, `pump` in V as the controller commands it."""
        return {
            "level2": max(0.0, self._state[1] + float(self._noise.normal(0, LEVEL_SIGMA_M))),
            "pump": self.pump_v,
        }

    def truth(self) -> dict[str, float]:
        """`level1`, `level2` in m and `pump` in V, exact."""
        return {"level1": self._state[0], "level2": self._state[1], "pump": self.pump_v}

    def wear(self, factor: float) -> None:
        """Blocks the outlet of the second tank: k3 = 0.02 * factor."""
        self.k3 = K3 * factor
