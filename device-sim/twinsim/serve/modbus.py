"""Modbus TCP server for many tanks behind one port, one unit id each.

    input registers      0-1 level2 float32 | 2-3 pump float32 | 4-5 sample_no uint32 | 6 status uint16   (order ABCD)
    holding registers    0-1 pump_set float32 | 100-107 identity, 16 ASCII characters
    coil 0, discrete 0   running          coil 1   manual

`status` is a set of bits: 1 running, 2 level low, 4 level high. All registers of one answer come from the same tick.

`pump_set` and `manual` alone can be written: a voltage (0 to 10 V) holds the pump and makes it manual; `manual` 0 gives
it back to the controller, 1 holds it where it is. On automatic `pump_set` reads as the voltage of the controller.

What counts as served: an answer to "read input registers" that covers both registers of the sample number, built
without an exception and written to a connection that was open at that moment. Each such answer carries the next
number. An answer written just before the connection broke may not have arrived; no device can know that.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog

from twinmodel.clock import Clock
from twinmodel.profile.address import Table
from twinsim.device import Device
from twinsim.faults import FaultPanel
from twinsim.firmware import IDENTITY
from twinsim.image.cells import ILLEGAL_ADDRESS, ILLEGAL_FUNCTION, ILLEGAL_VALUE, RefusedError
from twinsim.plants.tanks import Tanks
from twinsim.serve.modbus_wire import Listener, exception, listening, write_of
from twinsim.served import ServedLog

UNITS_MAX = 247
SAMPLE_NO_AT = 4
IDENTITY_AT = 100
POINTS = (("level2", 0, 2), ("pump", 2, 2), ("sample_no", 4, 2), ("status", 6, 1))
HELD = ("pump_set", "manual")
"""Points that can be written; they are not of the numbered answers."""
PUMP_MAX_V = 10.0
RUNNING_AT, MANUAL_AT = 0, 1
READ_COILS, READ_DISCRETE, READ_HOLDING, READ_INPUT = 1, 2, 3, 4
READ_MAX = 125
RUNNING, LEVEL_LOW, LEVEL_HIGH = 1, 2, 4
_WRITES = {5, 6, 15, 16}
_log = structlog.get_logger(__name__)


def registers_of(device: Device, sample_no: int) -> bytes:
    """The seven input registers of one instant."""
    level = device.reading["level2"]
    status = RUNNING | (LEVEL_LOW if level < 0.05 else 0) | (LEVEL_HIGH if level > 0.95 else 0)
    return struct.pack(">ffIH", level, device.reading["pump"], sample_no, status)


def _covers_sample_no(address: int, count: int) -> bool:
    return address <= SAMPLE_NO_AT and address + count >= SAMPLE_NO_AT + 2


class TankUnit:
    """One tank behind the wire; its pump can be held, and nothing else of it be written."""

    def __init__(self, device: Device, log: ServedLog, clock: Clock) -> None:
        self._device, self._log, self._clock = device, log, clock
        assert isinstance(device.plant, Tanks)
        self._tanks = device.plant

    @property
    def faults(self) -> FaultPanel:
        """See `Unit`."""
        return self._device.faults

    @property
    def away(self) -> bool:
        """See `Unit`."""
        return False

    def answer(self, pdu: bytes, connection: str) -> bytes:
        """See `Unit`."""
        del connection
        function = pdu[0]
        try:
            if function in _WRITES:
                self._obey(*write_of(pdu))
                return pdu[:5]
            return self._read(function, *(struct.unpack(">HH", pdu[1:]) if len(pdu) == 5 else (0, 0)))
        except RefusedError as refused:
            return exception(function, refused.code)

    def _read(self, function: int, start: int, count: int) -> bytes:
        device = self._device
        if function not in {READ_COILS, READ_DISCRETE, READ_HOLDING, READ_INPUT}:
            raise RefusedError(ILLEGAL_FUNCTION)
        if not 1 <= count <= READ_MAX:
            raise RefusedError(ILLEGAL_VALUE)
        if function in {READ_COILS, READ_DISCRETE}:
            bits = (True, self._tanks.held_v is not None)[: 2 if function == READ_COILS else 1]
            if start + count > len(bits):
                raise RefusedError(ILLEGAL_ADDRESS)
            return bytes((function, 1, sum(bit << at for at, bit in enumerate(bits[start : start + count]))))
        first, cells = 0, registers_of(device, device.sample_no)
        if function == READ_HOLDING:
            first, cells = (IDENTITY_AT, IDENTITY.encode()) if start >= IDENTITY_AT else (0, self._pump_set())
        if 2 * (start - first + count) > len(cells):
            raise RefusedError(ILLEGAL_ADDRESS)
        if function == READ_INPUT and _covers_sample_no(start, count):
            cells = registers_of(device, device.next_sample())
        part = cells[2 * (start - first) : 2 * (start - first + count)]
        return bytes((function, len(part))) + part

    def _pump_set(self) -> bytes:
        held_v = self._tanks.held_v
        return struct.pack(">f", self._device.reading["pump"] if held_v is None else held_v)

    def _obey(self, table: Table, start: int, cells: bytes) -> None:
        """Holds the pump, or gives it back. Raises RefusedError."""
        tanks = self._tanks
        if table == "coil" and start == MANUAL_AT and len(cells) == 1:
            tanks.held_v = tanks.pump_v if cells[0] else None
        elif table == "holding" and start == 0 and len(cells) == 4:
            (wanted_v,) = struct.unpack(">f", cells)
            if not 0 <= wanted_v <= PUMP_MAX_V:
                raise RefusedError(ILLEGAL_VALUE)
            tanks.held_v = wanted_v
        else:
            raise RefusedError(ILLEGAL_ADDRESS)
        _log.info("the pump is held" if tanks.held_v is not None else "the pump is automatic", device=self._device.name)

    def given_out(self, pdu: bytes, reply: bytes, connection: str) -> None:
        """See `Unit`: writes the record of one answered poll, if it carried the sample number."""
        if reply[0] != READ_INPUT:
            return
        start, count = struct.unpack(">HH", pdu[1:])
        if not _covers_sample_no(start, count):
            return
        at = 2 + 2 * (SAMPLE_NO_AT - start)
        points = [name for name, first, size in POINTS if start <= first and first + size <= start + count]
        number = int.from_bytes(reply[at : at + 4], "big")
        self._log.add("modbus", self._device.name, connection, number, self._clock.wall_ns(), points)


@asynccontextmanager
async def serve_modbus(
    devices: Sequence[Device], log: ServedLog, clock: Clock, *, port: int = 0, host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """Serves devices as units 1..247 and yields the port.

    Raises:
        ConflictError: PORT_IN_USE.
    """
    units = {device.number: TankUnit(device, log, clock) for device in devices}
    async with listening(Listener(units), host, port) as found:
        yield found
