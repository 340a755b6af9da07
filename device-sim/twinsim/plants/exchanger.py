"""A heat exchanger: a hot and a cold stream that meet at a wall.

    Th' = (hot_in - Th)/20 - 0.05*(Th - Tc)      Th, Tc: outlet temperatures, degC
    Tc' = (cold_in - Tc)/20 + 0.05*(Th - Tc)     hot_in, cold_in: inlet temperatures, degC

Ageing: the coupling 0.05 1/s falls (the wall fouls).
"""

from __future__ import annotations

import numpy as np

from twinsim.plants.motion import State, Wander, runge_kutta, settled, substeps

RESIDENCE_S = 20.0
COUPLING = 0.05
OUTLET_SIGMA_C = 0.1
INLET_SIGMA_C = 0.05
HOT_RANGE_C = (70.0, 90.0)
COLD_RANGE_C = (10.0, 25.0)


class Exchanger:
    """State of the exchanger; see the module for the equations."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._noise = rng
        self.coupling = COUPLING
        self._hot_in = Wander(rng, *HOT_RANGE_C)
        self._cold_in = Wander(rng, *COLD_RANGE_C, period_s=420.0)
        self._state: State = settled(self._rates, (60.0, 40.0), seconds=200)

    def _rates(self, state: State) -> State:
        hot, cold = state
        heat = self.coupling * (hot - cold)
        return ((self._hot_in.value - hot) / RESIDENCE_S - heat, (self._cold_in.value - cold) / RESIDENCE_S + heat)

    def step(self, dt_s: float) -> None:
        """See `Plant.step`; the inlets are constant within a sub-step."""
        count, h = substeps(dt_s)
        for _ in range(count):
            self._hot_in.advance(h)
            self._cold_in.advance(h)
            self._state = runge_kutta(self._rates, self._state, h)

    def read(self) -> dict[str, float]:
        """`hot_in`, `cold_in`, `hot_out`, `cold_out` in degC with noise."""
        noise = self._noise.normal(0, (INLET_SIGMA_C, INLET_SIGMA_C, OUTLET_SIGMA_C, OUTLET_SIGMA_C))
        exact = (self._hot_in.value, self._cold_in.value, *self._state)
        names = ("hot_in", "cold_in", "hot_out", "cold_out")
        return {name: value + float(n) for name, value, n in zip(names, exact, noise, strict=True)}

    def truth(self) -> dict[str, float]:
        """The same four temperatures, exact."""
        return {
            "hot_in": self._hot_in.value,
            "cold_in": self._cold_in.value,
            "hot_out": self._state[0],
            "cold_out": self._state[1],
        }

    def wear(self, factor: float) -> None:
        """Fouls the wall: coupling = 0.05 * factor."""
        self.coupling = COUPLING * factor
