"""The drivers of an agent: one task a connection, begun, changed and ended by itself while the others go on.

    wanted ─▶ the same: left alone ─▶ changed: in place, or stopped and begun ─▶ gone: stopped

A driver that ends may wait for the commit of what it delivered before it acknowledges it: commits go on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from twinedge.drivers.link import Assignment, Changeable, Overlapping
from twinedge.drivers.registry import Group
from twinedge.keeping import keep
from twinedge.ports import Driver, Sink
from twinmodel.clock import SECOND_NS, Clock

log = structlog.get_logger(__name__)

STOP_AGAIN_S = 5.0
OVERLAP_S = 5.0
"""How long a connection that is to be replaced waits for the one that replaces it."""
LINGER_S = 1.0
"""How long the old one goes on then: a server holds values back for a publishing interval, half a second at most, and
those from before the new one began would end with it."""
LOOK_S = 0.01
Make = Callable[[Group, Sequence[Assignment]], Driver]
Wanted = Mapping[Group, tuple[Assignment, ...]]


@dataclass(slots=True)
class _Connection:
    driver: Driver
    assignments: tuple[Assignment, ...]
    task: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of connections, by the names of their drivers.

    Attributes:
        kept: nothing of them changed.
        changed: read something else over the connection there is.
        restarted: stopped and begun.
        started, stopped: new, and gone.
    """

    kept: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    started: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()


