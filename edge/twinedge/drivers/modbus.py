"""Modbus over TCP, serial lines and serial frames over TCP: one driver per connection, its units polled at fixed rates.

    Unit ─▶ its plan (plan.py) ─▶ Line.ask (modbus_line.py) ─▶ its columns (modbus_decode.py) ─▶ Sink

Each unit has its own pace; the line gives turns in the order of asking. A unit that is silent is asked in growing
intervals, one of them at a time, and may hold the line for a fifth of the time at most: the others keep their rate.
Where the profile allows several connections, silent units are asked on one of their own.
"""

from __future__ import annotations

import asyncio
import importlib
import random
from collections.abc import Sequence

import structlog

from twinedge.config.address import parse_modbus
from twinedge.drivers.decode import DECODE, NOTHING
from twinedge.drivers.link import ERROR_TEXT_MAX, Assignment, Columns, backoff_of, names, same_units
from twinedge.drivers.modbus_decode import Extractor
from twinedge.drivers.modbus_fields import Scales
from twinedge.drivers.modbus_frame import ACKNOWLEDGE, BUSY, Refused, Request, Values
from twinedge.drivers.modbus_line import Line, LineLostError, Reply, SilentError
from twinedge.drivers.modbus_unit import DEVICE_FAULT, STRANGER_RETRY_NS, Group, Unit, unreachable
from twinedge.drivers.modbus_write import RegisterWriter
from twinedge.drivers.plan import Read
from twinedge.ports import DriverHealth, Sink
from twinmodel.clock import SECOND_NS, Clock, round_to_step
from twinmodel.signal import Batch

TIMEOUT_S = 1.0
SILENT_MAX = 2
BUSY_RETRIES = 2
BUSY_DELAY_S = 0.1
_log = structlog.get_logger("twinedge.drivers")


