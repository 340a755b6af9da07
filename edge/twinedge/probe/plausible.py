"""Registers of unknown meaning as numbers in all byte orders, and which of them is likely what the maker meant.

Nothing in a register tells its type or order. What tells is the value: it lies in the range that is expected, it has a
sane size, it barely moves between two reads (a wrong order makes the fast low byte the high one), it is short in
decimals. Each candidate gets a score from that; the best is starred when it is good enough, with its grounds.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, get_args

from twinedge.drivers.decode import NoValueError, decode_number, decode_string
from twinmodel.profile.address import WireType, parse_type
from twinmodel.profile.schema import Order

ORDERS: Final[tuple[Order, ...]] = get_args(Order)
TYPES: Final = ("uint16", "int16", "float32", "uint32", "int32", "float64", "uint64", "int64")
STAR_FROM: Final = 0.5
JUMP: Final = 0.25
TINY: Final = 0.03
"""Score of a number that is nobody's value, such as 2e-41, and no better for lying inside a range."""
_PRINTABLE_MIN: Final = 4
_RANK: Final = {"ABCD": 0.03, "CDAB": 0.02, "BADC": 0.01, "DCBA": 0.0}
_NOTHING: Final = {0x8000, 0xFFFF, 0x7FFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FC00000, 0xFFC00000}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to read the registers.

    Attributes:
        as_: type.
        order: of the bytes.
        value: number or text of the last read, None where it is none.
        score: from 0 to about 1.5.
        grounds: why.
    """

    as_: str
    order: Order
    value: float | str | None
    score: float
    grounds: tuple[str, ...]


def candidates(
    reads: Sequence[Sequence[int]], types: Sequence[str], low_high: tuple[float, float] | None, scale: float = 1.0
) -> list[Candidate]:
    """All ways to read the registers.

    Args:
        reads: registers from the same address, read several times, shape (reads, registers).
        types: wire types such as `float32`; those that need more registers are left out.
        low_high: where the value is expected to lie, after `scale`.
        scale: what raw numbers are multiplied with.
    """
    found = []
    for as_ in types:
        wire = parse_type(as_)
        if wire.registers > len(reads[0]) or wire.name == "bit":
            continue
        for order in ORDERS:
            cells = [read[: wire.registers] for read in reads]
            if wire.name == "string":
                found.append(_text(as_, wire, order, cells))
            else:
                found.append(_number(as_, wire, order, cells, low_high, scale))
    return found


def best(found: Sequence[Candidate]) -> Candidate | None:
    """The plausible one; of equals the first: most devices are ABCD. None when nothing speaks for any."""
    top = max(found, key=lambda c: c.score, default=None)
    return top if top is not None and top.score >= STAR_FROM else None


def as_text(registers: Sequence[int]) -> str:
    """What the registers are as text, "" when it is none."""
    orders: tuple[Order, ...] = ("ABCD", "BADC")
    for order in orders:
        try:
            text = decode_string(registers, WireType("string", 2 * len(registers)), order)
        except NoValueError:
            continue
        if len(text) >= _PRINTABLE_MIN and text.isprintable() and text.isascii():
            return text
    return ""


def finite(value: float | str | None) -> float | str | None:
    """A value that JSON can carry."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def shown(value: float | str | None) -> str:
    """A value as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return repr(value)
    return f"{value:.7g}" if isinstance(value, float) or abs(value) >= 10**12 else str(value)


def _text(as_: str, wire: WireType, order: Order, reads: Sequence[Sequence[int]]) -> Candidate:
    try:
        text = decode_string(reads[-1], wire, order)
    except NoValueError:
        return Candidate(as_, order, None, 0.0, ())
    if not text or not text.isprintable():
        return Candidate(as_, order, text or None, 0.0, ())
    letters = sum(c.isalnum() or c in " .-_/" for c in text) / len(text)
    return Candidate(as_, order, text, letters + _RANK[order], ("printable text",))


def _number(
    as_: str,
    wire: WireType,
    order: Order,
    reads: Sequence[Sequence[int]],
    low_high: tuple[float, float] | None,
    scale: float,
) -> Candidate:
    values: list[float] = []
    pattern = 0
    for read in reads:
        try:
            raw, pattern = decode_number(read, wire, order)
        except NoValueError:
            return Candidate(as_, order, None, 0.0, ())
        values.append(raw if scale == 1.0 else raw * scale)
    value = values[-1]
    if not all(math.isfinite(v) for v in values):
        return Candidate(as_, order, value, 0.0, ())
    score, grounds = _size(value / scale, wire, pattern)
    if wire.size <= 16 and order in {"BADC", "DCBA"}:
        score *= 0.8  # hardly a device swaps the bytes of a single register
    if low_high is not None:
        if score < TINY or not all(low_high[0] <= v <= low_high[1] for v in values):
            return Candidate(as_, order, value, 0.0, ())
        score += 0.7
        grounds = [f"inside {low_high[0]:g}..{low_high[1]:g}", *grounds]
    steady = _steadiness(values)
    if steady is None:
        score *= 0.3
        grounds.append("but it jumps between reads")
    elif len(values) > 1:
        grounds.append(steady)
    return Candidate(as_, order, value, score + _RANK[order] * (score > 0), tuple(grounds))


def _size(raw: float, wire: WireType, pattern: int) -> tuple[float, list[str]]:
    """How sane a number is by itself."""
    if wire.size >= 16 and pattern in _NOTHING and wire.name != "float":
        return 0.05, ["makers use this number for no value"]
    if raw == 0:
        return 0.3, ["0 says nothing of the order"]
    if wire.name == "float":
        return _float_size(float(raw), wire)
    return _integer_size(raw, wire)


def _integer_size(raw: float, wire: WireType) -> tuple[float, list[str]]:
    size, usual = abs(raw), ["a number of usual size"]
    if wire.size <= 16:
        return (0.55 if raw > 0 and size <= 20_000 else 0.4 if size <= 20_000 else 0.25), usual
    if int(raw) % (1 << (16 if wire.size == 32 else 48)) == 0:
        return 0.05, ["only its high word is set: the words are likely swapped"]
    if size < 1 << 27:
        # Below 2^16 one register would do; beyond 2^24 a wrong order of a smaller number is as likely.
        return (0.5 if size < 1 << 16 or size >= 1 << 24 else 0.6), usual
    return (0.2 if size < 1 << (wire.size - 4) else 0.05), []


def _float_size(value: float, wire: WireType) -> tuple[float, list[str]]:
    size = abs(value)
    grounds = ["finite, of usual size"]
    if 1e-2 <= size < 1e6:
        score = 0.9
    elif 1e-6 <= size < 1e9:
        score, grounds = 0.45, ["finite"]
    else:
        return 0.02, []
    digits = len(f"{_shortest(value, wire)}".strip("-").replace(".", "").strip("0"))
    if digits <= 5:
        score += 0.3
        grounds.append("few digits")
    return score * (0.9 if value < 0 else 1.0), grounds


def _shortest(value: float, wire: WireType) -> str:
    """The shortest decimal that gives the same number on the wire."""
    form = {16: ">e", 32: ">f", 64: ">d"}[wire.size]
    for digits in range(1, 17):
        text = f"{value:.{digits}g}"
        if struct.pack(form, float(text)) == struct.pack(form, value):
            return f"{float(text):.{digits}f}" if "e" in text else text
    return repr(value)


def _steadiness(values: Sequence[float]) -> str | None:
    """In words how it moved; None for jumps."""
    spread = max(values) - min(values)
    if spread == 0:
        return f"the same in {len(values)} reads"
    size = max(abs(v) for v in values)
    if spread > max(JUMP * size, 2.0 if all(isinstance(v, int) for v in values) else 0.0):
        return None
    return f"within {100 * spread / size:.2g} % in {len(values)} reads" if size else "steady"


def rows(found: Sequence[Candidate]) -> Iterator[tuple[str, list[Candidate]]]:
    """Candidates by type, each with its four orders."""
    for as_ in dict.fromkeys(c.as_ for c in found):
        yield as_, [c for c in found if c.as_ == as_]
