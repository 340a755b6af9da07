"""OPC UA's built-in types from bytes (Part 6, 5.2): one position in a message, and the values read from it.

Nothing here trusts a length or a count: what is cut short raises `WireError`. What is rare (node ids as values,
qualified names ...) is skipped with the library's own decoder.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

BOOLEAN, FLOAT, DOUBLE, STRING, DATE_TIME = 1, 10, 11, 12, 13
GUID, BYTE_STRING, XML, STATUS, LOCALIZED_TEXT, STRUCTURE = 14, 15, 16, 19, 21, 22
INTEGERS: Final = frozenset(range(2, 10))
DIAGNOSTICS_DEPTH_MAX: Final = 8
DTYPES: Final = {
    1: "u1",
    2: "i1",
    3: "u1",
    4: "<i2",
    5: "<u2",
    6: "<i4",
    7: "<u4",
    8: "<i8",
    9: "<u8",
    10: "<f4",
    11: "<f8",
    13: "<i8",
    19: "<u4",
}
_SCALARS: Final = {
    1: struct.Struct("<?"),
    2: struct.Struct("<b"),
    3: struct.Struct("<B"),
    4: struct.Struct("<h"),
    5: struct.Struct("<H"),
    6: struct.Struct("<i"),
    7: struct.Struct("<I"),
    8: struct.Struct("<q"),
    9: struct.Struct("<Q"),
    10: struct.Struct("<f"),
    11: struct.Struct("<d"),
    13: struct.Struct("<q"),
    19: struct.Struct("<I"),
}
_U16, _U32, _I32, _I64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<i"), struct.Struct("<q")


class WireError(Exception):
    """The bytes are no publish response."""


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A value that no signal can carry, and what it is."""

    what: str


class Cursor:
    """A position in the bytes of a message; each method reads one thing and moves behind it."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0
        self._readers: dict[int, Callable[[], Any]] = {
            0: lambda: None,
            STRING: self._text,
            XML: self._text,
            GUID: self._guid,
            BYTE_STRING: self._octets,
            LOCALIZED_TEXT: self._localized,
            STRUCTURE: self._structure,
        }

    def variant(self) -> tuple[int, Any]:
        """A value and the number of its built-in type; a list for an array."""
        start, encoding = self.at, self.byte()
        kind = encoding & 0x3F
        if not encoding & 0xC0:
            scalar = _SCALARS.get(kind)
            if scalar is not None:
                value = scalar.unpack_from(self.body, self.at)[0]
                self.at += scalar.size
                return kind, value
        read = self._element(kind)
        if read is None:
            self.at = start
            return kind, self._foreign()
        if not encoding & 0x80:
            return kind, read()
        value = self._array(kind, read)
        if encoding & 0x40:
            self.skip(4 * self.count(4))
        return kind, value

    def _array(self, kind: int, read: Callable[[], Any]) -> Any:
        count = self.count(1)
        if kind not in DTYPES:
            return [read() for _ in range(count)]
        column = np.frombuffer(self.body, DTYPES[kind], count, self.at)
        self.skip(column.nbytes)
        return (column.astype(bool) if kind == BOOLEAN else column).tolist()

    def _element(self, kind: int) -> Callable[[], Any] | None:
        """What reads one value of a type, None for types without a reader here."""
        return partial(self._scalar, kind) if kind in _SCALARS else self._readers.get(kind)

    def _scalar(self, kind: int) -> Any:
        found = _SCALARS[kind].unpack_from(self.body, self.at)[0]
        self.at += _SCALARS[kind].size
        return found

    def _text(self) -> str | Unsupported | None:
        raw = self.octets()
        try:
            return None if raw is None else raw.decode()
        except UnicodeDecodeError:
            return Unsupported("text that is not UTF-8")

    def _octets(self) -> Unsupported | None:
        return None if self.octets() is None else Unsupported("byte string")

    def _guid(self) -> Unsupported:
        self.skip(16)
        return Unsupported("GUID")

    def _localized(self) -> str | Unsupported | None:
        mask = self.byte()
        if mask & 1:
            self.octets()
        return self._text() if mask & 2 else None

    def _structure(self) -> Unsupported:
        self.node_id()
        if self.byte():
            self.octets()
        return Unsupported("structure")

    def _foreign(self) -> Any:
        """A type without a reader here: the library finds its end."""
        from asyncua.common.utils import Buffer, NotEnoughData  # noqa: PLC0415  # the library, for rare types only
        from asyncua.ua.ua_binary import variant_from_binary  # noqa: PLC0415

        rest = Buffer(self.body, self.at)
        try:
            found: Any = variant_from_binary(rest)
        except (NotEnoughData, ValueError, TypeError, KeyError) as wrong:
            raise WireError("a value that cannot be read") from wrong
        self.at = len(self.body) - len(rest)
        return Unsupported(found.VariantType.name)

    def node_id(self) -> int:
        """Reads a node id; its number, or -1 when it has none."""
        kind = self.byte()
        form = kind & 0x3F
        if form == 0:
            return self.byte()
        if form == 1:
            self.skip(1)
            self.at += 2
            return int(_U16.unpack_from(self.body, self.at - 2)[0])
        self.skip(2)
        if form == 2:
            return self.u32()
        if form == 4:
            self.skip(16)
        elif form in {3, 5}:
            self.octets()
        else:
            raise WireError(f"a node id of form {form}")
        return -1

    def diagnostics(self, depth: int = 0) -> None:
        """Part 6, 5.2.2.12."""
        mask = self.byte()
        for bit in (1, 2, 4, 8):
            if mask & bit:
                self.skip(4)
        if mask & 16:
            self.octets()
        if mask & 32:
            self.skip(4)
        if mask & 64:
            if depth > DIAGNOSTICS_DEPTH_MAX:
                raise WireError("diagnostics too deep")
            self.diagnostics(depth + 1)

    def count(self, item_min: int) -> int:
        """Length of an array whose items take `item_min` bytes at least; -1 stands for none."""
        count = max(0, self.i32())
        if count * item_min > len(self.body) - self.at:
            raise WireError(f"an array of {count} in {len(self.body)} bytes")
        return count

    def skip(self, size: int) -> None:
        """Moves on. Raises WireError beyond the end."""
        self.at += size
        if self.at > len(self.body):
            raise WireError("cut short")

    def byte(self) -> int:
        """An unsigned byte."""
        self.at += 1
        return self.body[self.at - 1]

    def octets(self) -> bytes | None:
        """A ByteString or the bytes of a String; None for null."""
        length = self.i32()
        if length < 0:
            return None
        self.skip(length)
        return self.body[self.at - length : self.at]

    def u32(self) -> int:
        """A UInt32."""
        self.at += 4
        return int(_U32.unpack_from(self.body, self.at - 4)[0])

    def i32(self) -> int:
        """An Int32."""
        self.at += 4
        return int(_I32.unpack_from(self.body, self.at - 4)[0])

    def i64(self) -> int:
        """An Int64, or a DateTime in 100 ns since 1601."""
        self.at += 8
        return int(_I64.unpack_from(self.body, self.at - 8)[0])
