"""OPC UA: one session per endpoint and security, every point a monitored item found by its path or node id.

    connect ─▶ resolve ─▶ check ─▶ monitor ─▶ publish ─▶ table ─▶ sink
       ▲                                         │
       └───────────── lost, silent ◀─────────────┘

Each connection starts from nothing: a new client, namespaces looked up by their URIs, paths resolved again. That
survives restarts, renumbered namespaces, changed node ids and half-open links alike. A message is acknowledged after
the sink has taken it: while the agent is slow, the server's queues hold what comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from asyncua.client.client import Client

from twinedge.drivers.link import Assignment, DeviceLink, backoff_of, names
from twinedge.drivers.opcua_alarms import AlarmFeed
from twinedge.drivers.opcua_check import Checker, Finding
from twinedge.drivers.opcua_connect import Secured
from twinedge.drivers.opcua_identify import Identity
from twinedge.drivers.opcua_items import Item, items_of
from twinedge.drivers.opcua_monitor import Limits, Monitor, read_values, resolve
from twinedge.drivers.opcua_publish import LostError, Publishing, changes_of
from twinedge.drivers.opcua_table import OVERFLOWED, ItemTable, Taken
from twinedge.drivers.opcua_wire import Message
from twinedge.drivers.opcua_write import NodeWriter
from twinedge.ports import AlarmsRepeated, Delivery, DeviceAlarm, DriverHealth, Sink
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.quality import QualityReason, bad
from twinsync.backoff import Backoff

TIMEOUT_S: Final = 4.0
CONNECT_S: Final = 8.0
BACKOFF_MAX_NS: Final = 4 * SECOND_NS
WATCHDOG_S: Final = 1.0
PROBE_S: Final = 4.0  # the library's own probe; a server that creates thousands of items is slow to answer
LOST_KEEPALIVES: Final = 3
BROWSE_AGAIN_S: Final = 10.0
IDENTIFY_AGAIN_S: Final = 10.0

logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # it logs each step of a reconnect; told here once


class OpcuaDriver:
    """Subscribes to all devices behind one endpoint.

    Args:
        assignments: devices with the same address and security.
        clock: stamps samples that carry no sane time; its boot clock finds a silent server.
        rng: jitter of reconnects.
        state_dir: where our certificate lies, and the trust store.

    Attributes:
        writer: tells its devices what commands say.
        overlaps: see `Overlapping`.
    """

    overlaps = True

    def __init__(self, assignments: Sequence[Assignment], *, clock: Clock, rng: random.Random, state_dir: Path) -> None:
        self._assignment = assignments[0]
        self._url = self._assignment.device.address
        self._clock = clock
        self._secured = Secured(self._assignment, clock, state_dir)
        self._backoff = backoff_of(rng, BACKOFF_MAX_NS)
        self._links = [DeviceLink(a, clock) for a in assignments]
        self._items = items_of(self._links)
        self._table = ItemTable(self._items, self._links)
        self._checker = Checker(self._table)
        self._limits = Limits()
        self._own_publish: bool | None = None
        self._identity = Identity(self._links)
        self._alarms = AlarmFeed([link for link in self._links if link.assignment.device.alarms])
        self.writer = NodeWriter(self._table, self._checker, self._limits)

    @property
    def name(self) -> str:
        """See `Driver.name`."""
        security = self._assignment.device.security
        return f"opcua {urlsplit(self._url).netloc} {security.policy}/{security.mode} {security.user or 'anonymous'}"

    @property
    def devices(self) -> tuple[str, ...]:
        """See `Driver.devices`."""
        return names(self._links)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Where server and profile disagree, as of the last connect."""
        return self._checker.findings

    def take_alarms(self) -> list[DeviceAlarm | AlarmsRepeated]:
        """See `AlarmSource`."""
        return self._alarms.take()

    def answers(self, device: str) -> bool:
        """See `AlarmAnswering`."""
        return self._alarms.answers(device)

    async def acknowledge(self, device: str, condition: str, comment: str) -> str:
        """See `AlarmAnswering`."""
        return await self._alarms.acknowledge(device, condition, comment)

    def health(self) -> list[DriverHealth]:
        """See `Driver.health`."""
        return [link.health() for link in self._links]

    async def run(self, sink: Sink) -> None:
        """See `Driver.run`."""
        while True:
            try:
                await self._attempt(sink)
            except Exception as lost:  # noqa: BLE001  # asyncua raises bare Exception and AssertionError among others
                reason, text = self._secured.explain(lost)
            for link in self._links:
                stamped = link.lost(reason, text)
                if stamped is not None:
                    await sink.put(stamped)
            await asyncio.sleep(self._backoff.delay_ns() / SECOND_NS)

    async def _attempt(self, sink: Sink) -> None:
        """Connects, subscribes and watches; raises when the session ends or does not begin."""
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def on_lost(error: Exception) -> None:
            if not lost.done():
                lost.set_exception(LostError(f"connection lost: {type(error).__name__} {error}"))

        client = Client(self._url, timeout=TIMEOUT_S, watchdog_intervall=PROBE_S)
        client.connection_lost_callback = on_lost
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._secured.prepare(client)
                await client.connect()
            connection = _Connection(
                client,
                sink,
                self._clock,
                self._table,
                self._checker,
                self._limits,
                own=self._own_publish,
                backoff=self._backoff,
                alarms=self._alarms,
                identity=self._identity,
            )
            self.writer.attach(client)
            await connection.run(lost)
        finally:
            self.writer.attach(None)
            self._alarms.end()
            lost.cancel()
            await _close(client)


