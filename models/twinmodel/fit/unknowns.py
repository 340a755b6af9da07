"""What a fit seeks, on one scale: parameters for all stretches of data, start states for each of them.

z = 0 at the value of the model file; a step of 1 is a large one; high/low are far or hard
positive numbers whose bounds span a decade move in their logarithm, all others straight
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.equations.schema import Spec
from twinmodel.errors import InputError
from twinmodel.kernel.arena import LARGEST

F64 = NDArray[np.float64]
_DECADE: Final = 10.0
_FAR: Final = 1e6
_LOG_FAR: Final = 20.0
# Where no bounds are given, starts lie within this factor of the value.
_REACH: Final = 3.0


@dataclass(frozen=True, slots=True)
class Unknown:
    """One number sought.

    Attributes:
        name: of the parameter or state.
        value: where the search begins; the mean of the prior.
        low, high: hard bounds, infinite where there are none.
        sigma: standard deviation of the prior, None for none.
        scale: size of a large step, in its own unit; its logarithm has scale 1.
        logarithmic: whether the search moves in the logarithm.
    """

    name: str
    value: float
    low: float
    high: float
    sigma: float | None
    scale: float
    logarithmic: bool

    @property
    def origin(self) -> float:
        """Value at z = 0: the model file's, moved inside the bounds."""
        return min(max(self.value, self.low), self.high)

    @property
    def reach(self) -> tuple[float, float]:
        """Range of z that starts are drawn from."""
        low, high = self.span
        wide = math.log(_REACH) if self.logarithmic else 2.0
        return (low if math.isfinite(self.low) else -wide), (high if math.isfinite(self.high) else wide)

    @property
    def span(self) -> tuple[float, float]:
        """Range of z."""
        far = _LOG_FAR if self.logarithmic else _FAR
        ends = []
        for bound, side in ((self.low, -1.0), (self.high, 1.0)):
            known = math.isfinite(bound) and not (self.logarithmic and bound <= 0.0)
            ends.append(self.inward(bound) if known else side * far)
        return ends[0], ends[1]

    def inward(self, value: float) -> float:
        """Place of a value on the common scale."""
        if self.logarithmic:
            return math.log(value / self.origin)
        return (value - self.origin) / self.scale


@dataclass(frozen=True, slots=True)
class Unknowns:
    """All numbers sought: `shared` by every stretch, then the start states, `each` for one stretch.

    Attributes:
        shared: calibrated parameters.
        positions: their places among all parameters of the model.
        fixed: values of all parameters, shape (q,).
        each: start states.
        segments: number of stretches.
    """

    shared: tuple[Unknown, ...]
    positions: tuple[int, ...]
    fixed: F64
    each: tuple[Unknown, ...]
    segments: int

    @property
    def all(self) -> tuple[Unknown, ...]:
        """In the order of z."""
        return self.shared + self.each * self.segments

    @property
    def names(self) -> tuple[str, ...]:
        """In the order of z; a start state is called `x(0)`, of the second stretch `x(0) #2`."""
        starts = [f"{x.name}(0)" + (f" #{g + 1}" if g else "") for g in range(self.segments) for x in self.each]
        return (*(q.name for q in self.shared), *starts)

    def outward(self, z: F64) -> F64:
        """Values at z, shape (..., k)."""
        origin, scale, curved, low, high = _columns(self.all)[:5]
        safe = np.clip(np.where(curved, z, 0.0), -700.0, 700.0)
        moved = np.where(curved, origin * np.exp(safe), origin + scale * z)
        # Rounding must not step over a hard bound.
        return np.asarray(np.clip(moved, low, high))

    def slope(self, z: F64) -> F64:
        """Change of the values with z at z, shape (..., k)."""
        _, scale, curved = _columns(self.all)[:3]
        return np.where(curved, self.outward(z), scale)

    def bounds(self) -> tuple[F64, F64]:
        """Ends of z."""
        low, high = _columns(self.all)[5:]
        return low, high

    def reaches(self) -> tuple[F64, F64]:
        """Ends of the box that starts are drawn from."""
        spans = np.array([u.reach for u in self.all]).reshape(-1, 2)
        return spans[:, 0], spans[:, 1]


@lru_cache(maxsize=64)
def _columns(every: tuple[Unknown, ...]) -> tuple[F64, ...]:
    """Origin, scale, whether logarithmic, bounds and ends of z of each, as arrays: asked for at every trial point."""
    spans = np.array([u.span for u in every], np.float64).reshape(-1, 2)
    names = ("origin", "scale", "logarithmic", "low", "high")
    found = (*(np.array([getattr(u, name) for u in every]) for name in names), spans[:, 0], spans[:, 1])
    for array in found:
        array.flags.writeable = False
    return found


def gather(spec: Spec, start_sigma: Sequence[float], segments: int, only: Sequence[str] = ()) -> Unknowns:
    """What is sought of a model: parameters with `calibrate: true`, or those named, and all start states.

    Args:
        spec: the model.
        start_sigma: standard deviation of each start state.
        segments: number of stretches; 0 seeks no start states.
        only: names of the parameters to seek.

    Raises:
        InputError: VALUE_INVALID when there is nothing to calibrate or a name is no parameter.
    """
    lacking = [name for name in only if name not in spec.params]
    if lacking:
        known = ", ".join(spec.params) or "none"
        raise InputError("VALUE_INVALID", f"{lacking[0]!r} is no parameter of {spec.model}; there are {known}")
    wanted = [name for name, p in spec.params.items() if (name in only if only else p.calibrate)]
    if not wanted:
        hint = "mark parameters with `calibrate: true`, best with `bounds`"
        raise InputError("VALUE_INVALID", f"{spec.model} has no parameter to calibrate", hint=hint)
    names = list(spec.params)
    shared = tuple(
        _unknown(name, spec.params[name].value, spec.params[name].bounds, spec.params[name].sigma) for name in wanted
    )
    return Unknowns(
        shared,
        tuple(names.index(name) for name in wanted),
        np.array([p.value for p in spec.params.values()]),
        starts(spec, start_sigma) if segments else (),
        segments,
    )


def starts(spec: Spec, sigma: Sequence[float]) -> tuple[Unknown, ...]:
    """The start states of one stretch, with the prior of the model file."""
    found = []
    for (name, state), wide in zip(spec.states.items(), sigma, strict=True):
        low = -LARGEST if state.low is None else state.low
        high = LARGEST if state.high is None else state.high
        low, high = max(low, state.start - _FAR * wide), min(high, state.start + _FAR * wide)
        found.append(Unknown(name, state.start, low, high, wide, wide, logarithmic=False))
    return tuple(found)


def _unknown(name: str, value: float, bounds: tuple[float, float] | None, sigma: float | None) -> Unknown:
    low, high = bounds or (-math.inf, math.inf)
    if low >= high:
        raise InputError("VALUE_INVALID", f"bounds of {name}: the lower must be below the upper")
    curved = bounds is not None and low > 0.0 and high / low >= _DECADE
    middle = abs(value) or 1.0
    scale = min(middle, 0.5 * (high - low)) if bounds is not None else middle
    return Unknown(name, value, low, high, sigma, scale, logarithmic=curved)
