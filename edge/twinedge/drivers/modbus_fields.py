"""What a profile says about each Modbus point, ready to be decoded, and the factors that other points give."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from twinedge.drivers.decode import ABSENT, DECODE
from twinedge.drivers.plan import Span
from twinmodel.profile.address import WireType, parse_address, parse_type
from twinmodel.profile.scale import Scale, parse_scale
from twinmodel.profile.schema import FirmwareProfile, Order
from twinmodel.signal import Signal


@dataclass(frozen=True, slots=True)
class Field:
    """One point as its bytes lie in a reply.

    Attributes:
        bit: lowest bit in a register, None for whole registers and bit tables.
        width: number of bits, more than 1 for a bit field.
        scale: factor; None for 1.
    """

    signal: Signal
    span: Span
    as_: str
    wire: WireType
    order: Order
    bit: int | None
    width: int
    scale: Scale | None
    offset: float | None
    absent: float | str | None


def fields_of(profile: FirmwareProfile, signals: Mapping[str, Signal]) -> dict[str, Field]:
    """The points of a device as fields."""
    found = {}
    for name, point in profile.points.items():
        address = parse_address(point.at, profile.base or 0)
        as_ = (point.as_ or "uint16").strip()
        wire = parse_type(as_)
        scale = parse_scale(point.scale) if point.scale is not None else None
        order = point.order or profile.defaults.order or profile.order
        span = Span(address.table, address.number, wire.registers, name)
        found[name] = Field(
            signals[name], span, as_, wire, order, address.bit, address.width, scale, point.offset, point.absent
        )
    return found


class Scales:
    """The newest values of the points that scales read, and the factors they give."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {}
        self._factors: dict[str, Fraction | None] = {}

    def learn(self, point: str, value: float, quality: int) -> None:
        """Takes the newest value; an absent one makes what it scales absent, a bad one unknown."""
        if quality == ABSENT:
            value = math.nan
        elif quality:
            self._values.pop(point, None)
            self._factors.clear()
            return
        if self._values.get(point) != value:
            self._values[point] = value
            self._factors.clear()

    def forget(self) -> None:
        """Drops all values: behind a new connection may be another device."""
        self._values.clear()
        self._factors.clear()

    def factor(self, scale: Scale) -> Fraction | None:
        """The factor now; None while there is none."""
        if scale.text not in self._factors:
            self._factors[scale.text] = scale.exact(self._values)
        return self._factors[scale.text]

    def missing(self, scale: Scale) -> int:
        """Quality of values whose factor is None."""
        return ABSENT if any(math.isnan(self._values.get(p, 0.0)) for p in scale.points) else DECODE


def byte_places(field: Field, start: int) -> list[int]:
    """Places of a number's bytes in the reply, most significant first."""
    at = 2 * (field.span.start - start)
    places = list(range(at, at + 2 * field.span.count))
    if field.order == "DCBA":
        places.reverse()
    elif field.order == "CDAB":
        places = [p for pair in reversed(range(field.span.count)) for p in places[2 * pair : 2 * pair + 2]]
    elif field.order == "BADC":
        places = [p for pair in range(field.span.count) for p in reversed(places[2 * pair : 2 * pair + 2])]
    return {"h": places[:1], "l": places[1:]}.get(field.wire.half, places)


def absent_pattern(field: Field) -> int | None:
    """The bits that mean "no value"."""
    absent = field.absent
    if absent is None or field.wire.name == "bit":
        return None
    if isinstance(absent, str):
        if absent.lower() in {"nan", "inf", "-inf"}:
            return None
        absent = int(absent, 0)
    if not math.isfinite(absent) or absent != int(absent):
        return None
    size = field.width if field.bit is not None else field.wire.size
    signed = field.wire.name == "int"
    if -(1 << (size - 1)) * signed <= absent < 1 << size:
        return int(absent) & ((1 << size) - 1)
    return None


def absent_number(field: Field) -> float:
    """The float that means "no value", NaN for none: NaN itself always does."""
    if field.absent is None or field.wire.name != "float":
        return math.nan
    if isinstance(field.absent, str) and field.absent.lower() not in {"nan", "inf", "-inf"}:
        return float(int(field.absent, 0))
    return float(field.absent)


def constant_factor(field: Field) -> Fraction:
    """The factor of a field whose scale reads no points."""
    return Fraction(1) if field.scale is None else field.scale.exact({}) or Fraction(1)


def exact(number: float) -> Fraction:
    """A number as the decimal it prints as."""
    return Fraction(repr(float(number)))
