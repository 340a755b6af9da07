"""The alarms of a running agent: watches the lanes, asks drivers and models, records each step, answers people.

lanes ─see─▶ Engine ─▶ records ─▶ `@alarms` on the alarm lane
drivers, models ─(each second)─┘ ▲       └─▶ STATE/alarms.json, alarms.jsonl
coordinator, shell ─ask──────────┴─▶ Answers ─▶ the device that raised it
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from twinedge.alarms.alarm import Alarm, Now
from twinedge.alarms.answers import Answer, Answers, Wanted
from twinedge.alarms.causes import DeviceFact
from twinedge.alarms.devices import DeviceAlarms
from twinedge.alarms.engine import Engine
from twinedge.alarms.journal import Journal
from twinedge.alarms.memory import FILE, Memory
from twinedge.alarms.requests import STEPS, Request, ask, request_of, request_of_directive, unknown
from twinedge.alarms.specs import DEVICE, specs_of
from twinedge.alarms.twins import Runner, facts_of
from twinedge.config.load import LoadedSite
from twinedge.control import ControlServer
from twinedge.ports import AlarmSource, Driver
from twinmodel.alarms.records import AlarmRecord, Priority, encode
from twinmodel.alarms.states import State
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import StorageError
from twinmodel.quality import GOOD
from twinmodel.signal import ALARMS_SIGNAL, Batch, Catalogue, Kind
from twinsync.directive import Directive

log = structlog.get_logger(__name__)

TICK_S: Final = 0.25
FACTS_NS: Final = SECOND_NS
SAVE_NS: Final = SECOND_NS
SAVE_AGAIN_NS: Final = 10 * SECOND_NS
LISTED_MAX: Final = 100
"""Alarms in the status document."""
ANSWERED_MAX: Final = 1000
"""Alarms in one answer to a shell."""
ANSWER_S: Final = 5.0
"""How long a shell that acknowledges waits for the device."""
NEAR_NS: Final = 10 * SECOND_NS
_STANDING: Final = (State.UNACK, State.RTNUN, State.ACKED)


class Alarms:
    """All alarms of one agent; a `Watcher` of its pipeline.

    Args:
        loaded: the site.
        state: the agent's state directory.
        clock: wall and boot clock.
        record: puts samples on their lanes, `Pipeline.record`.
        drivers: those that run now.
        runners: twins that have a model.
    """

    def __init__(
        self,
        loaded: LoadedSite,
        state: Path,
        clock: Clock,
        *,
        record: Callable[[Sequence[Batch]], None],
        drivers: Callable[[], Iterable[Driver]],
        runners: Callable[[], Iterable[Runner]],
    ) -> None:
        self._loaded = loaded
        self._clock = clock
        self._record = record
        self._drivers = drivers
        self._runners = runners
        self._memory = Memory(state / FILE)
        self._journal = Journal(state)
        self._engine = Engine(self._memory.load(), self._now())
        self._devices_say = DeviceAlarms(self._engine, loaded)
        self._answers = Answers(drivers, self._still, self._answered)
        self._catalogue: Catalogue | None = None
        self._other_rules = False
        self._facts_ns = 0
        self._save_ns = self._write_ns = 0
        self._stamped_ns = 0
        self._kept = asyncio.Lock()
        self.records = 0
        self.rounds = 0

    def configure(self, loaded: LoadedSite) -> None:
        """Other rules, with the next catalogue or tick; an alarm whose rule stays keeps its state and its delays."""
        self._loaded, self._other_rules = loaded, True
        self._devices_say.loaded = loaded

    def use(self, catalogue: Catalogue) -> None:
        """See `Watcher`."""
        self._catalogue, self._other_rules = catalogue, False
        telling = {name for name, device in self._loaded.site.devices.items() if device.alarms}
        self._engine.use(specs_of(self._loaded, catalogue), catalogue, self._now(), telling)
        self._flush()

    def see(self, batches: Sequence[Batch]) -> None:
        """See `Watcher`."""
        self._engine.see(batches, self._now())
        self._flush()

    async def run(self) -> None:
        """Lets delays pass, keeps states and tells devices; runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._answers.run(), name="alarm answers")
            await self._follow()

    async def _follow(self) -> None:
        try:
            while True:
                self.rounds += 1
                self.tick()
                if self._engine.changed and self._clock.boot_ns() >= self._save_ns:
                    await self._keep()
                if self._journal.waits and self._clock.boot_ns() >= self._write_ns:
                    await self._journal.write()
                    self._write_ns = self._clock.boot_ns() + SAVE_NS
                await asyncio.sleep(TICK_S)
        finally:
            self._journal.end()
            if self._engine.changed:
                with suppress(StorageError):
                    self._memory.keep(self._engine.saved())

    def tick(self) -> None:
        """One look at clocks, drivers and models."""
        now = self._now()
        if self._other_rules and self._catalogue is not None:
            self.use(self._catalogue)
        devices = twins = None
        if now.boot_ns - self._facts_ns >= FACTS_NS or not self._facts_ns:
            self._facts_ns = now.boot_ns
            devices, twins = self._devices(), facts_of(self._runners())
        self._hear(now)
        self._engine.tick(now, devices, twins)
        self._flush()

    async def obey(self, directive: Directive) -> None:
        """Brings about what a directive of kind ALARM asks.

        Raises:
            TwinError: UNKNOWN_ALARM, ALARM_CHANGED or VALUE_INVALID; nothing has changed then.
        """
        await self._ask(request_of_directive(directive.target, directive.content))

    def serve(self, control: ControlServer) -> None:
        """Answers `twinedge alarm`."""
        control.on("alarm.list", self._list)
        control.on("alarm.show", self._show)
        for do in STEPS:
            control.on(f"alarm.{do}", partial(self._answer, do))

    def status(self) -> dict[str, Any]:
        """The section `alarms` of the status document."""
        alarms = self._engine.alarms.values()
        states = dict.fromkeys((s.value for s in State), 0)
        active = dict.fromkeys((p.value for p in Priority), 0)
        standing: list[Alarm] = []
        for alarm in alarms:
            state = alarm.standing.state
            if state is State.SUPPRESSED and not alarm.standing.active:
                continue
            states[state] += 1
            if state in _STANDING:
                standing.append(alarm)
                active[alarm.spec.priority] += alarm.standing.active
        return {
            "rules": len(self._loaded.site.alarms),
            "alarms": len(alarms),
            "states": states,
            "active": active,
            "chattering": sum(alarm.chattering for alarm in standing),
            "raised": self._engine.raised,
            "records": self.records,
            "list": [_document(alarm) for alarm in sorted(standing, key=_urgency)[:LISTED_MAX]],
        }

    def _hear(self, now: Now) -> None:
        for driver in self._drivers():
            if isinstance(driver, AlarmSource):
                self._devices_say.take(driver.take_alarms(), now)

    def _still(self, wanted: Wanted) -> bool:
        """Whether what is to be acknowledged at a device is still what the person looked at."""
        self._hear(self._now())
        self._flush()
        alarm = self._engine.alarms.get(wanted.alarm)
        return alarm is not None and alarm.standing.occurrence == wanted.occurrence

    def _answered(self, wanted: Wanted, answer: Answer) -> None:
        """Tells what a device made of an acknowledgement, beside the comment it came with."""
        facts = {"alarm": wanted.alarm, "by": wanted.by, "outcome": answer.outcome, "detail": answer.detail}
        if answer.reason:
            log.warning("device was not told that its alarm is acknowledged", reason=answer.reason, **facts)
        else:
            log.info("device was told that its alarm is acknowledged", **facts)
        alarm = self._engine.alarms.get(wanted.alarm)
        if alarm is not None and alarm.standing.occurrence == wanted.occurrence:
            now = self._now()
            alarm.by, alarm.comment, alarm.at_ns = wanted.by, answer.beside(wanted), now.wall_ns
            self._engine.tell(alarm, now.wall_ns, now, always=True)
            self._flush()

    def _now(self) -> Now:
        return Now(self._clock.wall_ns(), self._clock.boot_ns())

    def _devices(self) -> list[DeviceFact]:
        return [
            DeviceFact(health.device, driver.name, health.connected)
            for driver in self._drivers()
            for health in driver.health()
        ]

    def _flush(self) -> None:
        """Hands records to their lane; each gets a time of its own, as they share one signal."""
        records = self._engine.take()
        if not records or self._catalogue is None:
            return
        place, step_ns = self._catalogue.by_name[ALARMS_SIGNAL].id, self._catalogue.time_step_ns
        times = []
        for record in records:
            t_ns = (record.at_ns + step_ns // 2) // step_ns * step_ns
            if t_ns <= self._stamped_ns < t_ns + NEAR_NS:
                t_ns = self._stamped_ns + step_ns
            self._stamped_ns = t_ns
            times.append(t_ns)
        count = len(records)
        self.records += count
        texts = [encode(record) for record in records]
        self._journal.add(texts)
        self._record([Batch.of(Kind.STRING, [place] * count, texts, [GOOD] * count, times)])

    async def _keep(self) -> None:
        """Makes states durable; a disk that refuses is asked again, as alarms go on without it."""
        async with self._kept:
            self._engine.changed = False
            wait_ns = SAVE_NS
            try:
                await asyncio.to_thread(self._memory.keep, self._engine.saved())
            except StorageError:
                self._engine.changed, wait_ns = True, SAVE_AGAIN_NS
            self._save_ns = self._clock.boot_ns() + wait_ns

    async def _ask(self, request: Request) -> tuple[AlarmRecord, asyncio.Future[Answer | None] | None]:
        """The alarm as it stands then, and what its device will make of an acknowledgement, None where it is not told.

        Raises:
            TwinError: see `ask`.
        """
        now, answer = self._now(), None
        if request.do == "ack":
            self._hear(now)
        record = ask(self._engine, request, now)
        self._flush()
        if request.do == "ack" and self._engine.alarms[request.alarm].spec.kind == DEVICE:
            # One that was kept over a restart, and of which its device has not spoken since, has no condition.
            device, condition = self._devices_say.conditions.get(request.alarm, (record.source, ""))
            said = Wanted(request.alarm, device, condition, record.occurrence, request.by, request.comment)
            answer = self._answers.want(said)
        # What somebody was told is done must outlive a power cut; where the disk refuses it still holds until then.
        await self._keep()
        log.info("alarm asked", alarm=request.alarm, do=request.do, by=request.by, state=record.state)
        return record, answer

    async def _list(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        everything = body.get("all") is True
        alarms = [a for a in self._engine.alarms.values() if everything or _is_news(a)]
        alarms.sort(key=_urgency)
        return {"alarms": [_document(alarm) for alarm in alarms[:ANSWERED_MAX]], "total": len(alarms)}

    async def _show(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        name = str(body.get("alarm", ""))
        alarm = self._engine.alarms.get(name)
        if alarm is None:
            raise unknown(self._engine, name)
        limits = {"kind": alarm.spec.kind, "chattering": alarm.chattering, "shelve_max_ns": alarm.spec.shelve_max_ns}
        return _document(alarm) | limits

    async def _answer(self, do: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        request = request_of(str(body.get("alarm", "")), {**body, "do": do})
        record, answer = await self._ask(request)
        if answer is not None:
            await asyncio.wait([answer], timeout=ANSWER_S)
        said = answer.result() if answer is not None and answer.done() else None
        return _written(record) | ({} if said is None else {"device": asdict(said)})


def _is_news(alarm: Alarm) -> bool:
    """Whether somebody may want to look at it: it stands, or a person hides it, or it would stand."""
    state = alarm.standing.state
    return state is not State.NORM and (state is not State.SUPPRESSED or alarm.standing.active)


def _urgency(alarm: Alarm) -> tuple[int, int, int]:
    order = {State.UNACK: 0, State.RTNUN: 1, State.ACKED: 2}
    return order.get(alarm.standing.state, 3), -alarm.spec.severity, -alarm.at_ns


def _document(alarm: Alarm) -> dict[str, Any]:
    return _written(alarm.record(alarm.at_ns))


def _written(record: AlarmRecord) -> dict[str, Any]:
    return {**asdict(record), "state": record.state.value, "priority": record.priority.value}
