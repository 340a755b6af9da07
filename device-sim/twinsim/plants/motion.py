"""What all plants share: a Runge-Kutta step and slowly wandering inputs, both repeatable by seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

State = tuple[float, ...]
Rates = Callable[[State], State]
STEP_MAX_S = 0.1


class Plant(Protocol):
    """A piece of physics with sensors; `read` draws noise, `truth` does not."""

    def step(self, dt_s: float) -> None:
        """Moves the plant `dt_s` seconds on."""
        ...

    def read(self) -> dict[str, float]:
        """Measured values by point name, with sensor noise, not rounded."""
        ...

    def truth(self) -> dict[str, float]:
        """Exact states and inputs by name, also those no sensor shows."""
        ...

    def wear(self, factor: float) -> None:
        """Scales the parameter that ages in this plant; 1.0 is new."""
        ...


def runge_kutta(rates: Rates, state: State, dt_s: float) -> State:
    """One classic fourth-order step of `dt_s` seconds."""
    k1 = rates(state)
    k2 = rates(tuple(x + 0.5 * dt_s * k for x, k in zip(state, k1, strict=True)))
    k3 = rates(tuple(x + 0.5 * dt_s * k for x, k in zip(state, k2, strict=True)))
    k4 = rates(tuple(x + dt_s * k for x, k in zip(state, k3, strict=True)))
    return tuple(x + dt_s / 6 * (a + 2 * b + 2 * c + d) for x, a, b, c, d in zip(state, k1, k2, k3, k4, strict=True))


def substeps(dt_s: float, step_max_s: float = STEP_MAX_S) -> tuple[int, float]:
    """Number and length in seconds of equal steps, none longer than `step_max_s`, that make up `dt_s`."""
    count = max(1, math.ceil(dt_s / step_max_s - 1e-9))
    return count, dt_s / count


class Wander:
    """An input that moves within a range: a slow sine plus steps held for a minute or two.

    The sine takes half of the range, the steps the other half, so that a model sees both slow and sudden changes.
    """

    def __init__(
        self, rng: np.random.Generator, low: float, high: float, *, period_s: float = 300.0, hold_s: float = 90.0
    ) -> None:
        self._rng = rng
        self._low, self._high = low, high
        self._period_s = period_s * float(rng.uniform(0.8, 1.25))
        self._hold_s = hold_s
        self._phase = float(rng.uniform(0, 2 * math.pi))
        self._t_s = 0.0
        self._level = float(rng.uniform(-1, 1))
        self._until_s = float(rng.uniform(0.3, 1.0)) * hold_s

    def advance(self, dt_s: float) -> None:
        """Moves `dt_s` seconds on; a step happens when its time has come."""
        self._t_s += dt_s
        while self._t_s >= self._until_s:
            self._level = float(self._rng.uniform(-1, 1))
            self._until_s += self._hold_s * float(self._rng.uniform(0.5, 1.5))

    @property
    def value(self) -> float:
        """The input now, always within [low, high]."""
        sine = math.sin(2 * math.pi * self._t_s / self._period_s + self._phase)
        middle, half = (self._high + self._low) / 2, (self._high - self._low) / 2
        return middle + half * 0.5 * (sine + self._level)


def settled(rates: Rates, state: State, *, seconds: float, step_s: float = STEP_MAX_S) -> State:
    """The state after `seconds` with constant inputs; plants start from there, not from empty."""
    for _ in range(round(seconds / step_s)):
        state = runge_kutta(rates, state, step_s)
    return state
