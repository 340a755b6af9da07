"""One property of a fleet: what each member last said, and the sums over those that count, kept up to date.

    put(members, readings) ─┐
    settle(cutoff)          ├─▶ who counts ─▶ exact sums per model version ─▶ read() -> Aggregate
    drop(members)           ┘

A member counts while its newest value is plainly good and no older than the cutoff. An update costs one addition per
sum; sums are exact (see `exact`), so that the state depends only on what is held, never on how it came to be.

The error of a mean does not vanish with the number of twins: those that run one model version share its bias. Per
version there are an independent part and a common one, `sigma_common`:

    given        by the model's maker, for the version
    innovation   sqrt(b² + s²/n) with mean b and variance s² of the newest innovations (measured minus predicted) of
                 n >= 8 members: what they are off together, and what n members cannot tell of it
    rule         nothing is known: all of their sigma counts as common, so that nothing averages out

Versions are independent of each other: the variance of the sum is the sum of all `sigma²` and, over the
versions, of `(n · sigma_common)²`; under `rule` the square of the sum of the sigmas takes the place of both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from twincloud.twins.exact import ExactSum, ratio

F64: TypeAlias = NDArray[np.float64]
I64: TypeAlias = NDArray[np.int64]
Places: TypeAlias = NDArray[np.intp]

QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
INNOVATIONS_MIN: Final = 8
NEVER_NS: Final = np.iinfo(np.int64).min


class Grade(IntEnum):
    """What a member's newest value is worth, whatever its age."""

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2
    NEVER = 3
    UNIT = 4
    KIND = 5


@dataclass(frozen=True, slots=True)
class Readings:
    """Newest readings of some members, one row each; arrays of shape (n,).

    Attributes:
        value: in the aggregate's unit.
        sigma: standard deviation in that unit, NaN for none.
        innovation: measured minus predicted in that unit, NaN for none.
        t_ns: event time.
        grade: see `Grade`.
        model: number of the model version that runs, -1 for none.
    """

    value: F64
    sigma: F64
    innovation: F64
    t_ns: I64
    grade: NDArray[np.uint8]
    model: NDArray[np.int32]

    @classmethod
    def none(cls, count: int) -> Readings:
        """Readings of members that never said anything."""
        nan = np.full(count, np.nan)
        never = np.full(count, Grade.NEVER, np.uint8)
        return cls(nan, nan.copy(), nan.copy(), np.full(count, NEVER_NS), never, np.full(count, -1, np.int32))

    def at(self, places: Places) -> Readings:
        """Those of some members."""
        return Readings(
            self.value[places], self.sigma[places], self.innovation[places],
            self.t_ns[places], self.grade[places], self.model[places],
        )  # fmt: skip

    def columns(self) -> tuple[NDArray[np.generic], ...]:
        """All of its arrays."""
        return (self.value, self.sigma, self.innovation, self.t_ns, self.grade, self.model)


