"""Modbus TCP server for many tanks behind one port, one unit id each.

    input registers      0-1 level2 float32 | 2-3 pump float32 | 4-5 sample_no uint32 | 6 status uint16   (order ABCD)
    holding registers    100-107 identity, 16 ASCII characters
    coil 0, discrete 0   running

`status` is a set of bits: 1 running, 2 level low, 4 level high. All registers of one answer come from the same tick.

What counts as served: an answer to "read input registers" that covers both registers of the sample number, built
without an exception and written to a connection that was open at that moment. Each such answer carries the next
number. An answer written just before the connection broke may not have arrived; no device can know that.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.pdu import ExceptionResponse, ModbusPDU
from pymodbus.pdu.register_message import ReadInputRegistersRequest
from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import DataType, SimData, SimDevice

from twinmodel.clock import Clock
from twinmodel.errors import ConflictError
from twinsim.device import Device
from twinsim.firmware import IDENTITY
from twinsim.served import ServedLog

UNITS_MAX = 247
REGISTERS = 7
SAMPLE_NO_AT = 4
IDENTITY_AT = 100
POINTS = (("level2", 0, 2), ("pump", 2, 2), ("sample_no", 4, 2), ("status", 6, 1))
READ_INPUT = 4
RUNNING, LEVEL_LOW, LEVEL_HIGH = 1, 2, 4


def registers_of(device: Device, sample_no: int) -> tuple[int, ...]:
    """The seven input registers of one instant."""
    level = device.reading["level2"]
    status = RUNNING | (LEVEL_LOW if level < 0.05 else 0) | (LEVEL_HIGH if level > 0.95 else 0)
    return struct.unpack(">7H", struct.pack(">ffIH", level, device.reading["pump"], sample_no, status))


def _unit(device: Device) -> SimDevice:
    async def action(
        function: int,
        _start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Fills the registers at the moment of the poll; the library then copies them into the answer."""
        if values is not None:
            return ExcCodes.ILLEGAL_ADDRESS
        if device.faults.refusing:
            return ExcCodes.DEVICE_FAILURE
        if function == READ_INPUT:
            numbered = _covers_sample_no(address, count)
            registers[:REGISTERS] = registers_of(device, device.next_sample() if numbered else device.sample_no)
        return None

    bits = [SimData(0, values=[True] + [False] * 15, datatype=DataType.BITS, readonly=True)]
    return SimDevice(
        id=device.number,
        simdata=(
            bits,
            [SimData(0, values=[True] + [False] * 15, datatype=DataType.BITS, readonly=True)],
            [SimData(IDENTITY_AT, values=IDENTITY, datatype=DataType.STRING, readonly=True)],
            [SimData(0, values=[0] * REGISTERS, datatype=DataType.REGISTERS, readonly=True)],
        ),
        action=action,
    )


def _covers_sample_no(address: int, count: int) -> bool:
    return address <= SAMPLE_NO_AT and address + count >= SAMPLE_NO_AT + 2


class _Connection(ServerRequestHandler):
    """One client; notes what it was answered and leaves requests to silent units unanswered."""

    server: _Server

    async def handle_request(self) -> None:
        """Answers the latest request, unless the unit is silent or does not exist."""
        request = self.last_pdu
        if request is None:
            return
        device = self.server.units.get(request.dev_id)
        if device is None:
            refusal = ExceptionResponse(request.function_code, ExcCodes.GATEWAY_NO_RESPONSE)
            refusal.transaction_id, refusal.dev_id = request.transaction_id, request.dev_id
            self.server_send(refusal, self.last_addr)
        elif not device.faults.silent:
            await super().handle_request()  # type: ignore[no-untyped-call]  # the library is half typed

    def server_send(self, pdu: ModbusPDU, addr: tuple[object, ...] | None) -> None:
        """Sends an answer and writes the record of a numbered one."""
        request, transport = self.last_pdu, self.transport
        is_open = transport is not None and not transport.is_closing()
        super().server_send(pdu, addr)  # type: ignore[no-untyped-call]  # the library is half typed
        if is_open and isinstance(request, ReadInputRegistersRequest) and not isinstance(pdu, ExceptionResponse):
            self.server.note(request, pdu, transport.get_extra_info("peername"))


class _Server(ModbusTcpServer):
    """The library's server, with connections that keep the log."""

    def __init__(self, devices: Sequence[Device], log: ServedLog, clock: Clock, address: tuple[str, int]) -> None:
        super().__init__([_unit(device) for device in devices], address=address)
        self.units = {device.number: device for device in devices}
        self._log, self._clock = log, clock

    def callback_new_connection(self) -> _Connection:
        """See the library."""
        return _Connection(  # type: ignore[no-untyped-call]  # the library is half typed
            self, self.trace_packet, self.trace_pdu, self.trace_connect
        )

    def note(self, request: ReadInputRegistersRequest, answer: ModbusPDU, peer: tuple[str, int]) -> None:
        """Writes the record of one answered poll, if it carried the sample number."""
        first, last = request.address, request.address + request.count
        if not _covers_sample_no(first, request.count):
            return
        device = self.units[request.dev_id]
        high, low = answer.registers[SAMPLE_NO_AT - first : SAMPLE_NO_AT - first + 2]
        points = [name for name, at, size in POINTS if first <= at and at + size <= last]
        t_ns = self._clock.wall_ns()
        self._log.add("modbus", device.name, f"{peer[0]}:{peer[1]}", high << 16 | low, t_ns, points)


@asynccontextmanager
async def serve_modbus(
    devices: Sequence[Device], log: ServedLog, clock: Clock, *, port: int = 0, host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """Serves devices as units 1..247 and yields the port.

    Raises:
        ConflictError: PORT_IN_USE.
    """
    server = _Server(devices, log, clock, (host, port))
    if not await server.listen():
        raise ConflictError("PORT_IN_USE", f"cannot listen on {host}:{port} for modbus", port=port)
    try:
        listening: Any = server.transport
        yield listening.sockets[0].getsockname()[1]
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]  # the library is half typed
