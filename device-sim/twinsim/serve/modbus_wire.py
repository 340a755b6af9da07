"""A lean Modbus server, TCP or RTU over TCP, for many units on many ports, with every misbehaviour of devices.

    request ──▶ frame ──▶ unit.answer(pdu) ──▶ reply ──▶ misbehaviour ──▶ connection ──▶ unit.given_out

It answers a read in some ten microseconds, so that a thousand devices fit on a part of a core. Requests of one
connection are answered in the order they came, but for those of a late unit.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Literal, Protocol

from twinmodel.errors import ConflictError
from twinmodel.profile.address import Table
from twinsim.faults import FaultKind, FaultPanel
from twinsim.image.cells import BUSY, FAILURE, ILLEGAL_FUNCTION, ILLEGAL_VALUE, RefusedError, unpack_bits

Framing = Literal["tcp", "rtu"]
NO_RESPONSE = 11
BUFFER_MAX = 4096
BACKLOG = 1024
_HEAD = struct.Struct(">HHHB")
_FIXED = {1: 6, 2: 6, 3: 6, 4: 6, 5: 6, 6: 6, 22: 8}


class Unit(Protocol):
    """One device as the wire sees it."""

    @property
    def faults(self) -> FaultPanel:
        """Its misbehaviour."""
        ...

    @property
    def away(self) -> bool:
        """Whether it has no power."""
        ...

    def answer(self, pdu: bytes, connection: str) -> bytes:
        """The reply to a request, function code first; an exception for what it refuses, nothing to stay silent."""
        ...

    def given_out(self, pdu: bytes, reply: bytes, connection: str) -> None:
        """Takes note: the reply was handed to an open connection, unspoilt."""
        ...


def exception(function: int, code: int) -> bytes:
    """An exception reply."""
    return bytes((function | 0x80, code))


def write_of(pdu: bytes) -> tuple[Table, int, bytes]:
    """Table, first cell and cells of a write request. Raises RefusedError."""
    function = pdu[0]
    if function not in {5, 6, 15, 16}:
        raise RefusedError(ILLEGAL_FUNCTION)
    start = int.from_bytes(pdu[1:3], "big")
    if function in {5, 6}:
        if len(pdu) != 5 or (function == 5 and pdu[3:] not in {b"\xff\0", b"\0\0"}):
            raise RefusedError(ILLEGAL_VALUE)
        return ("coil", start, bytes([pdu[3] == 0xFF])) if function == 5 else ("holding", start, pdu[3:])
    count, cells = int.from_bytes(pdu[3:5], "big"), pdu[6:]
    expected = (count + 7) // 8 if function == 15 else 2 * count
    if len(pdu) < 6 or pdu[5] != len(cells) or len(cells) != expected or not 1 <= count <= 1968:
        raise RefusedError(ILLEGAL_VALUE)
    return ("coil", start, unpack_bits(cells, count)) if function == 15 else ("holding", start, cells)


def crc16(frame: bytes) -> bytes:
    """The check of an RTU frame (Modbus over serial line 1.02, 6.2.2), low byte first."""
    crc = 0xFFFF
    for byte in frame:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc.to_bytes(2, "little")


def _crc_entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0xA001 if byte & 1 else 0)
    return byte


_CRC = [_crc_entry(byte) for byte in range(256)]


def framed(framing: Framing, transaction: int, unit: int, pdu: bytes) -> bytes:
    """A message as it goes over the wire."""
    if framing == "tcp":
        return _HEAD.pack(transaction & 0xFFFF, 0, len(pdu) + 1, unit & 0xFF) + pdu
    body = bytes((unit & 0xFF,)) + pdu
    return body + crc16(body)


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._buffer = b""
        self._loop = asyncio.get_running_loop()
        self._mute = False
        self._tail = 0.0
        self.name = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport), "a stream"
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.name = f"{peer[0]}:{peer[1]}"
        self._listener.connections.add(self)
        if self._listener.all_away:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        del exc
        self._listener.connections.discard(self)

    def reset(self) -> None:
        """Ends the connection by a reset, as a device that loses its power does."""
        sock: socket.socket | None = self._transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._buffer += data
        if len(self._buffer) > BUFFER_MAX and self._mute:
            self._buffer = b""
        take = self._take_tcp if self._listener.framing == "tcp" else self._take_rtu
        while not self._mute:
            request = take()
            if request is None:
                return
            self._serve(*request)

    def _take_tcp(self) -> tuple[int, int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 8:
            return None
        transaction, protocol, length, unit = _HEAD.unpack_from(buffer)
        if protocol or not 2 <= length <= 254:
            self.reset()
            return None
        if len(buffer) < 6 + length:
            return None
        self._buffer = buffer[6 + length :]
        return transaction, unit, buffer[7 : 6 + length]

    def _take_rtu(self) -> tuple[int, int, bytes] | None:
        """The next frame; noise in front of it is passed over byte by byte, as the check tells."""
        while len(self._buffer) >= 8:
            buffer = self._buffer
            size = _FIXED.get(buffer[1], 7 + buffer[6] if buffer[1] in {15, 16} else 6) + 2
            if len(buffer) < size:
                return None
            if crc16(buffer[: size - 2]) == buffer[size - 2 : size]:
                self._buffer = buffer[size:]
                return 0, buffer[0], buffer[1 : size - 2]
            self._buffer = buffer[1:]
        return None

    def _serve(self, transaction: int, number: int, pdu: bytes) -> None:
        listener = self._listener
        listener.requests += 1
        unit = listener.alone if listener.alone is not None else listener.units.get(number)
        if unit is None:
            if listener.framing == "tcp":  # behind a serial line nobody answers for a unit that is not there
                self._transport.write(framed("tcp", transaction, number, exception(pdu[0], NO_RESPONSE)))
            return
        if unit.away:
            return
        if not unit.faults:
            reply = unit.answer(pdu, self.name)
            self._transport.write(framed(listener.framing, transaction, number, reply))
            unit.given_out(pdu, reply, self.name)
        else:
            self._misbehave(unit, transaction, number, pdu)

    def _misbehave(self, unit: Unit, transaction: int, number: int, pdu: bytes) -> None:
        faults, reply = unit.faults, b""
        if faults.size(FaultKind.HALF_OPEN) is not None:
            self._mute = True
            return
        if faults.silent:
            return
        if faults.strikes(FaultKind.RESET):
            self.reset()
            return
        code = faults.size(FaultKind.EXCEPTION)
        if faults.strikes(FaultKind.BUSY):
            reply = exception(pdu[0], BUSY)
        elif code is not None:
            reply = exception(pdu[0], int(code))
        elif faults.refusing:
            reply = exception(pdu[0], FAILURE)
        whole = reply or unit.answer(_moved(pdu, faults.size(FaultKind.MAP_CHANGE)), self.name)
        if not whole:
            return
        reply = _resized(whole, faults)
        spoilt = reply is not whole
        if faults.size(FaultKind.WRONG_ID) is not None and self._listener.framing == "tcp":
            transaction, spoilt = transaction + 1, True
        if faults.size(FaultKind.WRONG_UNIT) is not None:
            number, spoilt = number + 1, True
        frame = framed(self._listener.framing, transaction, number, reply)
        note = None if spoilt or reply[0] & 0x80 else (unit, pdu, reply)
        self._send_slowly(frame, faults, note)

    def _send_slowly(self, frame: bytes, faults: FaultPanel, note: tuple[Unit, bytes, bytes] | None) -> None:
        wait_s, pause_s = faults.size(FaultKind.LATE) or 0.0, faults.size(FaultKind.BYTE_BY_BYTE)
        now_s = self._loop.time()
        if pause_s is None:
            self._at(now_s + wait_s, frame, note)
            return
        start_s = max(now_s + wait_s, self._tail)  # bytes of two replies never mix
        for i in range(len(frame)):
            self._at(start_s + i * pause_s, frame[i : i + 1], note if i == len(frame) - 1 else None)
        self._tail = start_s + len(frame) * pause_s

    def _at(self, when_s: float, part: bytes, note: tuple[Unit, bytes, bytes] | None) -> None:
        if when_s <= self._loop.time():
            self._write(part, note)
        else:
            self._loop.call_at(when_s, self._write, part, note)

    def _write(self, part: bytes, note: tuple[Unit, bytes, bytes] | None) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(part)
        if note is not None:
            note[0].given_out(note[1], note[2], self.name)


def _moved(pdu: bytes, by: float | None) -> bytes:
    """The request as it finds the registers after all of them moved `by` places up."""
    if not by or len(pdu) < 5:
        return pdu
    start = (int.from_bytes(pdu[1:3], "big") - int(by)) & 0xFFFF
    return pdu[:1] + start.to_bytes(2, "big") + pdu[3:]


def _resized(reply: bytes, faults: FaultPanel) -> bytes:
    """A read's reply with registers left out or added, its length as if that were right."""
    if reply[0] & 0x80 or reply[0] > 4:
        return reply
    if (missing := faults.size(FaultKind.SHORT)) is not None:
        cells = reply[2 : max(2, len(reply) - 2 * int(missing))]
    elif (extra := faults.size(FaultKind.OVERSIZED)) is not None:
        cells = (reply[2:] + bytes(2 * int(extra)))[:250]
    else:
        return reply
    return bytes((reply[0], len(cells))) + cells


