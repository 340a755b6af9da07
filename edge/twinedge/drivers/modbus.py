"""Modbus TCP: one connection per host and port, its units polled in turn at a fixed rate.

A unit that does not answer costs the others one timeout per backoff period. pymodbus is trusted with framing only:
every reply is checked for its transaction, its function and its length before it becomes a value.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from twinedge.drivers.decode import (
    NOTHING,
    Decoder,
    NoValueError,
    bit_decoder,
    converter,
    number_decoder,
    shift_decimal,
    string_decoder,
)
from twinedge.drivers.link import Assignment, Backoff, Columns, DeviceLink, names
from twinedge.drivers.plan import Read, Span, plan_reads
from twinedge.ports import DriverHealth, Sink
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.profile.address import parse_address, parse_type, scale_point
from twinmodel.quality import QualityReason, bad
from twinmodel.signal import Kind, Signal

PORT = 502
TIMEOUT_S = 1.0
SILENT_MAX = 2
BUSY_RETRIES = 2
BUSY_DELAY_S = 0.1
NO_FACTOR = 99
ILLEGAL_ADDRESS, ACKNOWLEDGE, BUSY, NO_PATH, NO_TARGET = 2, 5, 6, 10, 11
_DEVICE_FAULT = bad(QualityReason.DEVICE_FAULT)
_DECODE = bad(QualityReason.DECODE)

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # it repeats, at error level, what is told here once


class SilentError(Exception):
    """The unit gave no reply that can be used; it counts as away."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The unit answered, but with an exception code or a reply of another shape."""

    quality: int
    text: str
    code: int = 0


@dataclass(slots=True)
class Group:
    """The points of one unit that share a period, and the reads that cover them."""

    period_ns: int
    spans: tuple[Span, ...]
    reads: list[Read]
    due_ns: int = 0


@dataclass(slots=True)
class Unit:
    """One device behind the connection."""

    link: DeviceLink
    unit_id: int
    groups: list[Group]
    decoders: dict[str, tuple[Signal, Decoder]]
    backoff: Backoff
    factors: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    identity: tuple[Read, Decoder, str] | None = None
    identified: bool = False


