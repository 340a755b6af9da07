"""Values to registers, the inverse of `modbus_decode`; and how finely a register can say a value."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from fractions import Fraction

from twinedge.drivers.decode import reorder, swap_bytes, unscaled
from twinedge.drivers.modbus_fields import Field, Scales, absent_number, absent_pattern
from twinmodel.errors import InputError
from twinmodel.signal import Kind
from twinsync.command import Value

_FLOATS = {16: ">e", 32: ">f", 64: ">d"}
_FINE = {16: (11, -24), 32: (24, -149), 64: (53, -1074)}
"""Digits of a float's mantissa, and the power of two of its smallest step (IEEE 754)."""


def encode(field: Field, value: Value, scales: Scales) -> list[int]:
    """The registers of a value as they go over the wire; of a part of a register, that register with zeros around it.

    Args:
        field: how the point lies.
        value: in the unit of the point; a number is rounded to what the type can say.
        scales: newest values of points that scales read.

    Raises:
        InputError: COMMAND_INVALID: it does not fit the type, the scale is not known, or it means "no value".
    """
    if field.wire.name == "string":
        return _text(field, value)
    if field.wire.name == "bit":
        if not isinstance(value, (bool, int)) or value not in {0, 1}:
            raise _unfit(field, value, "it is a bit")
        return wired(field, [int(value) << (field.bit or 0)]) if field.span.table == "holding" else [int(value)]
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise _unfit(field, value, "it takes a number")
    raw = _raw(field, value, scales)
    pattern = _pattern(field, value, raw)
    if pattern == absent_pattern(field) or (field.wire.name == "float" and float(raw) == absent_number(field)):
        raise _unfit(field, value, 'the device reads it as "no value"')
    width = 16 * field.span.count
    shift = (field.bit or 0) if not field.wire.half else 8 * (field.wire.half == "h")
    whole = (pattern << shift).to_bytes(width // 8, "big")
    return wired(field, struct.unpack(f">{field.span.count}H", whole))


def wired(field: Field, registers: Sequence[int]) -> list[int]:
    """Registers from the order of significance to that of the wire, or back: each order is its own inverse."""
    return list(struct.unpack(f">{len(registers)}H", reorder(registers, field.order)))


def part_mask(field: Field) -> int:
    """The bits of its register that a point takes, as the wire has them; 0 where it takes whole registers."""
    if field.bit is not None:
        mask = ((1 << field.width) - 1) << field.bit
    elif field.wire.half:
        mask = 0xFF00 if field.wire.half == "h" else 0x00FF
    else:
        return 0
    return wired(field, [mask])[0]


def step_of(field: Field, value: Value, scales: Scales) -> float:
    """The distance of two neighbouring values at `value`, in the unit of the point; 0 for texts and bits."""
    if field.wire.name in {"string", "bit"} or isinstance(value, str) or value is None:
        return 0.0
    if field.signal.kind is Kind.INT:
        return 0.0
    factor = abs(float(_factor(field, value, scales)))
    if field.wire.name != "float":
        return factor
    raw = float(_raw(field, float(value), scales))
    digits, least = _FINE[field.wire.size]
    return factor * math.ldexp(1.0, max(math.frexp(raw)[1] - digits, least) if raw else least)


def _factor(field: Field, value: Value, scales: Scales) -> Fraction:
    if field.scale is None:
        return Fraction(1)
    factor = scales.factor(field.scale)
    if not factor:
        raise _unfit(field, value, f"its scale {field.scale.text} is not known now")
    return factor


def _raw(field: Field, value: float, scales: Scales) -> Fraction:
    return unscaled(value, _factor(field, value, scales), field.offset)


def _pattern(field: Field, value: Value, raw: Fraction) -> int:
    """The bits of the number, unsigned."""
    wire = field.wire
    if wire.name == "float":
        try:
            packed = struct.pack(_FLOATS[wire.size], float(raw))
        except OverflowError:
            raise _unfit(field, value, f"{field.as_} does not reach so far") from None
        return int.from_bytes(packed, "big")
    number, size = round(raw), field.width if field.bit is not None else wire.size
    signed = wire.name == "int"
    low, high = (-(1 << (size - 1)), (1 << (size - 1)) - 1) if signed else (0, (1 << size) - 1)
    if wire.name == "bcd":
        low, high = 0, 10 ** (size // 4) - 1
    if not low <= number <= high:
        raise _unfit(field, value, f"{field.as_} holds {low} .. {high}, it would be {number}")
    if wire.name == "bcd":
        return int(str(number), 16)
    return number & ((1 << size) - 1)


def _text(field: Field, value: Value) -> list[int]:
    if not isinstance(value, str):
        raise _unfit(field, value, "it takes a text")
    raw = value.encode()
    if len(raw) > field.wire.size or "\0" in value or value != value.rstrip():
        raise _unfit(field, value, f"it takes {field.wire.size} bytes, without blanks at the end")
    if value == field.absent:
        raise _unfit(field, value, 'the device reads it as "no value"')
    raw = raw.ljust(2 * field.span.count, b"\0")
    raw = swap_bytes(raw) if field.order in {"BADC", "DCBA"} else raw
    return list(struct.unpack(f">{field.span.count}H", raw))


def _unfit(field: Field, value: Value, why: str) -> InputError:
    message = f"{field.signal.name} cannot be {str(value)[:80]!r}: {why}"
    return InputError("COMMAND_INVALID", message, value=str(value)[:80], limit=field.as_)
