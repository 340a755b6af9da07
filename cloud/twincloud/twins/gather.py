"""Newest readings of many members from the cells of their gateways, by arrays: no object per twin.

A measured property has one cell; an estimated one has five: two newest estimates, two newest sigmas, the innovation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

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


def measured(raw: I64, at: I64, conversion: Conversion, model: NDArray[np.int32]) -> Readings:
    """Readings of a measured property.

    Args:
        raw: cells, shape (cells, 4).
        at: place of each member's cell.
        conversion: to the aggregate's unit.
        model: number of the model version that runs for each member.
    """
    cells = raw[at]
    value = conversion.values(_numbers(cells))
    grade = _grades(cells, value)
    grade[conversion.apart & (grade != Grade.NEVER)] = Grade.UNIT
    nan = np.full(len(at), np.nan)
    return Readings(value, nan, nan.copy(), _times(cells), grade, model)


def estimated(raw: I64, at: I64, conversion: Conversion, model: NDArray[np.int32]) -> Readings:
    """Readings of an estimated property: the newest estimate that has a sigma of the same tick; see `measured`."""
    first, second = raw[at + _ESTIMATE], raw[at + _ESTIMATE + 1]
    sigmas = raw[at + _SIGMA], raw[at + _SIGMA + 1]
    paired = _pairs(first, sigmas[0]) | _pairs(first, sigmas[1])
    cells = np.where(paired[:, None], first, second)
    older = _pairs(cells, sigmas[1])
    newer = _pairs(cells, sigmas[0])
    sigma = conversion.differences(_numbers(np.where(newer[:, None], sigmas[0], sigmas[1])))
    # An estimate without its sigma is not shown, here as anywhere.
    shown = (older | newer) & np.isfinite(sigma) & (sigma >= 0)
    cells = np.where(shown[:, None], cells, _EMPTY)
    value = conversion.values(_numbers(cells))
    grade = _grades(cells, value)
    grade[conversion.apart & (grade != Grade.NEVER)] = Grade.UNIT
    said = raw[at + _INNOVATION]
    innovation = conversion.differences(_numbers(said))
    innovation[said[:, T_NS] == NONE_NS] = np.nan
    return Readings(value, np.where(shown, sigma, np.nan), innovation, _times(cells), grade, model)


_EMPTY: Final = np.array([NONE_NS, 0, 0, 0], np.int64)


def _pairs(one: I64, other: I64) -> NDArray[np.bool_]:
    matched: NDArray[np.bool_] = (one[:, T_NS] == other[:, T_NS]) & (one[:, T_NS] != NONE_NS)
    return matched


def _times(cells: I64) -> I64:
    return np.where(cells[:, T_NS] == NONE_NS, NEVER_NS, cells[:, T_NS])


def _numbers(cells: I64) -> F64:
    bits = np.ascontiguousarray(cells[:, VALUE])
    floating = (cells[:, TAG] & 0xFF) == Kind.FLOAT
    return np.where(floating, bits.view(np.float64), bits.astype(np.float64))


def _grades(cells: I64, value: F64) -> NDArray[np.uint8]:
    tag = cells[:, TAG]
    kind, klass = tag & 0xFF, np.minimum(tag >> 16 & 0xFF, Grade.BAD)
    grade: NDArray[np.uint8] = klass.astype(np.uint8)
    grade[~np.isfinite(value)] = Grade.BAD
    grade[(kind == Kind.STRING) | (kind == Kind.BOOL)] = Grade.KIND
    grade[cells[:, T_NS] == NONE_NS] = Grade.NEVER
    return grade
