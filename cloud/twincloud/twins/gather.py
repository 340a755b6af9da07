"""Newest readings of many members from the cells of their gateways, by arrays: no object per twin.

A measured property has one cell; an estimated one has five: two newest estimates, two newest sigmas, the innovation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from twincloud.twins.aggregate import NEVER_NS, Grade, Readings
from twincloud.twins.latest import NONE_NS, T_NS, TAG, VALUE
from twinmodel import units
from twinmodel.errors import InputError
from twinmodel.signal import Kind

F64: TypeAlias = NDArray[np.float64]
I64: TypeAlias = NDArray[np.int64]

MEASURED_CELLS: Final = 1
ESTIMATED_CELLS: Final = 5
_ESTIMATE, _SIGMA, _INNOVATION = 0, 2, 4


@dataclass(frozen=True, slots=True)
class NewestValues:
    """Newest values of signals as columns, a row per cell that somebody looks at; arrays of shape (n,).

    Attributes:
        names: names of signals, of one gateway after the other.
        gateway: number of the gateway.
        name: place in `names`.
        t_ns: event time, `NONE_NS` where nothing was ever said.
        value: as a number; 0 for a text.
        quality: its code.
        kind: what the value was, see `Kind`.
    """

    names: Sequence[str]
    gateway: NDArray[np.int32]
    name: NDArray[np.int32]
    t_ns: I64
    value: F64
    quality: NDArray[np.uint16]
    kind: NDArray[np.uint8]

    @classmethod
    def none(cls, names: Sequence[str], gateway: NDArray[np.int32], name: NDArray[np.int32]) -> Self:
        """Columns of signals that have said nothing yet."""
        n = len(name)
        quality, kind = np.zeros(n, np.uint16), np.zeros(n, np.uint8)
        return cls(names, gateway, name, np.full(n, NONE_NS), np.zeros(n), quality, kind)

    def __len__(self) -> int:
        return len(self.name)

    def put(self, at: I64, cells: I64) -> None:
        """Takes cells as `Latest` holds them, shape (len(at), 4), into ascending rows `at`."""
        first, end = int(at[0]), int(at[-1]) + 1
        rows = slice(first, end) if end - first == len(at) else at  # neighbours are copied much faster
        bits, tag = np.ascontiguousarray(cells[:, VALUE]), cells[:, TAG]
        kind = (tag & 0xFF).astype(np.uint8)
        value, whole = bits.view(np.float64), kind != Kind.FLOAT
        if whole.any():
            value = np.where(whole, bits.astype(np.float64), value)
        self.t_ns[rows], self.value[rows], self.kind[rows] = cells[:, T_NS], value, kind
        self.quality[rows] = tag >> 8 & 0xFFFF


@dataclass(frozen=True, slots=True)
class Conversion:
    """From each member's unit to the aggregate's; arrays of shape (n,).

    Attributes:
        apart: members whose unit has another dimension or is none.
        origin_scale, origin_offset: of the member's unit, to SI.
        target_scale, target_offset: of the aggregate's.
        same: members that have the aggregate's unit already.
    """

    apart: NDArray[np.bool_]
    same: NDArray[np.bool_]
    origin_scale: F64
    origin_offset: F64
    target_scale: float
    target_offset: float

    def values(self, values: F64) -> F64:
        """Values in the aggregate's unit, rounded as `units.convert` rounds."""
        converted = (values * self.origin_scale + self.origin_offset - self.target_offset) / self.target_scale
        return np.where(self.same, values, converted)

    def differences(self, values: F64) -> F64:
        """Differences, such as sigmas, in the aggregate's unit."""
        return np.where(self.same, values, values * self.origin_scale / self.target_scale)


def common_unit(found: list[str]) -> str:
    """The unit that most members have; of several, the first by name."""
    counts: dict[str, int] = {}
    for unit in found:
        counts[unit] = counts.get(unit, 0) + 1
    return min(counts, key=lambda unit: (-counts[unit], unit), default="")