class ModbusDriver:
    """Polls all devices of one `tcp://host:port`.

    Args:
        assignments: devices at this address.
        clock: the boot clock paces, the wall clock stamps samples at their arrival.
        rng: jitter of reconnects.
        timeout_s: time a unit has for one reply.
    """

    def __init__(
        self, assignments: Sequence[Assignment], *, clock: Clock, rng: random.Random, timeout_s: float = TIMEOUT_S
    ) -> None:
        address = urlsplit(assignments[0].device.address)
        self._host, self._port = address.hostname or "", address.port or PORT
        self._clock = clock
        self._timeout_s = timeout_s
        self._backoff = Backoff(rng)
        self._units = [_unit(a, clock, rng) for a in assignments]

    @property
    def name(self) -> str:
        """See `Driver.name`."""
        return f"modbus {self._host}:{self._port}"

    @property
    def devices(self) -> tuple[str, ...]:
        """See `Driver.devices`."""
        return names([u.link for u in self._units])

    def health(self) -> list[DriverHealth]:
        """See `Driver.health`."""
        return [u.link.health() for u in self._units]

    async def run(self, sink: Sink) -> None:
        """See `Driver.run`."""
        while True:
            client = AsyncModbusTcpClient(
                self._host, port=self._port, timeout=self._timeout_s, retries=0, reconnect_delay=0
            )
            client.set_max_no_responses(1 << 30)  # a dead unit must not close the connection of the others
            try:
                connected = await client.connect()
                text = f"no connection to {self._host}:{self._port}"
                if connected:
                    await self._session(client, sink)
                    text = "the connection was lost"
                for unit in self._units:
                    await self._away(unit, text, sink)
            finally:
                client.close()
            await asyncio.sleep(self._backoff.delay_s())

    async def _session(self, client: AsyncModbusTcpClient, sink: Sink) -> None:
        """Polls on one connection until it is lost, or silent although it looks open."""
        for unit in self._units:
            unit.identified = unit.identity is None  # behind a new connection may be another device
        due = [(unit, group) for unit in self._units for group in unit.groups]
        for _, group in due:
            group.due_ns = self._clock.boot_ns()
        silent = 0
        while client.connected:
            unit, group = min(due, key=lambda pair: pair[1].due_ns)
            if (wait_ns := group.due_ns - self._clock.boot_ns()) > 0:
                await asyncio.sleep(wait_ns / SECOND_NS)
                continue
            if await self._poll(client, unit, group, sink):
                silent, unit.failures = 0, 0
                unit.backoff.reset()
                self._backoff.reset()
                group.due_ns = self._next_due(unit, group)
                continue
            silent, unit.failures = silent + 1, unit.failures + 1
            if silent >= SILENT_MAX and all(u.failures for u in self._units):
                return
            retry_ns = self._clock.boot_ns() + round(unit.backoff.delay_s() * SECOND_NS)
            for waiting in unit.groups:  # all of them, else each would cost the other units a timeout
                waiting.due_ns = max(waiting.due_ns, retry_ns)

    def _next_due(self, unit: Unit, group: Group) -> int:
        """The next point of the group's grid that is not past; those skipped are counted as missed."""
        late_ns = self._clock.boot_ns() - group.due_ns
        skipped = late_ns // group.period_ns if unit.link.connected else 0
        if skipped > 0:
            unit.link.missed += skipped
        return group.due_ns + (late_ns // group.period_ns + 1) * group.period_ns

    async def _poll(self, client: AsyncModbusTcpClient, unit: Unit, group: Group, sink: Sink) -> bool:
        """One cycle of one group; False when the unit did not answer. Emits whatever was read before that."""
        try:
            stranger = "" if unit.identified else await self._identify(client, unit)
        except SilentError as silent:
            await self._fail(unit, str(silent), sink)
            return False
        if stranger:
            await self._away(unit, stranger, sink, reason="DEVICE_REFUSED")
            return True
        replies: list[tuple[Read, list[int] | Refusal, int]] = []
        alive = True
        for read in list(group.reads):
            try:
                reply = await self._read(client, unit, read)
            except SilentError as silent:
                alive = False
                await self._fail(unit, str(silent), sink)
                break
            replies.append((read, reply, unit.link.now_ns()))
            if isinstance(reply, Refusal):
                unit.link.fault(reply.text)
                if reply.code == ILLEGAL_ADDRESS and _bridged(read):
                    group.reads = plan_reads(group.spans, max_read=unit.link.assignment.profile.limits.max_read)
        if alive and (hole := unit.link.answered()) is not None:
            await sink.put(hole)
        columns = self._decode(unit, replies)
        if len(columns):
            await sink.put(unit.link.delivery(columns))
        return alive

    async def _identify(self, client: AsyncModbusTcpClient, unit: Unit) -> str:
        """What is wrong with the device's identity: the map of another device would give wrong values silently.

        A device that refuses to tell passes, with a fault counted. Raises SilentError.
        """
        if unit.identity is not None:
            read, decode, pattern = unit.identity
            reply = await self._read(client, unit, read)
            if isinstance(reply, Refusal):
                unit.link.fault(f"identify: {reply.text}")
            else:
                found = str(decode(reply)[0])
                if not fnmatchcase(found, pattern):
                    return f"the device says it is {found!r}, its profile is for {pattern!r}"
        unit.identified = True
        return ""

    async def _fail(self, unit: Unit, text: str, sink: Sink) -> None:
        """The first silence may be a lost packet and only opens the hole; the second says that the unit is away."""
        if unit.failures == 0 and unit.link.connected:
            unit.link.failed("DEVICE_UNREACHABLE", text)
        else:
            await self._away(unit, text, sink)

    async def _away(self, unit: Unit, text: str, sink: Sink, *, reason: str = "DEVICE_UNREACHABLE") -> None:
        stamped = unit.link.lost(reason, text)
        if stamped is not None:
            await sink.put(stamped)

    def _decode(self, unit: Unit, replies: list[tuple[Read, list[int] | Refusal, int]]) -> Columns:
        """Values of all replies; scale-factor points first, for the others use them."""
        columns = Columns()
        factors_first = sorted(
            ((span, read, cells, t_ns) for read, cells, t_ns in replies for span in read.spans),
            key=lambda row: row[0].point not in unit.factors,
        )
        for span, read, cells, t_ns in factors_first:
            signal, decode = unit.decoders[span.point]
            if isinstance(cells, Refusal):
                columns.add(signal, NOTHING[signal.kind], cells.quality, t_ns)
                continue
            value, quality = decode(cells[span.start - read.start : span.end - read.start])
            if span.point in unit.factors:
                unit.factors[span.point] = int(value) if quality == 0 else NO_FACTOR  # type: ignore[call-overload]  # numbers only
            columns.add(signal, value, quality, t_ns)
        return columns

    async def _read(self, client: AsyncModbusTcpClient, unit: Unit, read: Read) -> list[int] | Refusal:
        """One request, repeated while the unit says it is busy. Raises SilentError."""
        limits = unit.link.assignment.profile.limits
        for attempt in range(BUSY_RETRIES + 1):
            try:
                reply = await _request(client, unit.unit_id, read)
            except (ModbusException, OSError, TimeoutError) as lost:
                raise SilentError(f"no reply to {read.table} {read.start}: {lost}") from lost
            if limits.delay:
                await asyncio.sleep(limits.delay / SECOND_NS)
            checked = _check(reply, read, client.ctx.request_transaction_id)
            if not (isinstance(checked, Refusal) and checked.code in {BUSY, ACKNOWLEDGE}):
                break
            if attempt < BUSY_RETRIES:
                await asyncio.sleep(BUSY_DELAY_S)
        return checked


def _unit(assignment: Assignment, clock: Clock, rng: random.Random) -> Unit:
    """Prepares decoders and reads of one device."""
    profile = assignment.profile
    unit = Unit(DeviceLink(assignment, clock), assignment.device.unit_id, [], {}, Backoff(rng))
    by_period: dict[int, list[Span]] = {}
    for name, point in profile.points.items():
        address = parse_address(point.at, profile.base or 0)
        as_ = point.as_ or "uint16"
        wire = parse_type(as_)
        order = point.order or profile.defaults.order or profile.order
        signal = assignment.signals[name]
        factor = scale_point(point.scale)
        if wire.name == "bit":
            decode = bit_decoder(address.bit, order)
        elif wire.name == "string":
            decode = string_decoder(as_, order, point.absent)
        else:
            scale = None if isinstance(point.scale, str) else point.scale
            convert = converter(scale, point.offset)
            if factor is not None:
                unit.factors[factor] = NO_FACTOR
                convert = _shifted(unit.factors, factor, point.offset or 0)
            decode = number_decoder(as_, order, signal.kind, convert, point.absent)
        unit.decoders[name] = (signal, decode)
        span = Span(address.table, address.number, wire.registers, name)
        by_period.setdefault(profile.every_ns(point), []).append(span)
    if profile.identify is not None:
        address, wire = parse_address(profile.identify.at, profile.base or 0), parse_type(profile.identify.as_)
        text = wire.name == "string"
        decode = (
            string_decoder(profile.identify.as_, profile.order, None)
            if text
            else number_decoder(profile.identify.as_, profile.order, Kind.INT, None, None)
        )
        unit.identity = (Read(address.table, address.number, wire.registers, ()), decode, profile.identify.match)
    for period_ns, spans in sorted(by_period.items()):
        reads = plan_reads(spans, max_read=profile.limits.max_read, bridge=profile.limits.bridge)
        unit.groups.append(Group(period_ns, tuple(spans), reads))
    return unit


def _shifted(factors: dict[str, int], name: str, offset: float) -> Any:
    """A converter that looks the decimal exponent up in the newest value of another point."""

    def convert(raw: float) -> float:
        if factors[name] == NO_FACTOR:
            raise NoValueError(f"scale factor {name} is not known")
        return shift_decimal(raw, factors[name]) + offset

    return convert


def _bridged(read: Read) -> bool:
    ordered = sorted(read.spans, key=lambda s: s.start)
    return any(b.start > a.end for a, b in pairwise(ordered))


async def _request(client: AsyncModbusTcpClient, unit_id: int, read: Read) -> Any:
    call = {
        "coil": client.read_coils,
        "discrete": client.read_discrete_inputs,
        "input": client.read_input_registers,
        "holding": client.read_holding_registers,
    }[read.table]
    reply = await call(read.start, count=read.count, device_id=unit_id)
    # The library waits by `asyncio.wait_for`, which on Python 3.11 swallows a cancellation that comes in one turn of
    # the loop with the reply: a driver that was told to stop would go on for ever.
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
    return reply


def _check(reply: Any, read: Read, transaction: int) -> list[int] | Refusal:
    """The cells of a reply, or why it is none. Raises SilentError when the gateway says the unit is not there."""
    if reply is None or reply.transaction_id != transaction:
        raise SilentError("the reply belongs to another request")
    place = f"{read.table} {read.start}+{read.count}"
    if reply.isError():
        code = int(getattr(reply, "exception_code", 0))
        if code in {NO_PATH, NO_TARGET}:
            raise SilentError(f"the gateway cannot reach the unit (exception {code})")
        return Refusal(_DEVICE_FAULT, f"exception {code} for {place}", code)
    cells = reply.bits if read.table in {"coil", "discrete"} else reply.registers
    expected = (read.count + 7) // 8 * 8 if read.table in {"coil", "discrete"} else read.count
    if len(cells) != expected:
        return Refusal(_DECODE, f"{len(cells)} values for {place}")
    return [int(c) for c in cells]