class Connections:
    """The connections of one agent; all calls come from its event loop.

    Args:
        make: makes the driver of a connection; raises TwinErrors.
        sink: where drivers put what they read.
        commit: makes durable what was put there.
        clock: measures how long a driver takes to end.
        twice: told which signals two drivers read for a moment, and when that is over.
    """

    def __init__(
        self,
        make: Make,
        sink: Sink,
        commit: Callable[[], Awaitable[object]],
        clock: Clock,
        twice: Callable[[Sequence[int], bool], None] = lambda _signals, _over: None,
    ) -> None:
        self._make = make
        self._sink = sink
        self._commit = commit
        self._clock = clock
        self._twice = twice
        self._group: asyncio.TaskGroup | None = None
        self._running: dict[Group, _Connection] = {}
        self._retiring: dict[asyncio.Task[None], _Connection] = {}

    @property
    def drivers(self) -> list[Driver]:
        """All of them."""
        return [connection.driver for connection in self._running.values()]

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What has to end before the agent does."""
        every = (*self._running.values(), *self._retiring.values())
        return [*self._retiring, *(connection.task for connection in every if connection.task is not None)]

    async def settled(self) -> None:
        """Waits for connections that were replaced and still go on; what they read is named as it was when they began.

        A number that goes out of use is given away again two changes later: none may be under way by then.
        """
        if self._retiring:
            await asyncio.wait(self._retiring)

    def build(self, wanted: Wanted) -> None:
        """Makes the drivers of the first configuration; raises TwinErrors."""
        self._running = {group: _Connection(self._make(group, mine), mine) for group, mine in wanted.items()}

    def begin(self, group: asyncio.TaskGroup) -> None:
        """Begins to read."""
        self._group = group
        for connection in self._running.values():
            self._start(connection)

    def fresh(self, wanted: Wanted) -> dict[Group, Driver]:
        """Drivers of connections that will begin, for `change`; raises TwinErrors, nothing has changed then."""
        return {group: self._make(group, mine) for group, mine in wanted.items() if self._begins(group, mine)}

    def _begins(self, group: Group, assignments: tuple[Assignment, ...]) -> bool:
        connection = self._running.get(group)
        if connection is None:
            return True
        return connection.assignments != assignments and not isinstance(connection.driver, Changeable)

    async def change(self, wanted: Wanted, fresh: Mapping[Group, Driver]) -> Changed:
        """Reads what is wanted from now on.

        All that happens in place is done when this first waits.
        """
        before, after = self._running, dict[Group, _Connection]()
        kept, changed, ending = [], [], []
        for group, mine in wanted.items():
            connection = before.get(group)
            if connection is None:
                after[group] = _Connection(fresh[group], mine)
                continue
            after[group] = connection
            if connection.assignments == mine:
                kept.append(connection.driver.name)
            elif isinstance(connection.driver, Changeable) and connection.driver.change(mine):
                connection.assignments = mine
                changed.append(connection.driver.name)
            else:
                after[group] = _Connection(fresh.get(group) or self._make(group, mine), mine)
                ending.append(group)
        self._running = after
        gone = [group for group in before if group not in after]
        started = [group for group in after if group not in before]
        for group in started:
            self._start(after[group])
        twice = [group for group in ending if isinstance(before[group].driver, Overlapping)]
        stopping = [before[group] for group in (*gone, *ending) if group not in twice]
        await asyncio.gather(self._stop(stopping), *(self._replace(before[group], after[group]) for group in twice))
        for group in ending:
            if group not in twice:
                self._start(after[group])
        return Changed(
            tuple(kept),
            tuple(changed),
            tuple(after[group].driver.name for group in ending),
            tuple(after[group].driver.name for group in started),
            tuple(before[group].driver.name for group in gone),
        )

    async def _replace(self, before: _Connection, after: _Connection) -> None:
        """Opens the new connection before the old one is closed, so that nothing is missed in between.

        Once the new one reads, nobody waits for the end of the old one; see `settled`. A server that has no room for a
        second one gets the new one when the old one is closed.
        """
        signals = [signal.id for mine in before.assignments for signal in mine.signals.values()]
        self._twice(signals, False)
        wanted = {health.device for health in before.driver.health() if health.connected} & set(after.driver.devices)
        self._start(after)
        until_ns = self._clock.boot_ns() + round(OVERLAP_S * SECOND_NS)
        while self._clock.boot_ns() < until_ns:
            if wanted <= {health.device for health in after.driver.health() if health.connected}:
                if self._group is not None:
                    retiring = self._group.create_task(
                        self._retire(before, signals), name=f"end of driver {before.driver.name}"
                    )
                    self._retiring[retiring] = before
                    retiring.add_done_callback(self._retiring.pop)
                    return
                break
            await asyncio.sleep(LOOK_S)
        await self._stop([before])
        self._twice(signals, True)

    async def _retire(self, before: _Connection, signals: Sequence[int]) -> None:
        """Lets the old connection deliver what its server still holds back, then ends it."""
        await asyncio.sleep(LINGER_S)
        try:
            await self._stop([before])
        except Exception:  # it must not end the others, which share its group
            log.exception("driver that was replaced does not end as it should", driver=before.driver.name)
        self._twice(signals, True)

    async def _stop(self, connections: Sequence[_Connection]) -> None:
        tasks = [connection.task for connection in connections if connection.task is not None]
        if tasks:
            await ended(tasks, self._commit, self._clock)

    def _start(self, connection: _Connection) -> None:
        driver = connection.driver
        if self._group is not None:
            run = partial(driver.run, self._sink)
            connection.task = self._group.create_task(keep(driver.name, run), name=f"driver {driver.name}")


async def ended(tasks: Sequence[asyncio.Task[None]], commit: Callable[[], Awaitable[object]], clock: Clock) -> None:
    """Ends tasks that may wait for a commit, which go on meanwhile."""
    ending = asyncio.gather(*tasks, return_exceptions=True)
    again_ns = 0
    while not ending.done():
        if clock.boot_ns() >= again_ns:
            # Before Python 3.13 a TaskGroup loses a cancellation that meets an error: it is said again.
            again_ns = clock.boot_ns() + round(STOP_AGAIN_S * SECOND_NS)
            for task in tasks:
                task.cancel()
        await commit()
        await asyncio.wait(tasks, timeout=0.02, return_when=asyncio.ALL_COMPLETED)
