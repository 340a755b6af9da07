"""Modbus requests and replies as bytes, and what makes a reply the one that was asked for; no I/O.

TCP   transaction u16 | 0 u16 | length u16 | unit u8 | function u8 | ...
RTU   unit u8 | function u8 | ... | CRC u16
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from twinmodel.profile.address import Table

FUNCTIONS: dict[Table, int] = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
EXCEPTION = 0x80
INTERFACE_TRANSPORT = 0x2B
PDU_MAX = 253
ILLEGAL_ADDRESS, ILLEGAL_VALUE, ACKNOWLEDGE, BUSY, NO_PATH, NO_TARGET = 2, 3, 5, 6, 10, 11
_HEAD = struct.Struct(">HHHB")


class FramingError(Exception):
    """Bytes after which the beginning of the next reply is not known."""


@dataclass(frozen=True, slots=True)
class Request:
    """A read as it is sent.

    Attributes:
        body: function, first address and count.
        function: code that the reply must bear.
        size: bytes of values that were asked for, -1 where only the reply tells.
        place: what is read, for messages.
    """

    body: bytes
    function: int
    size: int
    place: str

    @staticmethod
    def read(table: Table, start: int, count: int) -> Request:
        """The request for `count` registers or bits from `start`."""
        function = FUNCTIONS[table]
        size = (count + 7) // 8 if table in {"coil", "discrete"} else 2 * count
        return Request(struct.pack(">BHH", function, start, count), function, size, f"{table} {start}+{count}")


@dataclass(frozen=True, slots=True)
class Values:
    """The bytes of a good reply."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The unit answered with an exception."""

    code: int


@dataclass(frozen=True, slots=True)
class Malformed:
    """The unit answered with something that is no reply to the request.

    Attributes:
        text: what it is.
        length: whether only its length is wrong.
    """

    text: str
    length: bool = False


Answer = Values | Refused | Malformed


def read_answer(body: bytes, request: Request) -> Answer:
    """What a reply says; `body` begins with the function code."""
    if not body:
        return Malformed("an empty reply")
    function = body[0]
    if function == request.function and request.size < 0:
        return Values(body[1:])
    if function == request.function:
        size = body[1] if len(body) > 1 else 0
        if size == len(body) - 2 == request.size:
            return Values(body[2:])
        return Malformed(
            f"{len(body) - 2} bytes, announced as {size}, where {request.size} were asked for", length=True
        )
    if function == request.function | EXCEPTION and len(body) == 2:
        return Refused(body[1])
    return Malformed(f"function {function} where {request.function} was asked for")


def tcp_frame(transaction: int, unit: int, body: bytes) -> bytes:
    """A request on TCP."""
    return _HEAD.pack(transaction, 0, len(body) + 1, unit) + body


def tcp_replies(buffer: bytearray) -> Iterator[tuple[int, int, bytes]]:
    """Takes whole replies from the front of a buffer: (transaction, unit, body).

    Raises:
        FramingError: the head of a reply cannot be one.
    """
    while len(buffer) >= _HEAD.size:
        transaction, protocol, length, unit = _HEAD.unpack_from(buffer)
        if protocol or not 2 <= length <= PDU_MAX + 1:
            raise FramingError(f"a reply of protocol {protocol} and {length} bytes")
        if len(buffer) < length + 6:
            return
        body = bytes(buffer[7 : length + 6])
        del buffer[: length + 6]
        yield transaction, unit, body
