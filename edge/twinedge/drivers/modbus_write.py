"""Writes to Modbus devices: one request in its turn on the connection that polls them, never a second time.

value ─▶ modbus_encode ─▶ 5, 6, 15, 16 for whole cells; 22, or read and write back, for parts of a register
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from twinedge.drivers.modbus_decode import Extractor
from twinedge.drivers.modbus_encode import encode, part_mask, step_of
from twinedge.drivers.modbus_fields import Field
from twinedge.drivers.modbus_frame import ACKNOWLEDGE, NO_TARGET, Refused, Request, Values
from twinedge.drivers.modbus_line import Line, LineLostError, SilentError
from twinedge.drivers.modbus_unit import Unit
from twinedge.ports import Permit, Shown
from twinmodel.clock import round_to_step
from twinmodel.errors import ConflictError, DeniedError, UnreachableError
from twinmodel.profile.address import parse_address
from twinmodel.profile.schema import Write
from twinmodel.quality import QualityReason, bad
from twinsync.command import Arguments, Value

WRITE_COIL, WRITE_REGISTER, WRITE_COILS, WRITE_REGISTERS, MASK_REGISTER = 5, 6, 15, 16, 22
REGISTERS_MAX = 123
EXCEPTIONS = {
    1: "illegal function", 2: "illegal address", 3: "illegal value", 4: "device failure", 6: "busy",
    7: "negative acknowledge", 8: "memory parity error", 10: "the gateway has no path",
}  # fmt: skip
DEVICE_FAULT = bad(QualityReason.DEVICE_FAULT)


def write_request(table: str, start: int, cells: Sequence[int], function: str | None = None) -> Request:
    """The request that writes whole cells; one of them by 5 or 6 unless `function` is `multiple`."""
    place = f"{table} {start}+{len(cells)}"
    single = len(cells) == 1 and function != "multiple"
    if table == "coil":
        if single:
            return _request(struct.pack(">BHH", WRITE_COIL, start, 0xFF00 if cells[0] else 0), place)
        bits = sum(bool(cell) << number for number, cell in enumerate(cells))
        packed = bits.to_bytes((len(cells) + 7) // 8, "little")
        return _request(struct.pack(">BHHB", WRITE_COILS, start, len(cells), len(packed)) + packed, place)
    if single:
        return _request(struct.pack(">BHH", WRITE_REGISTER, start, cells[0]), place)
    head = struct.pack(">BHHB", WRITE_REGISTERS, start, len(cells), 2 * len(cells))
    return _request(head + struct.pack(f">{len(cells)}H", *cells), place)


def mask_request(start: int, mask: int, bits: int) -> Request:
    """The request that sets the bits of `mask` in one register to those of `bits` (function 22)."""
    body = struct.pack(">BHHH", MASK_REGISTER, start, ~mask & 0xFFFF, bits & mask)
    return _request(body, f"holding {start} mask {mask:#06x}")


def echo_of(request: Request) -> bytes:
    """What a device that has done it repeats, behind the function code."""
    return request.body[1:] if request.function == MASK_REGISTER else request.body[1:5]


def _request(body: bytes, place: str) -> Request:
    return Request(body, body[0], -1, place)


class RegisterWriter:
    """The `Writer` of a Modbus driver.

    Args:
        units: its devices.
    """

    def __init__(self, units: Sequence[Unit]) -> None:
        self._units: Mapping[str, Unit] = {unit.link.name: unit for unit in units}

    def step(self, device: str, point: str, value: Value) -> float:
        """See `Writer.step`."""
        unit = self._units[device]
        field = _field(unit, point)
        if not (field.scale is not None and field.scale.points):
            encode(field, value, unit.scales)
        return step_of(field, value, unit.scales)

    async def write(self, device: str, point: str, value: Value, about: Mapping[str, Value], permit: Permit) -> str:
        """See `Writer.write`."""
        del about
        unit = self._units[device]
        field, rules = _field(unit, point), _rules(unit, point)
        await self._put(unit, field, rules, encode(field, value, unit.scales), permit)
        return "the device"

    async def feed(self, device: str, point: str, beat: int, permit: Permit) -> None:
        """See `Writer.feed`."""
        unit = self._units[device]
        watchdog = _rules(unit, point).watchdog
        assert watchdog is not None, "only points with a watchdog are held"
        count = 1 if watchdog.feed == "one" else beat
        if watchdog.point is not None:
            field = _field(unit, watchdog.point)
            profile_rules = unit.link.assignment.profile.points[watchdog.point].write
            await self._put(unit, field, profile_rules or Write(), _beat(field, count, unit), permit)
            return
        address = parse_address(watchdog.at or "", unit.link.assignment.profile.base or 0)
        await self._tell(unit, write_request("holding", address.number, [count & 0xFFFF]), permit)

    async def call(
        self, device: str, method: str, arguments: Sequence[Value], about: Mapping[str, Value], permit: Permit
    ) -> Arguments:
        """See `Writer.call`: Modbus has no methods."""
        del arguments, about, permit
        raise DeniedError("COMMAND_NOT_ALLOWED", f"{device}.{method}: Modbus has no methods")

    async def read(self, device: str, point: str) -> Shown | None:
        """See `Writer.read`."""
        unit = self._units[device]
        field = _field(unit, point)
        span = field.span
        raw, t_ns = await self._cells(unit, Request.read(span.table, span.start, span.count))
        if raw is None:
            return Shown(None, DEVICE_FAULT, t_ns)
        t_ns = round_to_step(t_ns, unit.link.assignment.time_step_ns)
        batch = Extractor(span.start, [field]).decode(raw, t_ns, unit.scales)[0]
        found = batch.value[0]
        plain: Value = found.item() if hasattr(found, "item") else found
        return Shown(plain, int(batch.quality[0]), t_ns)

    async def _put(self, unit: Unit, field: Field, rules: Write, cells: list[int], permit: Permit) -> None:
        span, mask = field.span, part_mask(field)
        if len(cells) > REGISTERS_MAX:
            raise DeniedError("COMMAND_NOT_ALLOWED", f"{field.signal.name} fills more than one write")
        if not mask:
            await self._tell(unit, write_request(span.table, span.start, cells, rules.function), permit)
        elif rules.bits == "mask":
            await self._tell(unit, mask_request(span.start, mask, cells[0]), permit)
        elif rules.bits == "merge":
            raw, _ = await self._cells(unit, Request.read(span.table, span.start, 1))
            if raw is None:
                raise UnreachableError("DEVICE_UNREACHABLE", f"{field.signal.name}: its register cannot be read")
            merged = int.from_bytes(raw, "big") & ~mask | cells[0] & mask
            await self._tell(unit, write_request(span.table, span.start, [merged], rules.function), permit)
        else:
            raise DeniedError("COMMAND_NOT_ALLOWED", f"{field.signal.name}: the profile says not how to write a part")

    async def _tell(self, unit: Unit, request: Request, permit: Permit) -> None:
        line = _line(unit)
        try:
            reply = await line.tell(unit.number, request, permit, unit.delay_s)
        except (SilentError, LineLostError) as silent:
            raise UnreachableError("COMMAND_UNANSWERED", f"{unit.link.name}: {silent}") from silent
        answer = reply.answer
        if isinstance(answer, Refused):
            _refused(unit, answer.code, request)
        elif not isinstance(answer, Values):
            raise UnreachableError("COMMAND_UNANSWERED", f"{unit.link.name}: {answer.text} ({request.place})")
        elif answer.raw != echo_of(request):
            text = f"{unit.link.name}: the reply repeats something else than what was written to {request.place}"
            raise UnreachableError("COMMAND_UNANSWERED", text)

    async def _cells(self, unit: Unit, request: Request) -> tuple[bytes | None, int]:
        """Bytes of a read and when they came; None for a device that refuses."""
        line = _line(unit)
        try:
            reply = await line.ask(unit.number, request, unit.delay_s)
        except (SilentError, LineLostError) as silent:
            raise UnreachableError("DEVICE_UNREACHABLE", f"{unit.link.name}: {silent}") from silent
        return (reply.answer.raw if isinstance(reply.answer, Values) else None), reply.t_ns


def _line(unit: Unit) -> Line:
    """The connection of a unit that was found to be the right one and answers."""
    if unit.line is None or not unit.link.connected or unit.failures:
        raise UnreachableError("DEVICE_UNREACHABLE", f"{unit.link.name} does not answer")
    if not unit.identified or unit.stranger:
        raise UnreachableError("DEVICE_UNREACHABLE", f"{unit.link.name} is not known to be what its profile is for")
    return unit.line


def _field(unit: Unit, point: str) -> Field:
    field = unit.fields.get(point)
    if field is None:
        raise DeniedError("COMMAND_NOT_ALLOWED", f"{unit.link.name} has no point {point} any more")
    return field


def _rules(unit: Unit, point: str) -> Write:
    found = unit.link.assignment.profile.points.get(point)
    rules = None if found is None else found.write
    if rules is None:
        raise DeniedError("COMMAND_NOT_ALLOWED", f"{unit.link.name}.{point} has no rules of writes in its profile")
    return rules


def _beat(field: Field, count: int, unit: Unit) -> list[int]:
    """What feeds a watchdog that is a point: a bit alternates, a number counts as far as it goes."""
    if field.wire.name == "bit":
        return encode(field, bool(count & 1), unit.scales)
    size = field.width if field.bit is not None else field.wire.size
    most = 10 ** (size // 4) - 1 if field.wire.name == "bcd" else (1 << (min(size, 32) - 1)) - 1
    return encode(field, 1 + (count - 1) % most, unit.scales)


def _refused(unit: Unit, code: int, request: Request) -> None:
    """An exception: 5 says that the device is at it, 11 that nobody knows, any other that nothing was done."""
    if code == ACKNOWLEDGE:
        return
    if code == NO_TARGET:
        text = f"{unit.link.name}: the gateway got no answer from the unit (exception 11)"
        raise UnreachableError("COMMAND_UNANSWERED", text, code=code)
    told = f"exception {code}, {EXCEPTIONS.get(code, 'of the maker')}"
    raise ConflictError("COMMAND_REFUSED_BY_DEVICE", f"{unit.link.name}: {told}, for {request.place}", code=code)
