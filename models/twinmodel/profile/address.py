"""The small languages inside a profile: register addresses, wire types and paths into a payload."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Table = Literal["coil", "discrete", "input", "holding"]

_ADDRESS = re.compile(r"(coil|discrete|input|holding)\s+(\d{1,6})(?:\.(\d{1,2})(?:-(\d{1,2}))?)?")
_TYPE = re.compile(r"([a-z]+?)(8h|8l|16|32|64)?(?:\((\d{1,3})\))?")
_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_\-]*)|\[(\d{1,6})\]|\['([^']+)'\]")
REGISTERS = 1 << 16
SIZES = {"int": ("8h", "8l", "16", "32", "64"), "uint": ("8h", "8l", "16", "32", "64"), "float": ("16", "32", "64")}
SIZES["bcd"] = ("16", "32")
STRING_MAX = 250


@dataclass(frozen=True, slots=True)
class RegisterAddress:
    """Where a Modbus point lies.

    Attributes:
        number: address on the wire, counted from 0.
        bit: lowest bit of a register the point takes, 0 is the least significant; None for whole registers.
        width: number of bits, more than 1 for a bit field.
    """

    table: Table
    number: int
    bit: int | None = None
    width: int = 1

    @property
    def single_bits(self) -> bool:
        """Whether the table holds bits, not registers."""
        return self.table in {"coil", "discrete"}


@dataclass(frozen=True, slots=True)
class WireType:
    """Type of a value on the wire.

    Attributes:
        name: `bit`, `int`, `uint`, `float`, `bcd` or `string`.
        size: bits of a number, bytes of a string, 1 for `bit`.
        half: `h` or `l` for an 8-bit number in the high or low byte of a register.
    """

    name: str
    size: int
    half: str = ""

    @property
    def registers(self) -> int:
        """Registers of 16 bits the value fills."""
        return 1 if self.name == "bit" else (self.size + 1) // 2 if self.name == "string" else max(1, self.size // 16)


def parse_address(text: str, base: int) -> RegisterAddress:
    """Reads `holding 120`, `holding 120.3` (a bit) or `holding 120.4-7` (a bit field of one register).

    Args:
        text: the address.
        base: whether it counts from 0 or from 1.

    Raises:
        ValueError: no address, or one outside the table or the register.
    """
    found = _ADDRESS.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"{text!r} is no address; write coil|discrete|input|holding N; N.bit or N.low-high in registers"
        )
    number = int(found[2]) - base
    if not 0 <= number < REGISTERS:
        raise ValueError(f"{text!r} lies outside {base}..{REGISTERS - 1 + base}")
    bit = int(found[3]) if found[3] is not None else None
    if bit is not None and (found[1] in {"coil", "discrete"} or bit > 15):
        raise ValueError(f"{text!r}: bits 0..15 exist in registers only")
    last = int(found[4]) if found[4] is not None else bit
    if bit is not None and last is not None and not bit <= last <= 15:
        raise ValueError(f"{text!r}: write a bit field as N.low-high, bits 0..15")
    width = 1 if bit is None or last is None else last - bit + 1
    return RegisterAddress(found[1], number, bit, width)  # type: ignore[arg-type]  # the expression allows only these tables


def parse_type(text: str) -> WireType:
    """Reads `float32`, `uint16`, `bit`, `uint` (a bit field), `string(16)`, `bcd32`, `uint8h` ... Raises ValueError."""
    found = _TYPE.fullmatch(text.strip())
    name, size, length = found.groups() if found else (None, None, None)
    if name in {"bit", "bool"} and size is None and length is None:
        return WireType("bit", 1)
    if name == "uint" and size is None and length is None:
        return WireType("uint", 16)
    if name == "string" and size is None and length is not None and 1 <= int(length) <= STRING_MAX:
        return WireType("string", int(length))
    if name is not None and size in SIZES.get(name, ()) and length is None:
        return WireType(name, int(size[:-1]), size[-1]) if size in {"8h", "8l"} else WireType(name, int(size))
    raise ValueError(
        f"{text!r} is no type; use bit, uint (bits N.low-high), int16|32|64, uint16|32|64, int8h|8l, uint8h|8l, "
        f"float16|32|64, bcd16|32, string(1..{STRING_MAX})"
    )


def parse_json_path(text: str) -> tuple[str | int, ...]:
    """Reads `$`, `$.a.b[0]` or `$['odd key']` into the steps to take. Raises ValueError."""
    text = text.strip()
    if not text.startswith("$"):
        raise ValueError(f"{text!r} is no JSON path; write e.g. $.flow or $.tanks[0].level")
    steps: list[str | int] = []
    position = 1
    while position < len(text):
        found = _STEP.match(text, position)
        if found is None:
            raise ValueError(f"{text!r} is no JSON path from {text[position:]!r} on; use .name, [0] or ['name']")
        steps.append(int(found[2]) if found[2] is not None else found[1] or found[3])
        position = found.end()
    return tuple(steps)
