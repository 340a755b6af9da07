"""Whether a model is used where it is valid: which condition of its regime inputs and states have left."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twinmodel.package.manifest import Manifest

F64 = NDArray[np.float64]


class RegimeCheck:
    """The regime of one model, ready to be asked at every tick.

    Args:
        manifest: of the model.
    """

    def __init__(self, manifest: Manifest) -> None:
        states = [s.name for s in manifest.states]
        inputs = [i.name for i in manifest.inputs]
        self.action = manifest.regime.action

        def place(name: str) -> int:
            return states.index(name) if name in states else len(states) + inputs.index(name)

        regime = manifest.regime
        self._box = [(place(name), low, high, f"box:{name}") for name, (low, high) in regime.box.items()]
        self._rate = [(place(name), most, f"rate:{name}") for name, most in regime.rate.items()]
        ellipsoid = regime.ellipsoid
        self._limit = np.inf if ellipsoid is None else ellipsoid.limit
        self._at = np.array([] if ellipsoid is None else [place(name) for name in ellipsoid.names], np.intp)
        self._centre = np.array([] if ellipsoid is None else ellipsoid.centre)
        self._shape = np.empty((0, 0)) if ellipsoid is None else np.array(ellipsoid.shape)

    def left(self, now: F64, before: F64, dt_s: float) -> tuple[str, ...]:
        """The conditions that do not hold: `box:NAME`, `ellipsoid`, `rate:NAME`.

        Args:
            now: states, then inputs (held ones where missing).
            before: the same at the tick before, NaN where there is none to compare with.
            dt_s: time between the two.
        """
        left = [name for at, low, high, name in self._box if not low <= now[at] <= high]
        if len(self._at):
            distance = self._shape @ (now[self._at] - self._centre)
            if not float(distance @ distance) <= self._limit * self._limit:
                left.append("ellipsoid")
        return (*left, *(name for at, most, name in self._rate if abs(now[at] - before[at]) > most * dt_s))

    @property
    def is_open(self) -> bool:
        """Whether the model is valid everywhere."""
        return not (self._box or self._rate or len(self._at))

    def inside(self, now: F64, before: F64, dt_s: float) -> NDArray[np.bool_]:
        """At which of many places every condition holds; arguments as of `left`, with a row for each place."""
        found = np.ones(len(now), np.bool_)
        for at, low, high, _ in self._box:
            found &= (now[:, at] >= low) & (now[:, at] <= high)
        if len(self._at):
            distance = (now[:, self._at] - self._centre) @ self._shape.T
            found &= (distance**2).sum(axis=1) <= self._limit * self._limit
        for at, most, _ in self._rate:
            found &= ~(np.abs(now[:, at] - before[:, at]) > most * dt_s)
        return found
