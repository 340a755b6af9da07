"""A centrifugal pump in a pipe with static lift, speed given by its drive.

    n    = speed / 2900
    q'   = 0.4*(32*n*n - 8 - (24/3600)*q*|q|)      q: flow, m3/h
    head = 32*n*n - 0.3*(24/3600)*q*|q|            m
    power = 9810*(q/3600)*head/0.7/1000 + 0.5      kW

Ageing: the head coefficient 32 m falls (the impeller wears).
"""

from __future__ import annotations

import numpy as np

from twinsim.plants.motion import State, Wander, runge_kutta, settled, substeps

HEAD_M = 32.0
LIFT_M = 8.0
FRICTION = 24 / 3600
SPEED_RANGE = (2300.0, 2950.0)
SIGMAS = {"flow": 0.3, "head": 0.1, "power": 0.05, "speed": 0.5}


class Pump:
    """State of the pump; see the module for the equations."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._noise = rng
        self.head_m = HEAD_M
        self._speed = Wander(rng, *SPEED_RANGE)
        self._state: State = settled(self._rates, (50.0,), seconds=60)

    def _rates(self, state: State) -> State:
        n = self._speed.value / 2900
        q = state[0]
        return (0.4 * (self.head_m * n * n - LIFT_M - FRICTION * q * abs(q)),)

    def step(self, dt_s: float) -> None:
        """See `Plant.step`; the speed is constant within a sub-step."""
        count, h = substeps(dt_s)
        for _ in range(count):
            self._speed.advance(h)
            self._state = runge_kutta(self._rates, self._state, h)

    def truth(self) -> dict[str, float]:
        """`flow` in m3/h, `head` in m, `power` in kW, `speed` in rpm, exact."""
        speed, q = self._speed.value, self._state[0]
        n = speed / 2900
        head = self.head_m * n * n - 0.3 * FRICTION * q * abs(q)
        return {"flow": q, "head": head, "power": 9810 * (q / 3600) * head / 0.7 / 1000 + 0.5, "speed": speed}

    def read(self) -> dict[str, float]:
        """The same four values with noise."""
        noise = self._noise.normal(0, tuple(SIGMAS.values()))
        exact = self.truth()
        return {name: exact[name] + float(n) for name, n in zip(SIGMAS, noise, strict=True)}

    def wear(self, factor: float) -> None:
        """Wears the impeller: head coefficient = 32 m * factor."""
        self.head_m = HEAD_M * factor
