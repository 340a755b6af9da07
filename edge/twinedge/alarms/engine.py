"""The alarms of one gateway as a machine without I/O: samples, facts and requests in, records out.

    see(samples) ─▶ screen ─▶ senses ─▶ flip ─┬─▶ raise, clear ─▶ covers ─▶ records
    tick(devices, twins) ─────────────────────┘         ▲
    ask(request) ───────────────────────────────────────┘

Conditions follow the time of samples; delays are measured by the boot clock, so that a wall clock that jumps neither
raises an alarm early nor keeps it waiting. Only where samples come late, after an outage of their source, does their
own time count as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog

from twinedge.alarms.alarm import Alarm, Now
from twinedge.alarms.causes import Causes, DeviceFact
from twinedge.alarms.listeners import POLLED, Listener, listen, sense_for
from twinedge.alarms.newest import Newest
from twinedge.alarms.screen import Found, Screen
from twinedge.alarms.senses import Change, Doubt, Sense
from twinedge.alarms.specs import DEVICE, AlarmSpec, resurrected
from twinedge.alarms.twins import TwinFact
from twinedge.config.alarms import Comparison
from twinmodel.alarms.records import AlarmRecord, decode
from twinmodel.alarms.states import State, cleared, suppressed, unshelved, unsuppressed
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError
from twinmodel.quality import describe
from twinmodel.signal import Batch, Catalogue

log = structlog.get_logger(__name__)

LATE_NS: Final = 10 * SECOND_NS
"""Samples that lie so far behind the wall clock come from a source that was cut off."""
COUNT_NS: Final = 60 * SECOND_NS
"""Least time between two records that differ in nothing but their count."""
START_NS: Final = 60 * SECOND_NS
"""How long after a start what was suppressed before it stays so while nothing is known, and alarms are kept in mind
that no rule has: lines for many are made again by then."""
IN_TICKS: Final = frozenset({*POLLED, "quality", "communication", "group"})
"""Kinds that wait for a tick, which knows whether another alarm is their cause."""


class Engine:
    """All alarms; every method takes the moment it happens at.

    Args:
        saved: what an earlier process knew of its alarms, by name.

    Attributes:
        alarms: by name.
        shelved: those that a person hides for a while.
        changed: whether something is to be saved.
        raised: occurrences since the start.
    """

    def __init__(self, saved: Mapping[str, Mapping[str, Any]], now: Now) -> None:
        self.alarms: dict[str, Alarm] = {}
        self.changed = False
        self.raised = 0
        self._saved = dict(saved)
        self._start_until_ns = now.boot_ns + START_NS
        self._starting = True
        self._begun = False
        self._polled: list[Alarm] = []
        self.shelved: dict[str, Alarm] = {}
        self._pending: dict[str, Alarm] = {}
        self._chattering: dict[str, Alarm] = {}
        self._records: list[AlarmRecord] = []
        self._causes = Causes(self.made, self.flip)
        self._screen = Screen({}, 0)
        self._newest = Newest(Catalogue(()))
        self._listeners: dict[int, list[Listener]] = {}
        self._guards: dict[Comparison, Sense] = {}
        self._inner: dict[str, Alarm] = {}

    def use(self, specs: Sequence[AlarmSpec], catalogue: Catalogue, now: Now, telling: Collection[str] = ()) -> None:
        """Takes other rules or another catalogue; an alarm keeps its state, and where its rule is the same its delays.

        What is gone while it stood is told to be normal.

        Args:
            specs: the alarms of the rules.
            catalogue: the signals.
            now: this moment.
            telling: devices that raise alarms themselves.
        """
        old, self.alarms = self.alarms, {}
        for spec in specs:
            known = old.pop(spec.name, None)
            if known is None:
                self.made(spec, now)
            elif known.spec == spec:
                self.alarms[spec.name] = known
            else:
                self._changed(known, spec)
        for alarm in old.values():
            if alarm.spec.kind == "group" or (alarm.spec.kind == DEVICE and alarm.spec.device in telling):
                self.alarms[alarm.spec.name] = alarm
            else:
                self._forget(alarm.told, now)
        for spec in resurrected(self._saved, telling):
            self.made(spec, now)
        self._pending = {n: a for n, a in self.alarms.items() if a.pending}
        self._chattering = {n: a for n, a in self.alarms.items() if a.chattering}
        self.shelved = {n: a for n, a in self.alarms.items() if a.shelved_until_boot_ns is not None}
        self._inner = {a.spec.outer: a for a in self.alarms.values() if a.spec.outer}
        self._causes.use(self.alarms.values())
        self._polled = [a for a in self.alarms.values() if a.spec.kind in POLLED]
        self._listen(catalogue)
        self._newest = Newest(catalogue, self._newest)
        self._look_again(now)
        if self._begun:
            self._cover_all(now)

    def see(self, batches: Iterable[Batch], now: Now) -> None:
        """Takes samples after the gate, and what models say."""
        for batch in batches:
            self._newest.take(batch, now.wall_ns)
            for found in self._screen.look(batch, now.wall_ns):
                self._sample(found, now)

    def tick(
        self, now: Now, devices: Iterable[DeviceFact] | None = None, twins: Iterable[TwinFact] | None = None
    ) -> None:
        """Lets time pass; call it a few times a second. What drivers and models say is taken now and then."""
        if twins is not None:
            self._judge({fact.twin: fact for fact in twins}, now)
        if devices is not None:
            self._causes.look(devices, now)
            for alarm in self._causes.lines(self.alarms.get, now):
                self.cover(alarm, now)
        self._settle(now, moved=devices is not None)
        for alarm in tuple(self.shelved.values()):
            self._end_shelving(alarm, now)
        if devices is not None:
            self._recount(now)
            if not self._begun:
                self._begun = True
                self._cover_all(now)
        if self._starting and now.boot_ns >= self._start_until_ns:
            self._starting = False
            self._forget_orphans(now)
            self._cover_all(now)

    def take(self) -> list[AlarmRecord]:
        """Records since the last call, oldest first."""
        records, self._records = self._records, []
        return records

    def saved(self) -> dict[str, dict[str, Any]]:
        """What must outlive the process: every alarm that ever was more than normal."""
        mine = {n: a.saved() for n, a in self.alarms.items() if a.standing.occurrence or a.standing.covered}
        return {**{name: dict(saved) for name, saved in self._saved.items()}, **mine}

    def flip(self, alarm: Alarm, *, holds: bool, t_ns: int, now: Now) -> None:
        """The condition of an alarm has begun or ended; it is raised or cleared when its delay has passed."""
        if holds is alarm.holds:
            return
        if alarm.pending and _late(t_ns, now) and t_ns - alarm.since_ns >= _delay_ns(alarm):
            self._step(alarm, now)
        alarm.flip(holds=holds, t_ns=t_ns, now=now)
        if alarm.chattering:
            self._chattering[alarm.spec.name] = alarm
        if not alarm.pending:
            self._pending.pop(alarm.spec.name, None)
        elif _delay_ns(alarm) == 0 and alarm.spec.kind not in IN_TICKS:
            self._step(alarm, now)
        else:
            self._pending[alarm.spec.name] = alarm

    def cover(self, alarm: Alarm, now: Now) -> None:
        """Hides an alarm, or shows it again, as its causes and its design want it; tells it where that is news."""
        alarm.cause = self._cause_of(alarm)
        hidden = bool(alarm.cause) or alarm.guarded
        if hidden and not alarm.standing.suppressed:
            alarm.standing = suppressed(alarm.standing)
            self.changed = True
        elif not hidden and alarm.standing.suppressed:
            alarm.standing = unsuppressed(alarm.standing)
            self.changed = True
        self.tell(alarm, now.wall_ns, now)

    def tell(self, alarm: Alarm, t_ns: int, now: Now, *, always: bool = False) -> AlarmRecord:
        """Writes a record where people learn something by it."""
        record = alarm.record(t_ns)
        if always or alarm.worth_telling(record):
            alarm.told, alarm.told_boot_ns = record, now.boot_ns
            self._records.append(record)
            self.changed = True
        return record

    def made(self, spec: AlarmSpec, now: Now) -> Alarm:
        """The alarm of a specification, the known one where there is one; it need not be that of a rule."""
        known = self.alarms.get(spec.name)
        if known is not None:
            return known if known.spec == spec else self._changed(known, spec)
        alarm = self.alarms[spec.name] = Alarm(spec)
        alarm.sense = sense_for(spec)
        saved = self._saved.pop(spec.name, None)
        if saved is not None:
            try:
                alarm.restore(saved, now)
            except (KeyError, TypeError, ValueError, InputError) as error:
                log.warning("what was kept of an alarm cannot be read", alarm=spec.name, detail=str(error))
            else:
                self._retell(alarm, now)
        return alarm

    def _changed(self, known: Alarm, spec: AlarmSpec) -> Alarm:
        """An alarm under another rule: where it stands is kept, what its condition was is to be seen."""
        alarm = self.alarms[spec.name] = replace(known, spec=spec, holds=None, sense=sense_for(spec), chattering=False)
        return alarm

    def _retell(self, alarm: Alarm, now: Now) -> None:
        """Tells what stands over a restart once more: the last record before it may not have reached the disk."""
        if alarm.told is not None and alarm.standing.state is not State.NORM:
            self.tell(alarm, alarm.told.at_ns, now, always=True)

    def _forget(self, told: AlarmRecord | None, now: Now) -> None:
        """The alarm is no more; if it stood, people are told that it is gone."""
        if told is not None and told.state is not State.NORM:
            gone = replace(told, state=State.NORM, active=False, acked=True, until_ns=0, cause="", by="", comment="")
            self._records.append(replace(gone, text="its rule or its device is gone", at_ns=max(now.wall_ns, 0)))
        self.changed = True

    def _forget_orphans(self, now: Now) -> None:
        for saved in self._saved.values():
            try:
                self._forget(decode(str(saved["told"])) if saved.get("told") else None, now)
            except InputError:
                continue
        self._saved.clear()

    def _listen(self, catalogue: Catalogue) -> None:
        """Hangs every condition on the signals of a catalogue."""
        # The limit further out first, so that the one within is covered before it is told.
        alarms = sorted(self.alarms.values(), key=lambda a: a.spec.name not in self._inner)
        self._listeners, self._guards = listen(alarms, self._guards, catalogue)
        senses = {signal: [one.sense for one in mine] for signal, mine in self._listeners.items()}
        self._screen = Screen(senses, len(catalogue))

    def _look_again(self, now: Now) -> None:
        """Judges the newest values by conditions that have seen none: a value that stays is not told again."""
        for signal, mine in self._listeners.items():
            if any(one.sense.holds is None for one in mine):
                found = self._newest.of(signal)
                if found is not None:
                    self._sample(found, now)

    def _sample(self, found: Found, now: Now) -> None:
        signal, value, quality, t_ns = found
        usable = Screen.is_usable(value, quality)
        for listener in self._listeners[signal]:
            sense, alarm = listener.sense, listener.alarm
            if not usable and not isinstance(sense, Doubt):
                continue
            before = sense.holds
            sense.judge(value, quality, t_ns)
            if sense.holds is before or sense.holds is None:
                continue
            if alarm is not None:
                alarm.value = sense.rate if isinstance(sense, Change) else value if usable else None
                alarm.quality = describe(quality)
                self.flip(alarm, holds=sense.holds, t_ns=t_ns, now=now)
            for guarded in listener.guarded:
                self._guard(guarded)
                self.cover(guarded, now)
        self._screen.renew(signal)

    def _judge(self, facts: Mapping[str, TwinFact], now: Now) -> None:
        for alarm in self._polled:
            kind = alarm.spec.kind
            twin, _, output = alarm.spec.source.partition("/")
            fact = facts.get(twin)
            if fact is None:
                continue
            if kind == "drift":
                # What was isolated is known later than that it drifts.
                learnt = bool(fact.isolation) and fact.isolation != alarm.note
                alarm.note = fact.isolation or alarm.note
                if learnt and alarm.shows and alarm.standing.active:
                    self.tell(alarm, fact.t_ns, now, always=True)
                self.flip(alarm, holds=fact.drifting, t_ns=fact.t_ns, now=now)
            elif kind == "regime":
                alarm.note = ", ".join(fact.left) or alarm.note
                self.flip(alarm, holds=bool(fact.left), t_ns=fact.t_ns, now=now)
            elif output in fact.deviations and alarm.sense is not None:
                alarm.sense.judge(fact.deviations[output], 0, fact.t_ns)
                alarm.value = fact.deviations[output]
                self.flip(alarm, holds=bool(alarm.sense.holds), t_ns=fact.t_ns, now=now)

    def _settle(self, now: Now, *, moved: bool) -> None:
        """Raises and clears what is due: what has gone first, then causes, then their consequences."""
        due = [alarm for alarm in self._pending.values() if self._is_due(alarm, now)]
        if not due and not moved:
            return
        ranks: tuple[list[Alarm], ...] = ([], [], [], [])
        for alarm in due:
            causes = {"group": 1, "communication": 2}
            ranks[causes.get(alarm.spec.kind, 3) if alarm.holds else 0].append(alarm)
        for rank in ranks:
            for alarm in rank:
                self._step(alarm, now)
            for alarm in self._causes.moved():
                self.cover(alarm, now)

    def _is_due(self, alarm: Alarm, now: Now) -> bool:
        delay_ns = _delay_ns(alarm)
        if now.boot_ns - alarm.since_boot_ns >= delay_ns:
            return True
        newest_ns = self._screen.newest_ns(alarm.signal) if alarm.signal is not None else now.wall_ns
        return _late(newest_ns, now) and newest_ns - alarm.since_ns >= delay_ns

    def _step(self, alarm: Alarm, now: Now) -> None:
        """Raises or clears an alarm whose delay has passed."""
        self._pending.pop(alarm.spec.name, None)
        t_ns = alarm.since_ns + _delay_ns(alarm)
        self.changed = True
        if alarm.holds:
            alarm.raise_(now)
            alarm.count = self._causes.size(alarm)
            self.raised += 1
            if alarm.chattering:
                self._chattering[alarm.spec.name] = alarm
            line = None if alarm.standing.covered else self._causes.raised(alarm, now)
            if line is not None:
                self.cover(alarm, now)
        else:
            alarm.standing = cleared(alarm.standing, alarm.spec.manner)
            alarm.by = alarm.comment = ""
            alarm.rested()
            self._chattering.pop(alarm.spec.name, None)
        alarm.at_ns = t_ns
        self.tell(alarm, t_ns, now)
        inner = self._inner.get(alarm.spec.name)
        if inner is not None:
            self.cover(inner, now)

    def _cause_of(self, alarm: Alarm) -> str:
        outer = self.alarms.get(alarm.spec.outer)
        if outer is not None and outer.standing.active and not outer.standing.covered:
            return outer.spec.name
        return self._causes.cause_of(alarm)

    def _cover_all(self, now: Now) -> None:
        for alarm in self.alarms.values():
            self._guard(alarm)
            self.cover(alarm, now)

    def _guard(self, alarm: Alarm) -> None:
        """Whether `when` or `unless` suppress it; what is not known suppresses nothing, but shortly after a start."""
        if self._starting and alarm.guarded and any(sense.holds is None for sense, _ in alarm.guards):
            return
        alarm.guarded = any(sense.holds is not None and sense.holds is not wanted for sense, wanted in alarm.guards)

    def _end_shelving(self, alarm: Alarm, now: Now) -> None:
        """By whichever clock says so first: a wall clock that is put back must not hide an alarm for longer."""
        until_boot_ns = alarm.shelved_until_boot_ns
        if until_boot_ns is not None and (
            now.boot_ns >= until_boot_ns or now.wall_ns >= alarm.standing.shelved_until_ns
        ):
            alarm.standing = unshelved(alarm.standing)
            alarm.shelved_until_boot_ns = None
            self.shelved.pop(alarm.spec.name, None)
            alarm.by = alarm.comment = ""
            self.tell(alarm, now.wall_ns, now)
            self.changed = True

    def _recount(self, now: Now) -> None:
        """Lines that stand for more or fewer than they told say so, once in a while."""
        for alarm in (*self._causes.standing(), *self._chattering.values()):
            told = alarm.told
            stale = told is not None and told.count != alarm.count and now.boot_ns - alarm.told_boot_ns >= COUNT_NS
            if stale and alarm.shows:
                self.tell(alarm, now.wall_ns, now, always=True)


def _delay_ns(alarm: Alarm) -> int:
    return alarm.spec.delay_ns if alarm.holds else alarm.off_delay_ns


def _late(t_ns: int, now: Now) -> bool:
    return t_ns < now.wall_ns - LATE_NS
