"""One device behind a Modbus connection: what it is asked, how answers are judged, and whether it is the right one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from twinedge.drivers.decode import Decoder, number_decoder, string_decoder
from twinedge.drivers.identity import objection
from twinedge.drivers.link import Assignment, DeviceLink, backoff_of
from twinedge.drivers.modbus_decode import Extractor
from twinedge.drivers.modbus_fields import Field, Scales, fields_of
from twinedge.drivers.modbus_frame import (
    ILLEGAL_ADDRESS,
    ILLEGAL_VALUE,
    NO_PATH,
    NO_TARGET,
    Answer,
    Malformed,
    Refused,
    Request,
    Values,
)
from twinedge.drivers.modbus_line import Line
from twinedge.drivers.plan import Outcome, Planner, Read
from twinmodel.clock import MILLISECOND_NS, SECOND_NS, Clock
from twinmodel.profile.address import parse_address, parse_type
from twinmodel.profile.schema import FirmwareProfile
from twinmodel.quality import GOOD, QualityReason, bad
from twinmodel.signal import Kind

STRANGER_RETRY_NS = 10 * SECOND_NS
SLOT_NS = 10 * MILLISECOND_NS
DEVICE_FAULT = bad(QualityReason.DEVICE_FAULT)
DECODE = bad(QualityReason.DECODE)


@dataclass(slots=True)
class Group:
    """The points of one unit that share a period, and the plan of the reads that cover them."""

    period_ns: int
    planner: Planner
    fields: dict[str, Field]
    sources: frozenset[str]
    phase_ns: int
    due_ns: int = 0
    _made: dict[int, tuple[Read, Request, Extractor]] = field(default_factory=dict)
    _reads: list[Read] = field(default_factory=list)

    def prepared(self, read: Read) -> tuple[Request, Extractor]:
        """The request of a read and the decoder of its reply, made once for each read of the plan."""
        if self._reads is not self.planner.reads:
            self._reads = self.planner.reads
            self._made.clear()
        made = self._made.get(id(read))
        if made is None or made[0] is not read:
            if len(self._made) > 2 * len(self._reads):
                self._made.clear()  # what is asked once, to learn from, must not pile up over months
            fields = [self.fields[span.point] for span in read.spans]
            made = read, Request.read(read.table, read.start, read.count), Extractor(read.start, fields, self.sources)
            self._made[id(read)] = made
        return made[1], made[2]

    def next_due(self, now_ns: int) -> int:
        """Moves to the next point of the grid that is not past; returns how many were skipped.

        The first step is shorter: it spreads devices that start together over the period, in slots that many of a
        large number share, for waking up once for some of them costs half of waking up for each.
        """
        if self.phase_ns:
            self.due_ns, self.phase_ns = self.due_ns + self.phase_ns - self.period_ns, 0
            if self.period_ns % SLOT_NS == 0:
                self.due_ns -= self.due_ns % SLOT_NS
        skipped = max((now_ns - self.due_ns) // self.period_ns, 0)
        self.due_ns += (skipped + 1) * self.period_ns
        return skipped


@dataclass(frozen=True, slots=True)
class Trait:
    """One thing by which a device is known."""

    request: Request
    decode: Decoder
    pattern: str
    firmware: bool

    def said(self, raw: bytes) -> str:
        """What the device says of itself."""
        return str(self.decode([int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2)])[0])

    def objection(self, said: str) -> tuple[str, str] | None:
        """Reason and text of what is wrong with what it says."""
        return objection(said, self.pattern, firmware=self.firmware)


class Unit:
    """One device; see `Group` for its reads.

    Attributes:
        failures: polls in a row that it did not answer.
        identified: whether it was found to be the right one on this connection.
        stranger: whether it is another device, or of another firmware.
        polled: the group that is being asked for.
        line: the connection it is polled on, None while there is none.
        fields: how its points lie.
    """

    def __init__(self, assignment: Assignment, clock: Clock, rng: random.Random) -> None:
        self.link = DeviceLink(assignment, clock)
        self.number = int(assignment.device.unit_id)
        self.backoff = backoff_of(rng)
        self.failures = 0
        self.identified = False
        self.stranger = False
        self.polled: Group | None = None
        self.line: Line | None = None
        self._rng = rng
        self._waiting: asyncio.Future[None] | None = None
        self._plan(assignment)

    def _plan(self, assignment: Assignment) -> None:
        profile = assignment.profile
        self.delay_s = profile.limits.delay / SECOND_NS
        self.scales = Scales()
        self.traits = traits_of(profile)
        self.fields = fields_of(profile, assignment.signals)
        self.groups = _groups(profile, self.fields, self._rng)

    def change(self, assignment: Assignment, now_ns: int) -> None:
        """Reads something else from the next poll on; what is under way ends as it began.

        Groups of the same period keep their pace. Who it is, the device has to say anew where the profile asks
        something else.
        """
        before, self.link.assignment = self.link.assignment, assignment
        paces = {group.period_ns: group for group in self.groups}
        self._plan(assignment)
        for group in self.groups:
            pace = paces.get(group.period_ns)
            group.due_ns = now_ns
            if pace is not None:
                under_way = pace is self.polled
                group.due_ns = pace.due_ns + under_way * pace.period_ns
                group.phase_ns = 0 if under_way else pace.phase_ns
        old, new = before.profile, assignment.profile
        if (old.identify, old.firmware) != (new.identify, new.firmware):
            self.identified = False
            if self.stranger:
                self.stranger, self.link.quarantine = False, ""
                for group in self.groups:
                    group.due_ns = now_ns
        if self._waiting is not None:
            _wake(self._waiting)

    async def wait(self, wait_ns: int) -> None:
        """Sleeps, at most until there is something else to read."""
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        handle = loop.call_later(wait_ns / SECOND_NS, _wake, self._waiting)
        try:
            await self._waiting
        finally:
            handle.cancel()
            self._waiting = None

    def begin(self, now_ns: int) -> None:
        """A connection begins: behind it may be another device."""
        self.identified = self.stranger = False
        self.polled = None
        self.scales.forget()
        for group in self.groups:
            if not self.failures or not group.due_ns:
                group.due_ns = now_ns

    def judge(self, answer: Answer, request: Request) -> tuple[Outcome, int, str]:
        """What an answer means for the plan, the quality of its points, and what to tell."""
        if isinstance(answer, Values):
            return Outcome.ANSWERED, GOOD, ""
        if isinstance(answer, Malformed):
            outcome = Outcome.TOO_LONG if answer.length else Outcome.FAILED
            return outcome, DECODE, f"{answer.text} ({request.place})"
        text = f"exception {answer.code} for {request.place}"
        codes = {ILLEGAL_ADDRESS: Outcome.ILLEGAL, ILLEGAL_VALUE: Outcome.TOO_LONG}
        return codes.get(answer.code, Outcome.FAILED), DEVICE_FAULT, text

    def put_off(self, until_ns: int) -> None:
        """Asks nothing before a time: all groups, else each would cost the other units a timeout."""
        for group in self.groups:
            group.due_ns = max(group.due_ns, until_ns)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def unreachable(answer: Answer) -> str:
    """What a gateway says about a unit that it cannot reach, "" for other answers."""
    if isinstance(answer, Refused) and answer.code in {NO_PATH, NO_TARGET}:
        return f"the gateway cannot reach the unit (exception {answer.code})"
    return ""


def _groups(profile: FirmwareProfile, fields: dict[str, Field], rng: random.Random) -> list[Group]:
    """One group per period; those that scales read are asked first."""
    sources = frozenset(p for f in fields.values() if f.scale is not None for p in f.scale.points)
    by_period: dict[int, dict[str, Field]] = {}
    for name, point in profile.points.items():
        by_period.setdefault(profile.every_ns(point), {})[name] = fields[name]
    groups = []
    for period_ns, mine in sorted(by_period.items(), key=lambda item: (not sources & item[1].keys(), item[0])):
        spans = [f.span for f in mine.values()]
        planner = Planner(spans, max_read=profile.limits.max_read, bridge=profile.limits.bridge)
        groups.append(Group(period_ns, planner, mine, sources, max(round(rng.random() * period_ns), 1)))
    return groups


def traits_of(profile: FirmwareProfile) -> list[Trait]:
    """What a device of this profile is asked: its identity, then its firmware; nothing without `identify`."""
    identify = profile.identify
    if identify is None:
        return []
    asked: Iterable[tuple[str, str, str, bool]] = [(identify.at, identify.as_, identify.match, False)]
    if identify.firmware is not None:
        asked = [*asked, (identify.firmware.at, identify.firmware.as_, profile.firmware, True)]
    traits = []
    for at, as_, pattern, firmware in asked:
        address, wire = parse_address(at, profile.base or 0), parse_type(as_)
        order = profile.defaults.order or profile.order
        decode = (
            string_decoder(as_, order, None)
            if wire.name == "string"
            else number_decoder(as_, order, Kind.FLOAT if wire.name == "float" else Kind.INT, None, None)
        )
        request = Request.read(address.table, address.number, wire.registers)
        traits.append(Trait(request, decode, pattern, firmware))
    return traits
