"""One line per cause: which alarm stands for which others.

device away ──▶ communication:DEVICE ──▶ covers alarms about the quality of its signals
all devices of a connection away ──▶ communication:CONNECTION ──▶ covers those, too
all devices away ──▶ communication.gateway ──▶ covers all of these
more alarms of one rule in a time than `flood` says ──▶ RULE.flood ──▶ covers the further ones
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from twinedge.alarms.alarm import Alarm, Now
from twinedge.alarms.specs import AlarmSpec, alarm_name
from twinedge.config.alarms import COMMUNICATION
from twinmodel.clock import SECOND_NS

GATEWAY: Final = f"{COMMUNICATION}.gateway"
PARTIAL_NS: Final = 30 * SECOND_NS
"""How long the devices of a connection that is back may take to answer before each is told by itself."""
RETURN_NS: Final = 15 * SECOND_NS
"""How long a device that is back may take to send good values before each of its signals is told by itself."""
LINE_OFF_NS: Final = 5 * SECOND_NS
NAMED_MAX: Final = 5
"""Sources that a line for many names."""


@dataclass(frozen=True, slots=True)
class DeviceFact:
    """Whether a device answers, and over which connection."""

    device: str
    connection: str
    connected: bool


@dataclass(slots=True)
class _Group:
    """The line for devices that share a connection, or the gateway."""

    alarm: Alarm
    devices: tuple[str, ...]
    partial_boot_ns: int | None = None


@dataclass(slots=True)
class _Flood:
    """The line for alarms of one rule; `recent` says of each when it was raised."""

    recent: dict[str, int] = field(default_factory=dict)
    members: set[str] = field(default_factory=set)
    line: Alarm | None = None


class Flip(Protocol):
    """Tells an alarm that its condition has begun or ended."""

    def __call__(self, alarm: Alarm, *, holds: bool, t_ns: int, now: Now) -> None:
        """See `Alarm.flip`."""
        ...


class Causes:
    """Follows which devices answer and which rules are in flood.

    Args:
        make: gives the alarm of a specification, the known one where there is one.
        flip: tells an alarm of its condition.
    """

    def __init__(self, make: Callable[[AlarmSpec, Now], Alarm], flip: Flip) -> None:
        self._make = make
        self._flip = flip
        self._connections: dict[str, str] = {}
        self._communications: dict[str, Alarm] = {}
        self._doubts: dict[str, list[Alarm]] = {}
        self._groups: dict[str, _Group] = {}
        self._floods: dict[str, _Flood] = {}
        self._back_ns: dict[str, int] = {}
        self._causes: dict[str, str] = {}

    def use(self, alarms: Iterable[Alarm]) -> None:
        """Takes the alarms of a new configuration."""
        alarms = list(alarms)
        self._communications = {a.spec.device: a for a in alarms if a.spec.kind == "communication"}
        self._doubts = {}
        for alarm in alarms:
            if alarm.spec.kind == "quality" and alarm.spec.device:
                self._doubts.setdefault(alarm.spec.device, []).append(alarm)
        names = {alarm.spec.name for alarm in alarms}
        for flood in self._floods.values():
            flood.members &= names

    def look(self, facts: Iterable[DeviceFact], now: Now) -> None:
        """Takes what drivers say; flips the conditions of devices and of what they share."""
        connections: dict[str, list[str]] = {}
        for fact in facts:
            alarm = self._communications.get(fact.device)
            if alarm is None:
                continue
            connections.setdefault(fact.connection, []).append(fact.device)
            self._connections[fact.device] = alarm_name(COMMUNICATION, fact.connection)
            if alarm.holds and fact.connected:
                self._back_ns[fact.device] = now.boot_ns
            self._flip(alarm, holds=not fact.connected, t_ns=now.wall_ns, now=now)
        wanted = {alarm_name(COMMUNICATION, name): (name, mine) for name, mine in connections.items() if len(mine) > 1}
        if len(connections) > 1:
            wanted[GATEWAY] = ("gateway", [device for mine in connections.values() for device in mine])
        for name, (source, devices) in wanted.items():
            self._group(name, source, devices, now)
        for name in self._groups.keys() - wanted.keys():
            self._flip(self._groups.pop(name).alarm, holds=False, t_ns=now.wall_ns, now=now)
        self._back_ns = {d: at for d, at in self._back_ns.items() if now.boot_ns - at < RETURN_NS}

    def _group(self, name: str, source: str, devices: Sequence[str], now: Now) -> None:
        alarms = [self._communications[device] for device in devices]
        away = [alarm for alarm in alarms if alarm.holds]
        group = self._groups.get(name)
        if group is None:
            if len(away) < len(alarms):
                return
            group = self._groups[name] = _Group(self._make(_line_spec(name, source, alarms[0].spec), now), ())
        group.devices = tuple(devices)
        alarm = group.alarm
        if len(away) == len(alarms):
            group.partial_boot_ns = None
            first = min(away, key=lambda a: a.since_boot_ns)
            self._flip(alarm, holds=True, t_ns=first.since_ns, now=Now(now.wall_ns, first.since_boot_ns))
        elif alarm.holds is not False:
            group.partial_boot_ns = now.boot_ns if group.partial_boot_ns is None else group.partial_boot_ns
            if len(away) * 2 <= len(alarms) or now.boot_ns - group.partial_boot_ns >= PARTIAL_NS:
                self._flip(alarm, holds=False, t_ns=now.wall_ns, now=now)
        if away:
            alarm.note = _named([a.spec.source for a in away])

    def moved(self) -> list[Alarm]:
        """Alarms whose cause has changed since the last call, as far as devices are their cause."""
        found: list[Alarm] = []
        whole = self._groups.get(GATEWAY)
        widest = whole.alarm.spec.name if whole is not None and whole.alarm.standing.active else ""
        for device, alarm in self._communications.items():
            away = alarm.holds or alarm.standing.active or device in self._back_ns
            cause = (widest or self._of_connection(device) or alarm.spec.name) if away else ""
            if cause != self._causes.get(device, ""):
                self._causes[device] = cause
                found += [alarm, *self._doubts.get(device, ())]
        found += [g.alarm for g in self._groups.values() if g.alarm.cause != self.cause_of(g.alarm)]
        return found

    def _of_connection(self, device: str) -> str:
        group = self._groups.get(self._connections.get(device, ""))
        return group.alarm.spec.name if group is not None and group.alarm.standing.active else ""

    def cause_of(self, alarm: Alarm) -> str:
        """Name of the alarm that stands for this one, "" for none."""
        spec = alarm.spec
        if spec.kind == "group":
            whole = self._groups.get(GATEWAY)
            covered = spec.rule == COMMUNICATION and spec.name != GATEWAY and not spec.name.endswith(".flood")
            return GATEWAY if covered and whole is not None and whole.alarm.standing.active else ""
        cause = self._causes.get(spec.device, "") if spec.kind in {"communication", "quality"} else ""
        if cause and cause != spec.name:
            return cause
        flood = self._floods.get(spec.rule)
        return (
            flood.line.spec.name if flood is not None and flood.line is not None and spec.name in flood.members else ""
        )

    def raised(self, alarm: Alarm, now: Now) -> Alarm | None:
        """An alarm was raised that nothing covers; returns the line that covers it where there are too many."""
        limit = alarm.spec.flood
        if limit is None:
            return None
        flood = self._floods.setdefault(alarm.spec.rule, _Flood())
        # Of several alarms: one that comes again and again chatters.
        flood.recent = {name: at for name, at in flood.recent.items() if at >= now.boot_ns - limit.window_ns}
        flood.recent[alarm.spec.name] = now.boot_ns
        if len(flood.recent) <= limit.count:
            return None
        if flood.line is None:
            flood.line = self._make(_line_spec(f"{alarm.spec.rule}.flood", alarm.spec.rule, alarm.spec), now)
        flood.members.add(alarm.spec.name)
        self._flip(flood.line, holds=True, t_ns=now.wall_ns, now=now)
        return flood.line

    def lines(self, known: Callable[[str], Alarm | None], now: Now) -> list[Alarm]:
        """Says of each line what it stands for; returns the alarms of floods that are over: nothing covers them."""
        freed: list[Alarm] = []
        for flood in self._floods.values():
            if flood.line is None:
                continue
            members = [alarm for name in sorted(flood.members) if (alarm := known(name)) is not None]
            standing = [alarm for alarm in members if alarm.standing.active]
            if standing:
                flood.line.note = _named([alarm.spec.source for alarm in standing])
                flood.line.count = len(standing)
            self._flip(flood.line, holds=bool(standing), t_ns=now.wall_ns, now=now)
            if not standing and not flood.line.standing.active:
                flood.members.clear()
                freed += members
        for alarm in (*(group.alarm for group in self._groups.values()), *self._communications.values()):
            if alarm.standing.active:
                alarm.count = self.size(alarm)
        return freed

    def size(self, alarm: Alarm) -> int:
        """How many alarms a line stands for, itself alone where it is none."""
        if alarm.spec.kind == "communication":
            return max(self._count(alarm.spec.device), 1)
        group = self._groups.get(alarm.spec.name)
        if group is not None:
            return max(sum(self._count(device) for device in group.devices), 1)
        flood = self._floods.get(alarm.spec.rule)
        return max(len(flood.members), 1) if flood is not None and flood.line is alarm else alarm.count

    def standing(self) -> list[Alarm]:
        """Lines that may stand for several."""
        lines = [flood.line for flood in self._floods.values() if flood.line is not None]
        groups = [group.alarm for group in self._groups.values()]
        return [a for a in (*lines, *groups, *self._communications.values()) if a.standing.active]

    def _count(self, device: str) -> int:
        folded = sum(alarm.standing.active for alarm in self._doubts.get(device, ()))
        return int(bool(self._communications[device].holds)) + folded


def _line_spec(name: str, source: str, one: AlarmSpec) -> AlarmSpec:
    text = "no device answers: {value}" if name == GATEWAY else "{source} does not answer: {value}"
    return AlarmSpec(
        name=name,
        rule=one.rule,
        source=source,
        kind="group",
        severity=one.severity,
        text="many alarms of {source}: {value}" if name.endswith(".flood") else text,
        delay_ns=0 if name.endswith(".flood") else one.delay_ns,
        off_delay_ns=max(one.off_delay_ns, LINE_OFF_NS),
        manner=one.manner,
        shelve_max_ns=one.shelve_max_ns,
    )


def _named(sources: Sequence[str]) -> str:
    """The first few of many, for people."""
    more = len(sources) - NAMED_MAX
    return ", ".join(sorted(sources)[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
