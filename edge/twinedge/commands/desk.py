"""Takes commands from the uplink, has them judged, recorded and carried out, and tells each step.

    order ─▶ known? ─▶ admit ─▶ ACCEPTED ─▶ turn of the connection ─▶ begin ─▶ ledger ─▶ Carrier ─▶ ledger ─▶ end told
                └─ answered with what is known       (fsync before the device)

One command a connection at a time. What a session ordered and nobody has begun when it ends is never done.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NoReturn

import structlog

from twinedge.commands import guard
from twinedge.commands.book import Book, Entry, described, refused
from twinedge.commands.carry import Carrier
from twinedge.commands.case import Case, Way
from twinedge.commands.hold import Holder
from twinedge.commands.ledger import Ledger
from twinedge.commands.readings import Readings
from twinedge.commands.rules import Rule, commandables_of
from twinmodel.clock import Clock
from twinmodel.errors import ConflictError, StorageError, TwinError, UnreachableError
from twinsync.command import (
    Command,
    Commandable,
    CommandConfirmed,
    CommandKind,
    CommandState,
    CommandStep,
    Value,
)

RECENT = 20
RETRY_S = 5.0
LOOKS = 60
"""How often an unknown end of the boot before is looked into, `RETRY_S` apart."""
_log = structlog.get_logger(__name__)

Reach = Callable[[str], Way | None]
"""How a device is reached now, None where its driver cannot write."""


class Desk:
    """The `CommandPort` of an agent.

    Args:
        ledger: called in a thread of its own.
        readings: shown what goes into the lanes.
        clock: the boot clock counts, the wall clock dates.
        machine: boot of the machine, "" where nothing tells.
        report: told each step.
        reach: see `Reach`.

    Attributes:
        results: how many commands were refused, or ended how, since the start.
        ready: set once the ledger is read and commands are taken.
    """

    def __init__(
        self,
        ledger: Ledger,
        readings: Readings,
        clock: Clock,
        *,
        machine: str,
        report: Callable[[CommandState], None],
        reach: Reach,
    ) -> None:
        self._ledger, self._readings, self._clock = ledger, readings, clock
        self._machine, self._report, self._reach = machine, report, reach
        self._rules: Mapping[str, Rule] = {}
        self._untold = True
        self._queue, self._longest_ns = 0, 0
        self._book: Book | None = None
        self._session = 0
        self._open: dict[str, Case] = {}
        self._told: dict[str, tuple[Value, int]] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._inbox: deque[Case | Entry] = deque()
        self._forgotten: list[str] = []
        self._news = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commands")
        self._carrier = Carrier(clock, readings, self._on_the_way)
        self._holder = Holder(clock, readings, self._carrier)
        self.results: Counter[str] = Counter()
        self.ready = asyncio.Event()

    def use(self, rules: Mapping[str, Rule], *, queue: int, longest_ns: int) -> None:
        """Judges by these rules from now on; what is open under a rule that changed is neither begun nor held on."""
        self._untold = self._untold or commandables_of(rules) != commandables_of(self._rules)
        self._rules, self._queue, self._longest_ns = rules, queue, longest_ns
        for case in self._open.values():
            if rules.get(case.target) != case.order.rule:
                case.end("COMMAND_NOT_ALLOWED")
        self._readings.want({signal for rule in rules.values() for signal in rule.signals})

    # ---- the uplink's side -----------------------------------------------------------------------------------------

    def order(self, command: Command) -> None:
        """See `CommandPort.order`."""
        case = self._open.get(command.id)
        known = None if self._book is None else self._book.get(command.id)
        if case is not None or known is not None:
            entry = case.entry if case is not None else known
            assert entry is not None, "one of the two is there"
            _log.warning("command came twice", id=command.id, target=command.target, step=entry.state.step.name)
            self._report(entry.state)
            return
        try:
            case = self._admitted(command)
        except TwinError as error:
            self._refuse(command, error)
            return
        for other in self._open.values():
            if other.target == case.target and other.order.command.kind is CommandKind.HOLD:
                other.end("COMMAND_SUPERSEDED")
        self._open[command.id] = case
        self._say(case, case.entry.state)
        self._inbox.append(case)
        self._news.set()

    def confirmed(self, confirmed: CommandConfirmed) -> None:
        """See `CommandPort.confirmed`."""
        entry = None if self._book is None else self._book.get(confirmed.id)
        if entry is not None and entry.ended and not entry.confirmed:
            self._keep(_confirmed(entry))

    def states(self) -> Sequence[CommandState]:
        """See `CommandPort.states`."""
        self._untold = True  # asked for when a session begins, which knows nothing
        return [] if self._book is None else self._book.untold()

    def commandables(self) -> tuple[Commandable, ...] | None:
        """See `CommandPort.commandables`."""
        untold, self._untold = self._untold, False
        return commandables_of(self._rules) if untold else None

    def session_ended(self) -> None:
        """See `CommandPort.session_ended`."""
        for case in self._open.values():
            case.end("COMMAND_SESSION_ENDED")

    # ---- for people ------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What is allowed, what is open, what came of the newest."""
        recent = [] if self._book is None else self._book.recent(RECENT)
        return {
            "allowed": sorted(self._rules),
            "ledger": "ok" if self._book is not None else "unavailable",
            "open": [described(case.entry) for case in self._open.values()],
            "recent": [described(entry) for entry in recent if entry.command.id not in self._open],
            "results": dict(self.results),
        }

    # ---- carrying out ----------------------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Carries out what is ordered until cancelled; what is under way then stays without an end in the ledger."""
        await self._load()
        async with asyncio.TaskGroup() as group:
            for entry in self._unfinished():
                group.create_task(self._settle(entry), name=f"command {entry.command.id}")
            while True:
                await self._news.wait()
                self._news.clear()
                while self._inbox:
                    item = self._inbox.popleft()
                    if isinstance(item, Case):
                        group.create_task(self._carry_out(item), name=f"command {item.id}")
                    else:
                        await self._save(item)

    def close(self) -> None:
        """Closes the ledger, after what waits for it; another run opens it anew."""
        self._thread.submit(self._ledger.close)

    def _admitted(self, command: Command) -> Case:
        if self._book is None:
            raise StorageError("COMMAND_LEDGER_UNAVAILABLE", "the ledger of commands cannot be read")
        newest = max(self._session, self._book.session)
        if command.session < newest:
            message = f"it is of session {command.session}, {newest} was there since"
            raise ConflictError("COMMAND_SESSION_ENDED", message, value=command.session, limit=newest)
        self._session = command.session
        order = guard.admit(self._rules, command, self._readings, self._clock.boot_ns(), self._longest_ns)
        way = self._way(order.rule)
        waiting = sum(self._connection(case) == way.connection for case in self._open.values())
        if waiting >= self._queue:
            message = f"{waiting} commands wait for {way.connection} already"
            raise ConflictError("COMMAND_QUEUE_FULL", message, value=waiting, limit=self._queue)
        now_ns = self._clock.wall_ns()
        accepted = CommandState(command.id, CommandStep.ACCEPTED, at_ns=now_ns)
        return Case(order, Entry(command, now_ns, accepted, steps=((now_ns, "ACCEPTED", ""),)))

    def _way(self, rule: Rule) -> Way:
        way = self._reach(rule.device)
        if way is None:
            raise UnreachableError("DEVICE_UNREACHABLE", f"{rule.device}: no driver that can write serves it")
        return way

    def _connection(self, case: Case) -> str:
        way = self._reach(case.order.rule.device)
        return "" if way is None else way.connection

    async def _carry_out(self, case: Case) -> None:
        """One command from its turn to its end; nothing of it ends the others."""
        try:
            await self._ended(case, await self._end_of(case))
        finally:
            self._open.pop(case.id, None)

    async def _end_of(self, case: Case) -> CommandState:
        try:
            way = self._way(case.order.rule)
            turn = self._turns.setdefault(way.connection, asyncio.Lock())
            if turn.locked():
                self._keep(case.entry)  # it may have to wait: should the agent die, it is known that nothing was done
            async with turn:
                await self._begin(case)
                state = await self._carrier.carry_out(case, way)
            if case.order.command.kind is CommandKind.HOLD and state.step is CommandStep.SUCCEEDED:
                held = case.state(CommandStep.ACCEPTED, state.at_ns, "", "held; " + state.detail, state.read_back)
                self._on_the_way(case, held)
                state = await self._holder.hold(case, way, turn, state)
        except TwinError as error:
            return self._carrier.state(case, CommandStep.FAILED, error.reason, error.message)
        except Exception as defect:  # noqa: BLE001  # it is this one's end, not that of the others
            _log.exception("command trips a defect", id=case.id, target=case.target)
            step = CommandStep.UNKNOWN if case.sent else CommandStep.FAILED
            return self._carrier.state(case, step, "INTERNAL", f"{type(defect).__name__}: {defect}")
        return state

    async def _begin(self, case: Case) -> None:
        """The last judgement before the ledger; what is in it afterwards may have been told to the device.

        Raises:
            TwinError: what forbids it; COMMAND_LEDGER_UNAVAILABLE.
        """
        assert self._book is not None, "nothing is admitted without it"
        now_ns, target = self._clock.boot_ns(), case.target
        case.check()
        ages_ns = self._book.ages_ns(target, now_ns)
        value, until_ns = self._told.get(target, (None, 0))
        guard.begin(case.order, self._readings, now_ns, ages_ns, value if now_ns < until_ns else None)
        shown = self._readings.newest(target)
        before = None if shown is None or shown.quality else shown.value
        entry = case.entry.begins(now_ns, self._machine, before, self._clock.wall_ns())
        self._forgotten += self._book.expired(self._clock.wall_ns())
        await self._write(entry)
        case.entry = entry
        self._forgotten += self._book.put(entry)
        self._told[target] = case.order.value, now_ns + case.order.rule.fresh_ns + case.order.rule.settle_ns

    async def _ended(self, case: Case, state: CommandState) -> None:
        """Records the end, then tells it: what the coordinator has confirmed must be here after a restart, too."""
        case.entry = case.entry.at(state)
        await self._save(case.entry)
        self.results[state.step.name.lower()] += 1
        self._say(case, state)

    async def _settle(self, entry: Entry) -> None:
        """A command of the boot before that has no end."""
        command = entry.command
        if not entry.begun:
            state = CommandState(command.id, CommandStep.FAILED, "COMMAND_SESSION_ENDED", "the agent started anew")
            await self._known(entry, state)
            return
        detail = "the agent ended while it was done"
        unknown = CommandState(command.id, CommandStep.UNKNOWN, "COMMAND_INTERRUPTED", detail)
        entry = await self._known(entry, unknown)
        rule = self._rules.get(command.target)
        if rule is None or rule.value is None:
            return
        try:
            order = guard.Order(command, rule, rule.value.fitted(command.arguments), (), 0)
        except TwinError:
            return
        case = Case(order, entry)
        for _ in range(LOOKS):
            if rule.target in self._told:
                return  # something else was told since: what the device shows says nothing about this one
            way = self._reach(rule.device)
            if way is not None:
                step = way.writer.step(rule.device, rule.name, order.value)
                found = await self._carrier.settled(case, way, step, entry.state)
                if found is not entry.state:
                    await self._known(entry, found)
                    return
            await asyncio.sleep(RETRY_S)

    async def _known(self, entry: Entry, state: CommandState) -> Entry:
        state = CommandState(
            state.id, state.step, state.reason, state.detail, state.read_back, self._clock.wall_ns()
        )  # fmt: skip
        entry = entry.at(state)
        await self._save(entry)
        self.results[state.step.name.lower()] += 1
        self._log(entry.command, state)
        self._report(state)
        return entry

    # ---- keeping ---------------------------------------------------------------------------------------------------

    async def _load(self) -> None:
        while self._book is None:
            try:
                self._book = Book(await self._in_thread(self._ledger.load), self._machine)
                self.ready.set()
            except StorageError as error:
                _log.error("no commands until the ledger can be read", reason=error.reason, detail=error.message)
                await asyncio.sleep(RETRY_S)

    def _unfinished(self) -> list[Entry]:
        assert self._book is not None, "it was loaded"
        return [entry for entry in self._book.unfinished() if entry.command.id not in self._open]

    def _keep(self, entry: Entry) -> None:
        """Has an entry saved when there is time."""
        self._inbox.append(entry)
        self._news.set()

    async def _save(self, entry: Entry) -> None:
        """Saves an entry of which nothing more is to be done; a disk that refuses keeps nobody from being told."""
        assert self._book is not None, "it was loaded"
        newest = self._book.get(entry.command.id)
        if newest is not None and len(newest.steps) > len(entry.steps):
            return
        self._forgotten += self._book.put(entry)
        try:
            await self._write(entry)
        except StorageError as error:
            _log.warning("step of a command is not recorded", id=entry.command.id, detail=error.message)

    async def _write(self, entry: Entry) -> None:
        forgotten, self._forgotten = self._forgotten, []
        try:
            await self._in_thread(self._ledger.put, entry, forgotten)
        except StorageError:
            self._forgotten += forgotten
            raise

    async def _in_thread(self, work: Callable[..., Any], *arguments: object) -> Any:
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._thread, work, *arguments))

    # ---- telling ---------------------------------------------------------------------------------------------------

    def _refuse(self, command: Command, error: TwinError) -> None:
        entry = refused(command, self._clock.wall_ns(), error.reason, error.message)
        self.results["refused"] += 1
        if self._book is not None:
            self._forgotten += self._book.put(entry)
            self._keep(entry)
        self._log(command, entry.state)
        self._report(entry.state)

    def _on_the_way(self, case: Case, state: CommandState) -> None:
        case.entry = case.entry.at(state)
        self._say(case, state)

    def _say(self, case: Case, state: CommandState) -> None:
        self._log(case.order.command, state)
        self._report(state)

    def _log(self, command: Command, state: CommandState) -> None:
        persons = ", ".join(sorted(guard.approvers(command)))
        facts = {"id": command.id, "target": command.target, "kind": command.kind.name, "by": persons}
        _log.info("command", **facts, step=state.step.name, reason=state.reason, detail=state.detail)


def _confirmed(entry: Entry) -> Entry:
    return replace(entry, confirmed=True)
