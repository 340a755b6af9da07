"""Registers to values: types, byte and word orders, scales, and the numbers makers use for "no value"."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from twinmodel.profile.address import WireType, parse_type
from twinmodel.profile.schema import Order
from twinmodel.quality import GOOD, QualityReason, bad
from twinmodel.signal import Kind

ABSENT = bad(QualityReason.ABSENT)
DECODE = bad(QualityReason.DECODE)
NOTHING: Mapping[Kind, object] = {Kind.FLOAT: math.nan, Kind.INT: 0, Kind.BOOL: False, Kind.STRING: ""}
INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1
_FLOATS = {16: ">e", 32: ">f", 64: ">d"}

Number = int | float
Converter = Callable[[Number], Number]
Decoded = tuple[object, int]
Decoder = Callable[[Sequence[int]], Decoded]


class NoValueError(ValueError):
    """The registers hold no value of the type."""


def reorder(registers: Sequence[int], order: Order) -> bytes:
    """The value's bytes, most significant first.

    ABCD: as sent; BADC: bytes swapped in each register; CDAB: registers reversed; DCBA: both.
    """
    raw = struct.pack(f">{len(registers)}H", *registers)
    if order == "DCBA":
        return raw[::-1]
    if order == "CDAB":
        return struct.pack(f">{len(registers)}H", *reversed(registers))
    return swap_bytes(raw) if order == "BADC" else raw


def swap_bytes(raw: bytes) -> bytes:
    """The two bytes of each register exchanged."""
    swapped = bytearray(raw)
    swapped[0::2], swapped[1::2] = raw[1::2], raw[0::2]
    return bytes(swapped)


def decode_number(registers: Sequence[int], wire: WireType, order: Order) -> tuple[Number, int]:
    """The number and its bits read as an unsigned integer. Raises NoValueError for digits that are none (BCD)."""
    raw = reorder(registers, order)
    if wire.half:
        raw = raw[:1] if wire.half == "h" else raw[1:]
    pattern = int.from_bytes(raw, "big")
    if wire.name == "float":
        return struct.unpack(_FLOATS[wire.size], raw)[0], pattern
    if wire.name == "bcd":
        digits = raw.hex()
        if not digits.isdigit():
            raise NoValueError(f"0x{digits} is no binary-coded decimal")
        return int(digits), pattern
    return int.from_bytes(raw, "big", signed=wire.name == "int"), pattern


def decode_string(registers: Sequence[int], wire: WireType, order: Order) -> str:
    """Text up to the first NUL, without blanks at its end. The order of registers never applies to text."""
    raw = struct.pack(f">{len(registers)}H", *registers)
    raw = (swap_bytes(raw) if order in {"BADC", "DCBA"} else raw)[: wire.size]
    try:
        return raw.split(b"\0", 1)[0].decode().rstrip()
    except UnicodeDecodeError as wrong:
        raise NoValueError("the text is not UTF-8") from wrong


def converter(scale: float | Fraction | None, offset: float | None) -> Converter | None:
    """The function `raw * scale + offset`; exact for integers: 65496 at scale 0.1 gives 6549.6, the nearest double."""
    if scale is None and offset is None:
        return None
    scale = 1 if scale is None else scale
    factor = scale if isinstance(scale, Fraction) else Fraction(repr(float(scale)))
    summand = Fraction(repr(float(offset or 0)))
    numerator, denominator = factor.numerator * summand.denominator, factor.denominator * summand.denominator
    addend = summand.numerator * factor.denominator
    multiply, add = float(factor), float(summand)

    def convert(raw: Number) -> Number:
        if isinstance(raw, int):
            return (raw * numerator + addend) / denominator
        return raw * multiply + add

    return convert


def unscaled(value: float, scale: float | Fraction | None, offset: float | None) -> Fraction:
    """What `converter` makes this value of, exactly."""
    exact = Fraction(value) if isinstance(value, int) else Fraction(repr(float(value)))
    factor = scale if isinstance(scale, Fraction) else Fraction(repr(float(1 if scale is None else scale)))
    return (exact - Fraction(repr(float(offset or 0)))) / factor


def absent_test(absent: float | str | None) -> Callable[[Number, int], bool]:
    """Says whether a raw number means "no value": as number, or as bit pattern (0x8000 of an int16)."""
    if isinstance(absent, str):
        absent = float(absent) if absent.lower() in {"nan", "inf", "-inf"} else int(absent, 0)
    if absent is None:
        return lambda _number, _pattern: False
    return lambda number, pattern: absent in (number, pattern)


def to_kind(number: Number, kind: Kind) -> Decoded:
    """Fits a number to the signal's kind; NaN is an absent value, what does not fit is bad(DECODE)."""
    if kind is Kind.FLOAT:
        value = float(number)
        if math.isnan(value):
            return value, ABSENT
        return (value, GOOD) if math.isfinite(value) else (math.nan, DECODE)
    if isinstance(number, float):
        if not (math.isfinite(number) and number.is_integer()):
            return 0, DECODE
        number = int(number)
    return (number, GOOD) if INT_MIN <= number <= INT_MAX else (0, DECODE)