@dataclass(frozen=True, slots=True)
class Common:
    """What members of one model version are off together; see the module."""

    model: str
    count: int
    sigma: float
    source: str


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A property over the members that count; numbers are None where nobody counts.

    Attributes:
        sigma_independent: of the mean, from what is each member's own; None when a member has no sigma.
        sigma_common: of the mean, from what members share.
        sigma: of the mean, both together; of the sum it is `count` times as large.
        without_sigma: members that count and have none.
    """

    count: int
    mean: float | None
    minimum: float | None
    maximum: float | None
    total: float | None
    quantiles: tuple[tuple[float, float], ...]
    sigma_independent: float | None
    sigma_common: float | None
    sigma: float | None
    without_sigma: int
    common: tuple[Common, ...]


@dataclass(slots=True)
class _Group:
    """Sums over the members of one model version that count."""

    count: int = 0
    sigmas: int = 0
    innovations: int = 0
    value: ExactSum = field(default_factory=ExactSum)
    sigma: ExactSum = field(default_factory=ExactSum)
    variance: ExactSum = field(default_factory=ExactSum)
    innovation: ExactSum = field(default_factory=ExactSum)
    innovation2: ExactSum = field(default_factory=ExactSum)

    def shift(self, readings: Readings, at: Places, sign: int) -> None:
        """Adds (1) or takes away (-1) members."""
        self.count += sign * len(at)
        self._sum(self.value, readings.value[at], sign)
        sigma = readings.sigma[at]
        sigma = sigma[np.isfinite(sigma)]
        self.sigmas += sign * len(sigma)
        self._sum(self.sigma, sigma, sign)
        self._sum(self.variance, sigma * sigma, sign)
        innovation = readings.innovation[at]
        innovation = innovation[np.isfinite(innovation)]
        self.innovations += sign * len(innovation)
        self._sum(self.innovation, innovation, sign)
        self._sum(self.innovation2, innovation * innovation, sign)

    @staticmethod
    def _sum(into: ExactSum, values: F64, sign: int) -> None:
        if len(values):
            (into.add if sign > 0 else into.take)(values)


class Standing:
    """The members' newest readings of one property and their sums."""

    def __init__(self, count: int) -> None:
        self.readings = Readings.none(count)
        self.counts = np.zeros(count, bool)
        self._groups: dict[int, _Group] = {}
        self._cutoff_ns = NEVER_NS

    def __len__(self) -> int:
        return len(self.counts)

    def put(self, at: Places, news: Readings) -> None:
        """Takes the newest readings of some members, each named once; what they said before is forgotten."""
        before = at[self.counts[at]]
        self._shift(before, -1)
        for kept, new in zip(self.readings.columns(), news.columns(), strict=True):
            kept[at] = new
        self.counts[at] = self._counting(at)
        self._shift(at[self.counts[at]], 1)

    def put_all(self, news: Readings) -> int:
        """Takes readings of all members; gives how many had changed."""
        same = np.ones(len(self), bool)
        for kept, new in zip(self.readings.columns(), news.columns(), strict=True):
            # Bits, not values: NaN is equal to NaN.
            same &= kept.view(f"u{kept.itemsize}") == new.view(f"u{new.itemsize}")
        at = np.flatnonzero(~same)
        if len(at):
            self.put(at, news.at(at))
        return len(at)

    def drop(self, at: Places) -> None:
        """Forgets members; their places stay empty."""
        self.put(at, Readings.none(len(at)))

    def settle(self, cutoff_ns: int) -> None:
        """Lets only values of `cutoff_ns` or later count."""
        self._cutoff_ns = cutoff_ns
        should = self._counting(np.arange(len(self)))
        gone, come = np.flatnonzero(self.counts & ~should), np.flatnonzero(should & ~self.counts)
        self._shift(gone, -1)
        self.counts = should
        self._shift(come, 1)

    def read(self, models: Sequence[str] = (), given: Mapping[str, float] | None = None) -> Aggregate:
        """The aggregate.

        Args:
            models: names of the model versions by their number.
            given: sigma_common by name of a version, in the aggregate's unit, where its maker says it.
        """
        groups = sorted(((models[n] if 0 <= n < len(models) else "", n, g) for n, g in self._groups.items() if g.count))
        count = sum(group.count for _, _, group in groups)
        if not count:
            return Aggregate(0, None, None, None, None, (), None, None, None, 0, ())
        values = self.readings.value[self.counts]
        units = sum(group.value.units for _, _, group in groups)
        quantiles = np.quantile(values, QUANTILES).tolist()
        without = count - sum(group.sigmas for _, _, group in groups)
        common, own2, common2 = [], [], []
        for name, _, group in groups:
            shared, own = _uncertainty(group, (given or {}).get(name), name)
            common.append(shared)
            own2.append(own)
            common2.append((shared.sigma * shared.count) ** 2)
        independent = shared_sigma = sigma = None
        if not without:
            independent = math.sqrt(math.fsum(own2)) / count
            shared_sigma = math.sqrt(math.fsum(common2)) / count
            sigma = math.sqrt(math.fsum([*own2, *common2])) / count
        return Aggregate(
            count, ratio(units, count), float(values.min()), float(values.max()), ratio(units, 1),
            tuple(zip(QUANTILES, quantiles, strict=True)),
            independent, shared_sigma, sigma, without, () if without else tuple(common),
        )  # fmt: skip

    def _counting(self, at: Places) -> NDArray[np.bool_]:
        kept = self.readings
        good, fresh = kept.grade[at] == Grade.GOOD, kept.t_ns[at] >= self._cutoff_ns
        counting: NDArray[np.bool_] = good & fresh & np.isfinite(kept.value[at])
        return counting

    def _shift(self, at: Places, sign: int) -> None:
        if not len(at):
            return
        model = self.readings.model[at]
        for number in np.unique(model).tolist():
            group = self._groups.setdefault(number, _Group())
            group.shift(self.readings, at[model == number], sign)
            if not group.count:
                del self._groups[number]


def _uncertainty(group: _Group, given: float | None, name: str) -> tuple[Common, float]:
    """What the members of a version share, and the sum of the variances that are their own."""
    if given is not None:
        return Common(name, group.count, given, "given"), group.variance.value
    n = group.innovations
    if n >= INNOVATIONS_MIN:
        mean = group.innovation.over(n)
        # Exact up to the squares' own rounding, so that it never falls below 0 by cancellation of floats.
        spread = max(0.0, group.innovation2.over(n) - mean * mean) / (n - 1)
        return Common(name, group.count, math.sqrt(mean * mean + spread), "innovation"), group.variance.value
    return Common(name, group.count, group.sigma.over(group.count), "rule"), 0.0