class ModbusDriver:
    """Polls all devices of one address.

    Args:
        assignments: devices at this address.
        clock: the boot clock paces, the wall clock stamps samples at their arrival.
        rng: jitter of reconnects, and the phases of polls.
        timeout_s: time a unit has for one reply.

    Attributes:
        writer: tells its devices what commands say.
    """

    def __init__(
        self, assignments: Sequence[Assignment], *, clock: Clock, rng: random.Random, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._assignments = tuple(assignments)
        self._address = parse_modbus(assignments[0].device.address)
        if self._address.framing != "tcp":
            importlib.import_module("twinedge.drivers.modbus_rtu")  # a missing library is told at the start
        self._clock = clock
        self._timeout_s = timeout_s
        self._units = [Unit(a, clock, rng) for a in assignments]
        allowed = min(a.profile.limits.connections for a in assignments)
        if self._address.framing == "rtu" or len(self._units) == 1:
            allowed = 1
        self._has_spare = allowed > 1
        homes = min(max(allowed - 1, 1), len(self._units))
        self._buses = [_Bus(self._units[n::homes], rng) for n in range(homes)]
        self.writer = RegisterWriter(self._units)
        self._spare: Line | None = None
        self._spare_probing = asyncio.Lock()

    @property
    def name(self) -> str:
        """See `Driver.name`."""
        return f"modbus {self._address}"

    @property
    def devices(self) -> tuple[str, ...]:
        """See `Driver.devices`."""
        return names([u.link for u in self._units])

    def health(self) -> list[DriverHealth]:
        """See `Driver.health`."""
        return [u.link.health() for u in self._units]

    def change(self, assignments: Sequence[Assignment]) -> bool:
        """See `Changeable.change`: units keep their connection, their pace and what is known of them."""
        if not same_units(self._assignments, assignments):
            return False
        units = {unit.link.name: unit for unit in self._units}
        for before, after in zip(self._assignments, assignments, strict=True):
            if before != after:
                units[after.name].change(after, self._clock.boot_ns())
        self._assignments = tuple(assignments)
        return True

    async def run(self, sink: Sink) -> None:
        """See `Driver.run`."""
        try:
            if len(self._buses) == 1:
                await self._keep(self._buses[0], sink)
                return
            async with asyncio.TaskGroup() as group:
                for number, bus in enumerate(self._buses):
                    group.create_task(self._keep(bus, sink), name=f"{self.name} connection {number}")
        finally:
            if self._spare is not None:
                self._spare.close()

    # ---- connections ---------------------------------------------------------------------------------------------

    def _line(self, units: int) -> Line:
        return Line(self._address, self._clock, self._timeout_s, shared=units > 1)

    async def _keep(self, bus: _Bus, sink: Sink) -> None:
        """Connects again and again; while there is no connection, all its units are away."""
        while True:
            line = self._line(len(bus.units))
            try:
                await line.open()
                for unit in bus.units:
                    unit.line = line
                await self._session(bus, line, sink)
                text = "the connection was lost"
            except LineLostError as lost:
                text = str(lost)
            except (OSError, TimeoutError) as refused:
                text = f"no connection to {self._address}: {str(refused) or 'no answer'}"
            finally:
                line.close()
                for unit in bus.units:
                    unit.line = None
            for unit in bus.units:
                await self._away(unit, text, sink)
            await asyncio.sleep(bus.backoff.delay_ns() / SECOND_NS)

    async def _session(self, bus: _Bus, line: Line, sink: Sink) -> None:
        """Polls on one connection until it is lost, or silent although it looks open. Raises LineLostError."""
        bus.asked.clear()
        if len(bus.units) == 1:
            await self._serve(bus, bus.units[0], line, sink)
            return
        text = ""
        try:
            async with asyncio.TaskGroup() as group:
                for unit in bus.units:
                    group.create_task(self._serve(bus, unit, line, sink), name=f"{self.name} unit {unit.number}")
        except* LineLostError as lost:
            text = str(lost.exceptions[0])
        raise LineLostError(text)

    async def _spare_line(self) -> Line:
        """The connection for silent units. Raises SilentError."""
        if self._spare is None or not self._spare.is_open:
            self._spare = self._line(1)
            try:
                await self._spare.open()
            except (OSError, TimeoutError) as refused:
                text = str(refused) or "no answer"
                raise SilentError(f"no further connection to {self._address}: {text}") from refused
        return self._spare

    # ---- pace ----------------------------------------------------------------------------------------------------

    async def _serve(self, bus: _Bus, unit: Unit, line: Line, sink: Sink) -> None:
        """Polls one unit for ever. Raises LineLostError."""
        unit.begin(self._clock.boot_ns())
        while True:
            group = unit.groups[0] if len(unit.groups) == 1 else min(unit.groups, key=lambda g: g.due_ns)
            wait_ns = group.due_ns - self._clock.boot_ns()
            if wait_ns > 0:
                await unit.wait(wait_ns)
                if group not in unit.groups:
                    continue  # there is something else to read since
            unit.polled = group
            if unit.failures and len(bus.units) > 1:
                alive = await self._probe(bus, unit, group, line, sink)
            else:
                alive = await self._poll(unit, group, line, sink)
            unit.polled = None
            if alive:
                self._answered(bus, unit, group)
            else:
                self._silent(bus, unit, line)

    def _answered(self, bus: _Bus, unit: Unit, group: Group) -> None:
        unit.failures = 0
        unit.backoff.progressed()
        bus.backoff.progressed()
        now_ns = self._clock.boot_ns()
        skipped = group.next_due(now_ns)
        if unit.stranger:
            unit.put_off(now_ns + STRANGER_RETRY_NS)
        elif unit.link.connected:
            unit.link.missed += skipped

    def _silent(self, bus: _Bus, unit: Unit, line: Line) -> None:
        unit.failures += 1
        unit.identified = False  # whoever answers next may be another device
        unit.put_off(self._clock.boot_ns() + unit.backoff.delay_ns())
        bus.asked.add(unit.link.name)
        all_silent = len(bus.asked) == len(bus.units) and all(u.failures for u in bus.units)
        if line.silent >= SILENT_MAX and all_silent:
            raise LineLostError(unit.link.last_error)

    async def _probe(self, bus: _Bus, unit: Unit, group: Group, home: Line, sink: Sink) -> bool:
        """Polls a unit that was silent: one at a time, and seldom enough that the others do not feel it."""
        async with self._spare_probing if self._has_spare else bus.probing:
            line = home
            try:
                if self._has_spare:
                    line = await self._spare_line()
                wait_s = bus.probe_s - asyncio.get_running_loop().time()
                if line is home and wait_s > 0 and bus.has_healthy():
                    await asyncio.sleep(wait_s)
                alive = await self._poll(unit, group, line, sink)
            except SilentError as silent:
                await self._fail(unit, str(silent), sink)
                alive = False
            except LineLostError as lost:
                if line is home:
                    raise
                await self._fail(unit, str(lost), sink)
                alive = False
            if not alive:
                bus.probe_s = line.probe_s
            return alive

    # ---- one cycle -----------------------------------------------------------------------------------------------

    async def _poll(self, unit: Unit, group: Group, line: Line, sink: Sink) -> bool:
        """One cycle of one group; False when the unit did not answer. Emits whatever was read before that.

        Raises:
            LineLostError: after what was read before was handed over.
        """
        try:
            if not unit.identified and (stranger := await self._stranger(unit, line)):
                await self._quarantine(unit, *stranger, sink)
                return True
        except SilentError as silent:
            await self._fail(unit, str(silent), sink)
            return False
        found = _Found(unit.scales)
        lost: LineLostError | None = None
        alive = True
        try:
            await self._cycle(unit, group, line, found)
        except SilentError as silent:
            alive = False
            await self._fail(unit, str(silent), sink)
        except LineLostError as gone:
            lost = gone
        if alive and lost is None and (hole := unit.link.answered()) is not None:
            await sink.put(hole)
        try:
            batches = found.batches(group, unit.link.assignment.time_step_ns)
        except Exception as defect:  # noqa: BLE001  # the units beside it are to be read on
            await self._spoilt(unit, group, defect, sink)
        else:
            if batches:
                await sink.put(unit.link.handed(batches))
        if lost is not None:
            raise lost
        return alive

    async def _spoilt(self, unit: Unit, group: Group, defect: Exception, sink: Sink) -> None:
        """Replies that trip a defect of ours are bad, and cost their own device alone; of equal ones one is logged."""
        text = f"the replies trip a defect: {type(defect).__name__} {defect}"[:ERROR_TEXT_MAX]
        if unit.link.last_error != text:
            _log.error("replies trip a defect and are passed over", device=unit.link.name, exc_info=defect)
        unit.link.fault(text)
        await sink.put(unit.link.stamp([field.signal for field in group.fields.values()], DECODE))

    async def _cycle(self, unit: Unit, group: Group, line: Line, found: _Found) -> None:
        """Asks what the plan says, telling it what became of each read. Raises SilentError or LineLostError."""
        cycle = group.planner.cycle(self._clock.boot_ns())
        read = next(cycle, None)
        while read is not None:
            request, extractor = group.prepared(read)
            reply = await self._ask(unit, line, request)
            outcome, quality, text = unit.judge(reply.answer, request)
            if isinstance(reply.answer, Values):
                if not read.probe:
                    found.values.append((extractor, reply.answer.raw, reply.t_ns, read))
            else:
                unit.link.fault(text)
                if not read.probe:
                    found.refused.append((read, quality, reply.t_ns))
            try:
                read = cycle.send(outcome)
            except StopIteration:
                return

    async def _ask(self, unit: Unit, line: Line, request: Request) -> Reply:
        """One request, repeated while the unit says it is busy. Raises SilentError or LineLostError."""
        for attempt in range(BUSY_RETRIES + 1):
            reply = await line.ask(unit.number, request, unit.delay_s)
            answer = reply.answer
            if isinstance(answer, Values):
                break
            if isinstance(answer, Refused) and answer.code in {BUSY, ACKNOWLEDGE} and attempt < BUSY_RETRIES:
                await asyncio.sleep(BUSY_DELAY_S)
                continue
            if text := unreachable(answer):
                raise SilentError(text)
            break
        return reply

    async def _stranger(self, unit: Unit, line: Line) -> tuple[str, str] | None:
        """What is wrong with the device's identity: the map of another device would give wrong values silently.

        A device that refuses to tell passes, with a fault counted. Raises SilentError or LineLostError.
        """
        traits = unit.traits
        for trait in traits:
            answer = (await self._ask(unit, line, trait.request)).answer
            if not isinstance(answer, Values):
                unit.link.fault(f"identify: {unit.judge(answer, trait.request)[2]}")
                continue
            said = trait.said(answer.raw)
            if trait.firmware:
                unit.link.firmware = said
            if wrong := trait.objection(said):
                return wrong
        if unit.traits is traits:  # else there is something else to ask it since
            unit.identified, unit.stranger = True, False
            unit.link.quarantine = ""
        return None

    async def _quarantine(self, unit: Unit, reason: str, text: str, sink: Sink) -> None:
        """Reads nothing of a device that is not the one the profile is for; its signals say so once."""
        first, unit.stranger = not unit.link.quarantine, True
        unit.link.quarantine = reason
        unit.link.lost("DEVICE_REFUSED", text)
        if first:
            await sink.put(unit.link.stamp(unit.link.assignment.signals.values(), DEVICE_FAULT))

    async def _fail(self, unit: Unit, text: str, sink: Sink) -> None:
        """The first silence may be a lost packet and only opens the hole; the second says that the unit is away."""
        if unit.failures == 0 and unit.link.connected:
            unit.link.failed("DEVICE_UNREACHABLE", text)
        else:
            await self._away(unit, text, sink)

    async def _away(self, unit: Unit, text: str, sink: Sink) -> None:
        stamped = unit.link.lost("DEVICE_UNREACHABLE", text)
        if stamped is not None:
            await sink.put(stamped)


class _Bus:
    """The units of one connection.

    Attributes:
        backoff: between attempts to connect.
        asked: names of units that were silent since the connection began.
        probing: held by the one silent unit that is asked.
        probe_s: time of the loop before which no silent unit is asked again.
    """

    def __init__(self, units: list[Unit], rng: random.Random) -> None:
        self.units = units
        self.backoff = backoff_of(rng)
        self.asked: set[str] = set()
        self.probing = asyncio.Lock()
        self.probe_s = 0.0

    def has_healthy(self) -> bool:
        return any(not u.failures for u in self.units)


class _Found:
    """What one cycle brought."""

    __slots__ = ("refused", "scales", "values")

    def __init__(self, scales: Scales) -> None:
        self.scales = scales
        self.values: list[tuple[Extractor, bytes, int, Read]] = []
        self.refused: list[tuple[Read, int, int]] = []

    def batches(self, group: Group, step_ns: int) -> list[Batch]:
        """Values of all replies; points that no reply held, with what was said of them."""
        for extractor, raw, _, _ in self.values:
            if extractor.feeds_scales:
                extractor.learn(raw, self.scales)
        found = []
        for extractor, raw, t_ns, _ in self.values:
            found += extractor.decode(raw, round_to_step(t_ns, step_ns), self.scales)
        if self.refused:
            answered = {s.point for *_, read in self.values for s in read.spans}
            said = {s.point: (q, t) for read, q, t in self.refused for s in read.spans if s.point not in answered}
            columns = Columns()
            for point, (quality, t_ns) in said.items():
                signal = group.fields[point].signal
                columns.add(signal, NOTHING[signal.kind], quality, round_to_step(t_ns, step_ns))
            found += columns.batches()
        return found