def number_decoder(
    as_: str, order: Order, kind: Kind, convert: Converter | None, absent: float | str | None
) -> Decoder:
    """A decoder of one numeric point: registers -> (value, quality). `convert` may raise NoValueError."""
    wire = parse_type(as_)
    is_absent = absent_test(absent)
    nothing: Number = math.nan if kind is Kind.FLOAT else 0

    def decode(registers: Sequence[int]) -> Decoded:
        try:
            number, pattern = decode_number(registers, wire, order)
            if is_absent(number, pattern):
                return nothing, ABSENT
            return to_kind(number if convert is None else convert(number), kind)
        except NoValueError:
            return nothing, DECODE

    return decode


def string_decoder(as_: str, order: Order, absent: float | str | None) -> Decoder:
    """A decoder of one text point."""
    wire = parse_type(as_)

    def decode(registers: Sequence[int]) -> Decoded:
        try:
            text = decode_string(registers, wire, order)
        except NoValueError:
            return "", DECODE
        return ("", ABSENT) if text == absent else (text, GOOD)

    return decode


def bit_decoder(bit: int | None, order: Order) -> Decoder:
    """A decoder of one bit: of a register when `bit` is given (0 is the least significant), else of a bit table."""

    def decode(cells: Sequence[int]) -> Decoded:
        if bit is None:
            return bool(cells[0]), GOOD
        return bool(int.from_bytes(reorder(cells[:1], order), "big") >> bit & 1), GOOD

    return decode


def field_decoder(
    low: int, width: int, order: Order, kind: Kind, convert: Converter | None, absent: float | str | None
) -> Decoder:
    """A decoder of a bit field of one register, as an unsigned integer; `low` is its least significant bit."""
    is_absent = absent_test(absent)
    nothing: Number = math.nan if kind is Kind.FLOAT else 0

    def decode(cells: Sequence[int]) -> Decoded:
        number = int.from_bytes(reorder(cells[:1], order), "big") >> low & ((1 << width) - 1)
        if is_absent(number, number):
            return nothing, ABSENT
        try:
            return to_kind(number if convert is None else convert(number), kind)
        except NoValueError:
            return nothing, DECODE

    return decode


def typed_value(raw: object, kind: Kind, convert: Converter | None, absent: object) -> Decoded:
    """Fits a value that came typed (JSON, OPC UA) to the signal's kind.

    Nothing and the maker's "no value" are bad(ABSENT); a value of another type or size is bad(DECODE).
    """
    if raw is None or (absent is not None and raw == absent):
        return NOTHING[kind], ABSENT
    if kind is Kind.STRING:
        return (raw, GOOD) if isinstance(raw, str) else ("", DECODE)
    if kind is Kind.BOOL:
        boolean = isinstance(raw, bool) or (isinstance(raw, int) and raw in {0, 1})
        return (bool(raw), GOOD) if boolean else (False, DECODE)
    if isinstance(raw, bool) or not isinstance(raw, (int, float)):
        return NOTHING[kind], DECODE
    try:
        return to_kind(raw if convert is None else convert(raw), kind)
    except OverflowError:
        return NOTHING[kind], DECODE
