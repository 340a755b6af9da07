"""Checks of Modbus profiles: addresses, types, scales, and points that lie over each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from twinmodel.errors import ConfigError
from twinmodel.profile.address import RegisterAddress, WireType, parse_address, parse_type
from twinmodel.profile.document import Document, nearest
from twinmodel.profile.parsing import KeyPath
from twinmodel.profile.scale import parse_scale
from twinmodel.profile.schema import FirmwareProfile, Point


def typed(point: Point) -> Point:
    """The point with the type its address implies: a bit, a bit field, else one register."""
    if point.as_ is not None:
        return point
    table, _, number = point.at.partition(" ")
    bits = table in {"coil", "discrete"} or "." in number
    return point.model_copy(update={"as_": "uint16" if not bits else "uint" if "-" in number else "bit"})


def check_device(profile: FirmwareProfile, document: Document) -> None:
    """Checks what is told of the device once; raises ConfigError."""
    if profile.base is None:
        hint = "add `base: 0` or `base: 1`: does the maker count registers from 0 or from 1?"
        raise document.error("VALUE_INVALID", ("protocol",), "a modbus profile needs `base`", hint=hint)
    base, identify = profile.base, profile.identify
    if identify is None:
        return
    for keys, read in ((("identify",), identify), (("identify", "firmware"), identify.firmware)):
        if read is not None:
            address = document.read((*keys, "at"), lambda text: parse_address(text, base), read.at)
            wire = document.read((*keys, "as"), parse_type, read.as_)
            if wire.name == "bit" or address.bit is not None or address.single_bits:
                raise document.error("VALUE_INVALID", (*keys, "at"), "an identity is text or a number, no bit")
            _check_room(profile, document, (*keys, "as"), read.as_, wire)


def check_register(profile: FirmwareProfile, document: Document, keys: KeyPath, point: Point) -> None:
    """Checks one point; raises ConfigError."""
    as_ = point.as_ or "uint16"
    address = document.read((*keys, "at"), lambda text: parse_address(text, profile.base or 0), point.at)
    wire = document.read((*keys, "as"), parse_type, as_)
    field = address.bit is not None and address.width > 1
    if field and as_.strip() != "uint":
        message = f"{point.at} is a bit field of {address.width} bits, not {as_}"
        raise document.error("VALUE_INVALID", (*keys, "as"), message, hint="write as: uint, or nothing")
    if (address.single_bits or address.bit is not None) and not field and wire.name != "bit":
        raise document.error("VALUE_INVALID", (*keys, "as"), f"{point.at} is one bit, not {as_}")
    if not address.single_bits and address.bit is None and (wire.name == "bit" or as_.strip() == "uint"):
        hint = "write e.g. holding 120.3, or holding 120.4-7 for a bit field"
        raise document.error("VALUE_INVALID", (*keys, "at"), f"which bit? {hint}", hint=hint)
    _check_room(profile, document, (*keys, "as"), as_, wire)
    if not address.single_bits and address.number + wire.registers > 1 << 16:
        raise document.error("VALUE_INVALID", (*keys, "as"), f"{as_} at {point.at} reaches beyond the last register")
    if wire.name in {"bit", "string"} and (point.scale is not None or point.offset is not None):
        raise document.error("VALUE_INVALID", keys, f"a {wire.name} has no scale or offset")
    if isinstance(point.absent, str) and wire.name != "string":
        document.read((*keys, "absent"), _absent, point.absent)
    if isinstance(point.scale, str):
        _check_scale(profile, document, keys, point.scale)


def _check_room(profile: FirmwareProfile, document: Document, keys: KeyPath, as_: str, wire: WireType) -> None:
    if wire.registers > profile.limits.max_read:
        message = f"{as_} fills {wire.registers} registers, limits.max_read is {profile.limits.max_read}"
        raise document.error("VALUE_INVALID", keys, message)


def _absent(text: str) -> None:
    """Raises ValueError for text that is no number to compare with."""
    if text.lower() in {"nan", "inf", "-inf"}:
        return
    try:
        int(text, 0)
    except ValueError:
        raise ValueError(f"{text!r} is no raw value; write a number, 0x8000, nan or inf") from None


def _check_scale(profile: FirmwareProfile, document: Document, keys: KeyPath, text: str) -> None:
    """A scale reads numbers of this device that are not themselves scaled by others, so that there is no circle."""
    place = (*keys, "scale")
    for name in document.read(place, parse_scale, text).points:
        read = profile.points.get(name)
        if read is None:
            guess = nearest(name, profile.points)
            hint = f"did you mean `{guess}`?" if guess else None
            raise document.error("VALUE_INVALID", place, f"no point {name!r} in this profile", hint=hint)
        if (read.as_ or "uint16").partition("(")[0].strip() in {"bit", "bool", "string"}:
            raise document.error("VALUE_INVALID", place, f"{name} is no number")
        if isinstance(read.scale, str):
            raise document.error("VALUE_INVALID", place, f"{name} is itself scaled by other points")


@dataclass(frozen=True, slots=True)
class _Span:
    """What a point reads: registers, or bits of one, or cells of a bit table; `start` and `end` count bits."""

    name: str
    address: RegisterAddress
    wire: WireType
    start: int
    end: int

    @property
    def flags(self) -> bool:
        """Whether it picks bits out of registers."""
        return self.address.bit is not None

    @property
    def place(self) -> str:
        """Its type and registers as the wire counts them."""
        return f"{self.wire.name}{self.wire.size}" if not self.flags else "bits"


def check_overlaps(profile: FirmwareProfile, document: Document) -> list[ConfigError]:
    """Points of one table that lie over each other and cannot both be meant; each with the later one's place.

    Allowed: bits and bit fields of an integer that is a point of its own, and the same registers read as two
    different types. Refused: the same registers twice with one type, bit fields that share a bit, bits of text or
    of a float, and a value that begins or ends inside another.
    """
    by_table: dict[str, list[_Span]] = {}
    for name, point in profile.points.items():
        span = _span(profile, name, point)
        by_table.setdefault(span.address.table, []).append(span)
    found = []
    for spans in by_table.values():
        for one, other, why in _clashes(sorted(spans, key=lambda s: (s.start, -s.end))):
            later = max(one, other, key=lambda s: document.place(("points", s.name), key=True).line)
            first = one if later is other else other
            text = f"{profile.points[later.name].at} {why} {first.name} ({profile.points[first.name].at})"
            hint = "correct the address of one of the two, or remove one"
            found.append(document.error("VALUE_INVALID", ("points", later.name, "at"), text, hint=hint))
    return found


def _span(profile: FirmwareProfile, name: str, point: Point) -> _Span:
    address, wire = parse_address(point.at, profile.base or 0), parse_type(point.as_ or "uint16")
    if address.single_bits:
        return _Span(name, address, wire, address.number, address.number + 1)
    if address.bit is not None:
        start = address.number * 16 + address.bit
        return _Span(name, address, wire, start, start + address.width)
    start = address.number * 16
    if wire.half:  # the halves of a register do not touch; which of them comes first plays no part
        return _Span(name, address, wire, start + 8 * (wire.half == "h"), start + 8 + 8 * (wire.half == "h"))
    return _Span(name, address, wire, start, start + 16 * wire.registers)


def _clashes(spans: list[_Span]) -> Iterator[tuple[_Span, _Span, str]]:
    """Pairs that cannot both be meant: whole values against whole values, bits against bits, bits against values."""
    values = [s for s in spans if not s.flags]
    flags = [s for s in spans if s.flags]
    for one, other in (*_touching(values), *_touching(flags)):
        if (one.start, one.end) != (other.start, other.end):
            yield one, other, "shares registers with"
        elif one.wire == other.wire:
            yield one, other, "reads the same, as the same type, as"
    for one, other in _touching(spans):
        whole = one if not one.flags else other
        if one.flags != other.flags and whole.wire.name not in {"int", "uint", "bcd"}:
            yield one, other, f"takes bits of, or holds bits as, the {whole.wire.name}"


def _touching(spans: list[_Span]) -> Iterator[tuple[_Span, _Span]]:
    """Pairs in order where the second begins before the furthest so far ends."""
    furthest: _Span | None = None
    for one, other in pairwise(spans):
        furthest = one if furthest is None or one.end > furthest.end else furthest
        if other.start < furthest.end:
            yield furthest, other