class Listener:
    """One port.

    Attributes:
        units: by unit id.
        alone: the one device that answers whatever unit id it is asked by.
        connections: open ones.
        requests: answered so far.
    """

    def __init__(self, units: Mapping[int, Unit], *, alone: bool = False, framing: Framing = "tcp") -> None:
        self.units = units
        self.alone: Unit | None = next(iter(units.values())) if alone else None
        self.framing: Framing = framing
        self.connections: set[Connection] = set()
        self.requests = 0

    @property
    def all_away(self) -> bool:
        """Whether nobody behind the port has power: nothing takes a connection."""
        return all(unit.away for unit in self.units.values()) and bool(self.units)

    def drop(self) -> None:
        """Resets all connections, once nobody behind the port has power any more."""
        if self.connections and self.all_away:
            for connection in tuple(self.connections):
                connection.reset()


@asynccontextmanager
async def listening(listener: Listener, host: str, port: int) -> AsyncIterator[int]:
    """Serves a port while the context is open and yields its number.

    Raises:
        ConflictError: PORT_IN_USE.
    """
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(lambda: Connection(listener), host, port, backlog=BACKLOG)
    except OSError as refused:
        text = f"cannot listen on {host}:{port} for modbus: {refused.strerror or refused}"
        raise ConflictError("PORT_IN_USE", text, port=port) from refused
    try:
        found: int = server.sockets[0].getsockname()[1]
        yield found
    finally:
        server.close()
        for connection in tuple(listener.connections):
            connection.reset()
        await server.wait_closed()