def conversion_of(found: list[str], target: str) -> Conversion:
    """How members' units become the aggregate's."""
    each = {unit: _scale_of(unit, target) for unit in dict.fromkeys(found)}
    rows = np.array([each[unit] for unit in found]).reshape(len(found), 3)
    wanted = _scale_of(target, target)
    same = np.fromiter((unit == target for unit in found), bool, len(found))
    return Conversion(rows[:, 2] > 0, same, rows[:, 0].copy(), rows[:, 1].copy(), wanted[0], wanted[1])


def _scale_of(unit: str, target: str) -> tuple[float, float, float]:
    """Scale, offset, and 1 where it cannot be converted; a unit nobody knows is its own."""
    if unit == target:
        try:
            known = units.parse(unit)
        except InputError:
            return 1.0, 0.0, 0.0
        return known.scale, known.offset, 0.0
    try:
        origin, wanted = units.parse(unit), units.parse(target)
    except InputError:
        return 1.0, 0.0, 1.0
    return origin.scale, origin.offset, float(origin.dimension != wanted.dimension)


def measured(newest: NewestValues, at: I64, conversion: Conversion, model: NDArray[np.int32]) -> Readings:
    """Readings of a measured property.

    Args:
        newest: values of the members' signals.
        at: row of each member's cell.
        conversion: to the aggregate's unit.
        model: number of the model version that runs for each member.
    """
    value = conversion.values(newest.value[at])
    nan = np.full(len(at), np.nan)
    t_ns = newest.t_ns[at]
    grade = _grades(newest, at, t_ns, value, conversion)
    return Readings(value, nan, nan.copy(), _times(t_ns), grade, model)


def estimated(newest: NewestValues, at: I64, conversion: Conversion, model: NDArray[np.int32]) -> Readings:
    """Readings of an estimated property: the newest estimate that has a sigma of the same tick; see `measured`."""
    first, sigma_first, sigma_second = at + _ESTIMATE, at + _SIGMA, at + _SIGMA + 1
    newer_ns, older_ns = newest.t_ns[sigma_first], newest.t_ns[sigma_second]
    first_ns = newest.t_ns[first]
    paired = _pairs(first_ns, newer_ns) | _pairs(first_ns, older_ns)
    chosen = np.where(paired, first, first + 1)
    t_ns = newest.t_ns[chosen]
    newer, older = _pairs(t_ns, newer_ns), _pairs(t_ns, older_ns)
    sigma = conversion.differences(newest.value[np.where(newer, sigma_first, sigma_second)])
    # An estimate without its sigma is not shown, here as anywhere.
    shown = (older | newer) & np.isfinite(sigma) & (sigma >= 0)
    t_ns = np.where(shown, t_ns, NONE_NS)
    value = conversion.values(np.where(shown, newest.value[chosen], 0.0))
    grade = _grades(newest, chosen, t_ns, value, conversion)
    said = at + _INNOVATION
    innovation = conversion.differences(newest.value[said])
    innovation[newest.t_ns[said] == NONE_NS] = np.nan
    return Readings(value, np.where(shown, sigma, np.nan), innovation, _times(t_ns), grade, model)


def _pairs(one_ns: I64, other_ns: I64) -> NDArray[np.bool_]:
    matched: NDArray[np.bool_] = (one_ns == other_ns) & (one_ns != NONE_NS)
    return matched


def _times(t_ns: I64) -> I64:
    return np.where(t_ns == NONE_NS, NEVER_NS, t_ns)


def _grades(newest: NewestValues, at: I64, t_ns: I64, value: F64, conversion: Conversion) -> NDArray[np.uint8]:
    kind = newest.kind[at]
    grade: NDArray[np.uint8] = np.minimum(newest.quality[at] >> 8, Grade.BAD).astype(np.uint8)
    grade[~np.isfinite(value)] = Grade.BAD
    grade[(kind == Kind.STRING) | (kind == Kind.BOOL)] = Grade.KIND
    never = t_ns == NONE_NS
    grade[never] = Grade.NEVER
    grade[conversion.apart & ~never] = Grade.UNIT
    return grade
