"""Values of Modbus points to registers and back: the exact inverse of what an agent's decoder does.

A value is first turned into the number on the wire (`raw`), then into bytes with the most significant first, then into
registers in the point's order. Arithmetic is in fractions and rounded once, so that what a decoder gives for the
registers is bit for bit what `value` gives for the raw number.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction

from twinmodel.profile.address import RegisterAddress, WireType, parse_address, parse_type
from twinmodel.profile.scale import Scale, parse_scale
from twinmodel.profile.schema import FirmwareProfile, Order, Point

Value = float | int | bool | str
INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1
_FLOATS = {16: ">e", 32: ">f", 64: ">d"}
_FLOAT_MAX = {16: 65504.0, 32: 3.4028234663852886e38, 64: 1.7976931348623157e308}
_ONE = Fraction(1)


@dataclass(frozen=True, slots=True)
class Patch:
    """Bytes to put into registers: `cells` where the bits of `mask` are set.

    Attributes:
        start: first register, or cell of a bit table.
        cells: two bytes a register, one (0 or 1) a cell of a bit table.
        mask: as long as `cells`; empty for all bits.
    """

    start: int
    cells: bytes
    mask: bytes = b""


class Codec:
    """One point of a Modbus profile.

    Attributes:
        name: of the point.
        address: where it lies.
        wire: its type.
        order: of its bytes and registers.
        scale: None for 1.
        offset: added to the scaled number.
        absent: raw number that means "no value", None for none (NaN always does).
    """

    def __init__(self, profile: FirmwareProfile, name: str, point: Point) -> None:
        self.name = name
        self.address: RegisterAddress = parse_address(point.at, profile.base or 0)
        self.wire: WireType = parse_type(point.as_ or "uint16")
        self.order: Order = point.order or profile.defaults.order or profile.order
        self.scale: Scale | None = parse_scale(point.scale) if point.scale is not None else None
        self._offset = Fraction(repr(float(point.offset or 0)))
        self.offset = float(point.offset or 0)
        self._plain = point.scale is None and point.offset is None
        self.absent = _absent(point.absent, self.wire, self.address)
        self._absent_text = point.absent if isinstance(point.absent, str) else None

    @property
    def count(self) -> int:
        """Registers (or cells of a bit table) it takes."""
        return 1 if self.address.single_bits else self.wire.registers

    @property
    def can_be_absent(self) -> bool:
        """Whether there is a way to say "no value"."""
        return self.absent is not None or self.wire.name == "float" or self._text_absent

    @property
    def _text_absent(self) -> bool:
        return self.wire.name == "string" and self._absent_text is not None

    def raw_range(self) -> tuple[float, float]:
        """Smallest and largest number the type holds."""
        wire = self.wire
        if self.address.bit is not None or self.address.single_bits or wire.name == "bit":
            return 0, (1 << self.address.width) - 1
        if wire.name == "float":
            return -_FLOAT_MAX[wire.size], _FLOAT_MAX[wire.size]
        if wire.name == "bcd":
            return 0, 10 ** (wire.size // 4) - 1
        if wire.name == "int":
            return -(1 << (wire.size - 1)), (1 << (wire.size - 1)) - 1
        return 0, min((1 << wire.size) - 1, INT_MAX)

    def raw(self, value: float, factor: Fraction | None) -> float:
        """The number on the wire nearest to a value, within the type; never the one that means "no value"."""
        factor = factor or _ONE
        low, high = self.raw_range()
        if self.wire.name == "float":
            wanted = value if self._plain else (value - float(self._offset)) / float(factor)
            number = min(max(wanted, low), high)
            packed: float = struct.unpack(_FLOATS[self.wire.size], struct.pack(_FLOATS[self.wire.size], number))[0]
            return packed
        integer = round((Fraction(repr(float(value))) - self._offset) / factor) if not self._plain else round(value)
        integer = int(min(max(integer, int(low)), int(high)))
        if self.absent is not None and integer == self.absent:
            integer += 1 if integer < high else -1
        return integer

    def value(self, raw: float, factor: Fraction | None) -> float:
        """The value a decoder gives for a number on the wire."""
        if self._plain:
            return raw
        factor = factor or _ONE
        if isinstance(raw, int):
            exact = raw * factor + self._offset
            return exact.numerator / exact.denominator
        return raw * float(factor) + float(self._offset)

    def patch(self, value: Value | None, factor: Fraction | None = None) -> Patch:
        """The registers of a value; None is the maker's "no value", which `can_be_absent` must allow."""
        if self.address.single_bits:
            return Patch(self.address.number, bytes([bool(value)]))
        if self.wire.name == "string":
            return self._text(str(self._absent_text if value is None else value))
        if value is None:
            return self.packed(math.nan if self.absent is None else self.absent)
        if isinstance(value, str):
            raise TypeError(f"{self.name} holds numbers, not {value!r}")
        return self.packed(int(value) if self.wire.name == "bit" else self.raw(value, factor))

    def packed(self, raw: float) -> Patch:
        """The registers of a number on the wire."""
        wire, address = self.wire, self.address
        if address.bit is not None:
            field = ((1 << address.width) - 1) << address.bit
            cells, mask = (int(raw) << address.bit & field).to_bytes(2, "big"), field.to_bytes(2, "big")
            return Patch(address.number, reordered(cells, self.order), reordered(mask, self.order))
        if wire.name == "float":
            cells = struct.pack(_FLOATS[wire.size], raw)
        elif wire.name == "bcd":
            cells = bytes.fromhex(f"{int(raw):0{wire.size // 4}d}")
        else:
            cells = (int(raw) & ((1 << wire.size) - 1)).to_bytes(wire.size // 8, "big")
        if wire.half:
            cells, mask = (cells + b"\0", b"\xff\0") if wire.half == "h" else (b"\0" + cells, b"\0\xff")
            return Patch(address.number, reordered(cells, self.order), reordered(mask, self.order))
        return Patch(address.number, reordered(cells, self.order))

    def _text(self, text: str) -> Patch:
        room = 2 * self.wire.registers
        cells = text.encode()[: self.wire.size].decode(errors="ignore").encode().ljust(room, b"\0")
        return Patch(self.address.number, _swapped(cells) if self.order in {"BADC", "DCBA"} else cells)

    def read(self, cells: bytes, factor: Fraction | None = None) -> Value | None:
        """The value of the registers, None for "no value". Raises ValueError for what is none (BCD, text)."""
        if self.address.single_bits:
            return bool(cells[0])
        if self.wire.name == "string":
            raw = (_swapped(cells) if self.order in {"BADC", "DCBA"} else cells)[: self.wire.size]
            text = raw.split(b"\0", 1)[0].decode().rstrip()
            return None if self._text_absent and text == self._absent_text else text
        number = self._unpacked(reordered(cells, self.order))
        if isinstance(number, bool):
            return number
        if (self.absent is not None and number == self.absent) or math.isnan(number):
            return None
        value = self.value(number, factor)
        return value if isinstance(value, float) or INT_MIN <= value <= INT_MAX else None

    def _unpacked(self, raw: bytes) -> float:
        wire, address = self.wire, self.address
        if wire.half:
            raw = raw[:1] if wire.half == "h" else raw[1:]
        if address.bit is not None:
            field = int.from_bytes(raw, "big") >> address.bit & ((1 << address.width) - 1)
            return bool(field) if wire.name == "bit" else field
        if wire.name == "float":
            number: float = struct.unpack(_FLOATS[wire.size], raw)[0]
            return number
        if wire.name == "bcd":
            if not raw.hex().isdigit():
                raise ValueError(f"{self.name}: 0x{raw.hex()} is no binary-coded decimal")
            return int(raw.hex())
        return int.from_bytes(raw, "big", signed=wire.name == "int")


def _absent(absent: float | str | None, wire: WireType, address: RegisterAddress) -> float | None:
    """The raw number that means "no value", in the sign of the type; None for none, and for NaN, which always does."""
    if absent is None or wire.name in {"string", "bit"} or address.single_bits:
        return None
    if wire.name == "float":
        return _absent_float(absent, wire)
    if isinstance(absent, str):
        if absent.lower() in {"nan", "inf", "-inf"}:
            return None
        absent = int(absent, 0)
    if not math.isfinite(absent) or absent != int(absent):
        return None
    size = address.width if address.bit is not None else wire.size
    number = int(absent)
    if wire.name == "bcd":
        number = int(f"{number:x}") if isinstance(absent, str) and f"{number:x}".isdigit() else number
    if wire.name == "int" and number >= 1 << (size - 1):
        number -= 1 << size
    low = -(1 << (size - 1)) if wire.name == "int" else 0
    return number if low <= number < 1 << size else None


def _absent_float(absent: float | str, wire: WireType) -> float | None:
    if not isinstance(absent, str):
        return float(absent)
    if absent.lower() == "nan":
        return None
    if absent.lower() in {"inf", "-inf"}:
        return float(absent)
    pattern = int(absent, 0)
    if 0 <= pattern < 1 << wire.size:
        number: float = struct.unpack(_FLOATS[wire.size], pattern.to_bytes(wire.size // 8, "big"))[0]
        return None if math.isnan(number) else number
    return float(pattern)


def _swapped(cells: bytes) -> bytes:
    turned = bytearray(cells)
    turned[0::2], turned[1::2] = cells[1::2], cells[0::2]
    return bytes(turned)


def reordered(cells: bytes, order: Order) -> bytes:
    """Bytes of a number between "most significant first" and the order of registers; its own inverse."""
    if order == "DCBA":
        return cells[::-1]
    if order == "CDAB":
        return b"".join(cells[i : i + 2] for i in range(len(cells) - 2, -1, -2))
    return _swapped(cells) if order == "BADC" else cells