class _Connection:
    """One connection from the first value to its loss."""

    def __init__(
        self,
        client: Client,
        sink: Sink,
        clock: Clock,
        table: ItemTable,
        checker: Checker,
        limits: Limits,
        *,
        own: bool | None,
        backoff: Backoff,
        alarms: AlarmFeed,
        identity: Identity,
    ) -> None:
        self._alarms, self._identity = alarms, identity
        self._strangers: frozenset[int] = frozenset()
        self._unfit: frozenset[int] = frozenset()
        self._client, self._sink, self._clock, self._backoff = client, sink, clock, backoff
        self._table, self._checker, self._links = table, checker, table.links
        self._limits = limits
        self._publishing = Publishing(client, clock, self._take, self._missed, own=own)
        self._monitor = Monitor(client, self._limits, self._publishing)
        self._missing: list[Item] = []
        self._refused: list[tuple[Item, str]] | None = None
        self._stale = self._begun = False
        self._heard: dict[int, int] = {}

    async def run(self, lost: asyncio.Future[None]) -> None:
        """Returns never; raises when the connection is lost or the server stops to publish."""
        await self._limits.read(self._client)
        await self._identify()
        await resolve(self._client, self._limits, self._table.items)
        await self._check()
        self._table.reset()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publishing.run(), name="opcua publishing")
            usable = [i for i in self._table.items if any(t.index not in self._unfit for t in i.taps)]
            refused = await self._monitor.add(usable)
            self._missing = [item for item, _ in refused]
            self._refused = refused
            await self._alarms.begin(self._client, self._publishing)
            if not self._publishing.subscriptions:  # nothing to hear about: it answered, but has none of our nodes
                await self._begin()
            elif self._begun:
                await self._say_refused()
            try:
                await self._watch(lost)
            except asyncio.CancelledError as ended:
                # The library has one of its own for an answer that comes meanwhile; a TaskGroup takes it for an error.
                raise asyncio.CancelledError from ended

    async def _begin(self) -> None:
        """The first message came: only now the device is back. A server that is going down takes sessions, too."""
        self._begun = True
        self._backoff.progressed()
        for link in self._known_links:  # before the first value, so that the hole closes in front of it
            hole = link.answered()
            if hole is not None:
                await self._sink.put(hole)
        await self._say_refused()

    @property
    def _known_links(self) -> list[DeviceLink]:
        return [link for number, link in enumerate(self._links) if number not in self._strangers]

    async def _identify(self, *, again: bool = False) -> None:
        """Sets devices aside that are not those of their profiles, and no other; their signals say so once.

        Raises:
            LostError: when asked again, a device is back: what was not monitored begins with a new connection.
        """
        found = await self._identity.strangers(self._client, self._limits)
        if again and self._strangers - found.keys():
            raise LostError("a device is again the one of its profile")
        if again and self._strangers == found.keys():
            return
        self._strangers = frozenset(found)
        self._refuse()
        for number, link in enumerate(self._links):
            reason, text = found.get(number, ("", ""))
            first = bool(reason) and not link.quarantine
            link.quarantine = reason
            if reason:
                link.lost("DEVICE_REFUSED", text)
            if first:
                await self._sink.put(link.stamp(link.assignment.signals.values(), bad(QualityReason.DEVICE_FAULT)))

    async def _check(self) -> None:
        """Compares units, ranges and types; points that would be misread are refused and say so."""
        found = await self._checker.run(self._client, self._limits)
        self._refuse()
        for number, link in enumerate(self._links):
            mine = [f for f in found if f.link == number]
            for finding in mine[-1:]:
                link.fault(f"{finding.reason}: {finding.text} ({len(mine)} findings)")

    def _refuse(self) -> None:
        strange = {tap.index for tap in self._table.taps if tap.link in self._strangers}
        self._unfit = self._checker.refused | strange
        self._table.refuse(self._unfit)

    async def _say_refused(self) -> None:
        """What cannot be found or must not be used is bad, once a connection."""
        if self._refused is None:
            return
        refused, self._refused = self._refused, None
        unfit = self._unfit
        for number, link in enumerate(self._links):
            if number in self._strangers:
                continue
            absent = [(i, name) for i, name in refused if i.taps[0].link == number]
            for item, name in absent[-1:]:
                what = "no node" if item.node is None else name
                link.fault(f"{what} {item.text} (of {len(absent)} missing)")
            taps = [t for i, _ in absent for t in i.taps if t.index not in unfit]
            taps += [t for t in self._table.taps if t.index in unfit and t.link == number]
            if taps:
                await self._sink.put(link.stamp([t.signal for t in taps], bad(QualityReason.DEVICE_FAULT)))

    async def _watch(self, lost: asyncio.Future[None]) -> None:
        """Looks for silence, and now and then for what was missing."""
        browse_again_ns = self._clock.boot_ns() + round(BROWSE_AGAIN_S * SECOND_NS)
        identify_again_ns = self._clock.boot_ns() + round(IDENTIFY_AGAIN_S * SECOND_NS)
        while True:
            await asyncio.wait([lost], timeout=WATCHDOG_S)
            if lost.done():
                lost.result()
            await self._listen()
            await self._alarms.keep()
            now_ns = self._clock.boot_ns()
            if self._identity and now_ns >= identify_again_ns:
                identify_again_ns = now_ns + round(IDENTIFY_AGAIN_S * SECOND_NS)
                await self._identify(again=True)
            if self._missing and now_ns >= browse_again_ns:
                browse_again_ns = now_ns + round(BROWSE_AGAIN_S * SECOND_NS)
                await resolve(self._client, self._limits, self._missing)
                there = [item for item in self._missing if item.node is not None]
                still = [item for item in self._missing if item.node is None]
                if there:
                    await self._check()
                    still += [item for item, _ in await self._monitor.add(there)]
                self._missing = still

    async def _listen(self) -> None:
        """A missed keep-alive makes signals STALE; after a few the connection is given up."""
        missed = self._publishing.missed()
        if missed >= LOST_KEEPALIVES:
            raise LostError(f"{missed} keep-alives missed")
        if missed and not self._stale:
            self._stale = True
            self._table.confirm(self._links[0].now_ns())
            for link in self._known_links:
                link.fault("a keep-alive is missing")
                await self._sink.put(link.stamp(link.assignment.signals.values(), bad(QualityReason.STALE)))

    async def _take(self, message: Message, arrival_ns: int) -> None:
        """Turns one notification message into one delivery, after the holes before it."""
        if not self._begun:
            await self._begin()
        elif self._refused is not None:
            await self._say_refused()
        if self._stale and not self._publishing.missed():
            self._stale = False
            await self._deliver(self._table.take(await self._restated(), arrival_ns, restated=True))
        self._alarms.hear(message.events, arrival_ns)
        if not message.keep_alive and message.subscription != self._alarms.subscription:
            await self._deliver(self._table.take(message, arrival_ns))
        if not message.more:
            self._heard[message.subscription] = arrival_ns
            self._whole()

    def _whole(self) -> None:
        """Up to when everything has come: a later loss is declared from there on, not from the connection's begin.

        Messages of a subscription come in order, and a server is silent for its keep-alive time at most: what was
        sampled twice that time before the newest message has come, unless the server says that it has more.
        """
        subscriptions = self._publishing.subscriptions.values()
        if not all(s.id in self._heard for s in subscriptions):
            return
        until_ns = min((self._heard[s.id] - 2 * s.keep_alive_ns for s in subscriptions), default=0)
        for link in self._links:
            link.whole(until_ns)

    async def _deliver(self, taken: Taken) -> None:
        for hole in taken.holes:
            await self._sink.put(hole)
        for number, text in taken.faults:
            self._links[number].fault(text)
        counts = taken.counts.tolist()
        for link, count in zip(self._links, counts, strict=True):
            link.count(count)
        if taken.batches:
            first = next(link.name for link, count in zip(self._links, counts, strict=True) if count)
            await self._sink.put(Delivery(first, taken.batches))

    async def _restated(self) -> Message:
        """All values as they are now: what has not changed since it was called STALE would never come by itself."""
        items = [item for item in self._table.items if item.node is not None]
        return changes_of(items, await read_values(self._client, self._limits, items))

    async def _missed(self, subscription: int) -> None:
        """The server no longer has messages that never came."""
        if subscription == self._alarms.subscription:
            self._alarms.missed()
            return
        for link in self._known_links:
            link.failed(OVERFLOWED, "messages of a subscription were lost on their way and are not kept any more")
            hole = link.answered()
            if hole is not None:
                await self._sink.put(hole)


async def _close(client: Client) -> None:
    """Ends a session as politely as the far end allows within a second, then drops the socket."""
    with contextlib.suppress(Exception):  # whatever asyncua raises here, the connection is given up
        async with asyncio.timeout(1.0):
            await client.disconnect()
    with contextlib.suppress(Exception):
        client.disconnect_socket()
