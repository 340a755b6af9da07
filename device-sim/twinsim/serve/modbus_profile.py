"""Modbus devices made from profiles: units behind one port, a port each, or an address each.

What counts as served: the answer to a read that holds at least one whole point, unspoilt and handed to an open
connection; each such answer has the device's next number.
"""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from typing import Literal

import structlog

from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import InputError
from twinmodel.profile.address import Table
from twinsim.faults import FaultKind, FaultPanel
from twinsim.image.cells import ILLEGAL_FUNCTION, ILLEGAL_VALUE, TABLES, RefusedError
from twinsim.image.device import ProfileDevice, Written
from twinsim.serve.modbus_wire import Framing, Listener, exception, listening, write_of
from twinsim.served import ServedLog

Spread = Literal["units", "ports", "hosts"]
UNITS_MAX = 247
MASK_WRITE = 22
CACHED_MAX = 4096
_log = structlog.get_logger(__name__)


class RegisterUnit:
    """A device of any Modbus profile behind the wire."""

    def __init__(self, device: ProfileDevice, clock: Clock, log: ServedLog | None) -> None:
        self.device = device
        self._clock, self._log = clock, log
        self._covered: dict[bytes, list[str]] = {}
        self._starts = 0

    @property
    def faults(self) -> FaultPanel:
        """See `Unit`."""
        return self.device.faults

    @property
    def away(self) -> bool:
        """See `Unit`."""
        return bool(self.device.faults) and self.device.away

    def answer(self, pdu: bytes, connection: str) -> bytes:
        """See `Unit`."""
        function = pdu[0]
        try:
            if function in TABLES:
                # A request that is cut off asks for no registers, which is refused as such.
                start, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
                cells = self.device.registers.read(function, start, count)
                return bytes((function, len(cells))) + cells
            self._obey(pdu, connection)
        except RefusedError as refused:
            return exception(function, refused.code)
        if self.device.faults.size(FaultKind.WRITE_UNANSWERED) is not None:
            return b""
        return pdu[:7] if function == MASK_WRITE else pdu[:5]

    def _obey(self, pdu: bytes, connection: str) -> None:
        """Does what a write asks for, or as its faults have it. Raises RefusedError."""
        table, start, cells = self._masked(pdu) if pdu[0] == MASK_WRITE else write_of(pdu)
        code = self.device.faults.size(FaultKind.WRITE_REFUSED)
        if code is not None:
            raise RefusedError(int(code))
        if self.device.faults.size(FaultKind.WRITE_IGNORED) is None:
            self._write(table, start, cells, connection)

    def _masked(self, pdu: bytes) -> tuple[Table, int, bytes]:
        rules = [point.write for point in self.device.source.profile.points.values()]
        if not any(rule is not None and rule.bits == "mask" for rule in rules):
            raise RefusedError(ILLEGAL_FUNCTION)
        if len(pdu) != 7:
            raise RefusedError(ILLEGAL_VALUE)
        start, keep, bits = (int.from_bytes(pdu[at : at + 2], "big") for at in (1, 3, 5))
        now = int.from_bytes(self.device.registers.read(3, start, 1), "big")
        return "holding", start, (now & keep | bits & ~keep & 0xFFFF).to_bytes(2, "big")

    def _write(self, table: Table, start: int, cells: bytes, connection: str) -> None:
        device, t_ns = self.device, self._clock.wall_ns()
        try:
            taken = device.registers.write(table, start, cells, self._clock.boot_ns() / SECOND_NS)
        except RefusedError as refused:
            device.wrote(Written(t_ns, connection, f"{table} {start}", cells.hex(), refused.code, refused.why))
            _log.info("write refused", device=device.name, at=f"{table} {start}", code=refused.code, why=refused.why)
            raise
        for name, value in taken:
            device.wrote(Written(t_ns, connection, name, value, 0))
            _log.info("write taken", device=device.name, point=name, value=value)

    def given_out(self, pdu: bytes, reply: bytes, connection: str) -> None:
        """See `Unit`."""
        if self._log is None or reply[0] not in TABLES:
            return
        device = self.device
        if device.starts != self._starts or len(self._covered) > CACHED_MAX:
            self._covered.clear()
            self._starts = device.starts
        points = self._covered.get(pdu)
        if points is None:
            start, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
            points = self._covered[pdu] = device.registers.covered(pdu[0], start, count)
        if points:
            self._log.add("modbus", device.name, connection, device.next_sample(), self._clock.wall_ns(), points)


@asynccontextmanager
async def serve_registers(
    devices: Sequence[ProfileDevice],
    log: ServedLog | None,
    clock: Clock,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    spread: Spread = "units",
    framing: Framing = "tcp",
) -> AsyncIterator[list[Listener]]:
    """Serves devices and sets the `address` of each, as site.yaml takes it.

    Args:
        devices: of Modbus profiles.
        log: where what was given out is written, None for nowhere.
        clock: dates records and writes.
        host: the first address to listen on.
        port: the first port; 0 for any.
        spread: `units` puts up to 247 behind each port, `ports` gives each the next port (each a free one when
            `port` is 0), `hosts` each the next address of the loopback net, all with one port.
        framing: `tcp`, or `rtu` for RTU over TCP.

    Raises:
        ConflictError: PORT_IN_USE.
        InputError: VALUE_INVALID when ports or addresses do not suffice.
    """
    groups = [list(devices[i : i + UNITS_MAX]) for i in range(0, len(devices), UNITS_MAX)]
    if spread != "units":
        groups = [[device] for device in devices]
    if spread != "hosts" and port + len(groups) > 65536:
        raise InputError("VALUE_INVALID", f"{len(groups)} ports from {port} on do not exist", port=port)
    _allow_files(2 * len(groups) + 2 * len(devices) + 256)
    listeners = []
    async with AsyncExitStack() as stack:
        for i, group in enumerate(groups):
            units = {1 + k: RegisterUnit(device, clock, log) for k, device in enumerate(group)}
            listener = Listener(units, alone=spread != "units", framing=framing)
            at = str(ip_address(host) + i) if spread == "hosts" else host
            wanted = port + (i if port and spread != "hosts" else 0)
            found = await stack.enter_async_context(listening(listener, at, wanted))
            if spread == "hosts":
                port = found
            for k, device in enumerate(group):
                device.unit_id = 1 + k
                device.address = f"{'tcp' if framing == 'tcp' else 'rtu+tcp'}://{at}:{found}"
            listeners.append(listener)
        yield listeners


def _allow_files(count: int) -> None:
    """Raises the soft limit of open files as far as it may, for a port or a connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
