"""Event streams: every change of a tenant becomes the current view of what changed, at most twice a second per thing.

    commit ─▶ bus ─▶ run(): outbox after the cursor ─▶ changes ─▶ views ─▶ each watcher's pending frames ─▶ SSE

A watcher holds one frame per thing, so that a slow client costs no memory and gets the newest state. The id of an event
is the outbox id up to which everything was delivered: the last event of a batch advances it, those before repeat the
former one, so that a cut within a batch loses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import structlog

from twincloud.api.alarm_views import alarm_view
from twincloud.api.changed import changes_of
from twincloud.api.diagnosis import diagnose_gateway
from twincloud.api.fleet import Fleet, Snapshot, every
from twincloud.api.metrics import Metrics
from twincloud.api.threads import Threads
from twincloud.api.v1.commands import command_view
from twincloud.api.views import directive_view
from twincloud.events.bus import Bus, Change
from twincloud.storage.contract import GatewayKey, Store, TwinKey
from twincloud.storage.records_alarms import AlarmChoice
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import MissingError, TwinError, UnreachableError

PERIOD_S = 0.5
REST_SHARE = 4
SWEEP_NS = 5 * SECOND_NS
HEARTBEAT_S = 10.0
SHARES = 4
RETRY_MS = 2_000
EVENTS_PAGE = 500
EVENTS_READ_MAX = 20_000
PENDING_MAX = 20_000
DIRECTIVES_READ = 200
ALARMS_READ = 1_000
"""Alarms that stand, the gravest ones, which a client gets that was away for too long to be told each change."""
TWINS_READ = 500

_log = structlog.get_logger("twincloud.events")


@dataclass(frozen=True, slots=True)
class Frame:
    """One SSE event without its id; `twin` names the twins it is about, one a line, "" for a gateway."""

    kind: str
    site: str
    twin: str
    body: str

    def encode(self, event_id: int) -> bytes:
        """The event as it goes over the wire."""
        return f"id: {event_id}\nevent: {self.kind}\ndata: {self.body}\n\n".encode()


@dataclass(slots=True, eq=False)
class Watcher:
    """One client: what it wants, what waits for it, and up to which outbox id it has everything."""

    tenant: str
    site: str
    twin: str
    holder: str = ""
    delivered: int = 0
    reset: str = ""
    cursor: int = 0
    pending: dict[Change, Frame] = field(default_factory=dict)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    def wants(self, frame: Frame) -> bool:
        """Whether a frame passes the client's filter."""
        return (not self.site or frame.site == self.site) and (not self.twin or self.twin in frame.twin.split("\n"))

    def put(self, frames: Iterable[tuple[Change, Frame]], cursor: int, *, older: bool = False) -> None:
        """Adds frames, newer ones in place of those that wait; `older` ones never replace."""
        for change, frame in frames:
            if self.wants(frame) and not (older and change in self.pending):
                self.pending[change] = frame
        self.cursor = max(self.cursor, cursor)
        if len(self.pending) > PENDING_MAX:
            self.end()  # it comes back with its last id and gets the current views
        elif self.pending:
            self.ready.set()

    def take(self) -> list[bytes]:
        """The waiting frames as events."""
        frames, self.pending = list(self.pending.values()), {}
        self.ready.clear()
        before, self.delivered = self.delivered, self.cursor
        last = len(frames) - 1
        return [frame.encode(self.cursor if i == last else before) for i, frame in enumerate(frames)]

    def end(self) -> None:
        """Lets the stream end."""
        self.closed = True
        self.ready.set()


class Stream:
    """All event streams of the process; `run` feeds them."""

    def __init__(
        self,
        store: Store,
        threads: Threads,
        bus: Bus,
        fleet: Fleet,
        clock: Clock,
        metrics: Metrics,
        *,
        watchers_max: int = 100,
    ) -> None:
        self._store, self._threads, self._bus, self._fleet = store, threads, bus, fleet
        self._clock, self._metrics = clock, metrics
        self._max = watchers_max
        self._watchers: set[Watcher] = set()
        self._cursors: dict[str, int] = {}
        self._health: dict[str, dict[Change, str]] = {}
        self._failing = False
        self.alive = False

    def __len__(self) -> int:
        return len(self._watchers)

    async def run(self) -> None:
        """Feeds the watchers until it is cancelled; a store that fails for a while is asked again."""
        self._bus.attach()
        self.alive = True
        swept_ns = self._clock.boot_ns()
        try:
            while True:
                await self._rung_or_timeout()
                due = self._clock.boot_ns() - swept_ns >= SWEEP_NS
                swept_ns = self._clock.boot_ns() if due else swept_ns
                began_ns = self._clock.boot_ns()
                await self.turn(sweep=due)
                took_s = (self._clock.boot_ns() - began_ns) / SECOND_NS
                # A large fleet is told of less often, rather than that views take the machine from the ingest.
                await asyncio.sleep(max(PERIOD_S, took_s * REST_SHARE))
        finally:
            self.alive = False
            self._bus.detach()

    async def turn(self, *, sweep: bool = False) -> None:
        """Delivers what the bus rang for; with `sweep` also what only time has changed, such as a stale twin."""
        news = self._bus.take()
        tenants = {watcher.tenant for watcher in self._watchers if watcher.tenant in self._cursors}
        for gone in self._cursors.keys() - {watcher.tenant for watcher in self._watchers}:
            del self._cursors[gone]
            self._health.pop(gone, None)
        try:
            for tenant in sorted(tenants):
                changes = {c for c in news.changes if c.tenant == tenant}
                await self._publish(tenant, changes, everything=news.overflow, sweep=sweep)
        except TwinError as error:
            # The changes are lost, not the facts: the cursor stays, and the outbox is read again at the next turn.
            if not self._failing:
                _log.warning("event streams stand still", reason=error.reason, detail=error.message)
            self._failing = True
        else:
            if self._failing:
                _log.info("event streams go on")
            self._failing = False

    def close(self) -> None:
        """Ends every stream; clients come back by themselves."""
        for watcher in self._watchers:
            watcher.end()

    async def watch(
        self,
        tenant: str,
        *,
        site: str = "",
        twin: str = "",
        after: int | None = None,
        holder: str = "",
        still_allowed: Callable[[], Awaitable[object]] | None = None,
    ) -> AsyncIterator[bytes]:
        """Opens a stream, already counted; iterate it to the end or close it.

        Args:
            tenant: whose changes.
            site: only of this site, "" for all.
            twin: only of this twin, "" for all things.
            after: outbox id the client has; None starts at the present.
            holder: name of the token; one token gets a quarter of all streams, so that it cannot lock others out.
            still_allowed: asked every ten seconds; the stream ends when it raises a TwinError.

        Raises:
            UnreachableError: RATE_LIMITED when too many streams are open.
        """
        if len(self._watchers) >= self._max:
            raise UnreachableError("RATE_LIMITED", f"{self._max} event streams are open already")
        share = max(1, self._max // SHARES)
        if holder and sum(1 for one in self._watchers if one.holder == holder) >= share:
            raise UnreachableError("RATE_LIMITED", f"token {holder!r} has {share} event streams open already")
        watcher = Watcher(tenant, site, twin, holder)
        self._watchers.add(watcher)
        self._metrics.watchers.set(len(self._watchers))
        try:
            await self._start(watcher, after)
        except BaseException:
            self._forget(watcher)
            raise
        return self._events(watcher, still_allowed)

    async def _events(
        self, watcher: Watcher, still_allowed: Callable[[], Awaitable[object]] | None
    ) -> AsyncIterator[bytes]:
        checked_ns = self._clock.boot_ns()
        try:
            reset = f'event: reset\ndata: {{"reason": "{watcher.reset}"}}\n\n' if watcher.reset else ""
            yield f"retry: {RETRY_MS}\nid: {watcher.delivered}\n\n{reset}".encode()
            while not watcher.closed:
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        await watcher.ready.wait()
                except TimeoutError:
                    yield b": alive\n\n"
                if still_allowed is not None and self._clock.boot_ns() - checked_ns >= HEARTBEAT_S * SECOND_NS:
                    await still_allowed()
                    checked_ns = self._clock.boot_ns()
                for event in watcher.take():
                    yield event
        except TwinError:
            return  # the token ended while the stream ran: the client learns why when it comes back
        finally:
            self._forget(watcher)

    async def _start(self, watcher: Watcher, after: int | None) -> None:
        tenant = watcher.tenant
        newest = await self._threads.run(self._store.last_event)
        self._cursors.setdefault(tenant, newest)
        if tenant not in self._health:
            self._health[tenant] = self._health_of(tenant, await self._fleet.snapshot(tenant))
        if after is None:
            watcher.delivered = watcher.cursor = max(newest, watcher.cursor)
            return
        watcher.delivered = min(after, newest)
        changes, cursor, everything = await self._threads.run(self._read_outbox, tenant, min(after, newest))
        # An id from the future is of a coordinator that was since restored: what the client has may be wrong. Of what
        # happened before the oldest event that is kept, nobody knows what it was.
        oldest = await self._threads.run(self._store.first_event)
        watcher.reset = "restored" if after > newest else "pruned" if 0 < after < oldest else ""
        everything = everything or bool(watcher.reset)
        frames = await self._threads.run(self._render, tenant, changes, everything=everything)
        watcher.put(frames, cursor, older=True)

    async def _publish(self, tenant: str, changes: set[Change], *, everything: bool, sweep: bool) -> None:
        read, cursor, many = await self._threads.run(self._read_outbox, tenant, self._cursors.get(tenant, 0))
        changes = changes | read
        if sweep:
            health = self._health_of(tenant, await self._fleet.snapshot(tenant, fresh=True))
            known = self._health.get(tenant, {})
            changes |= {change for change, now in health.items() if known.get(change) != now}
            self._health[tenant] = health
        if changes or everything or many:
            frames = await self._threads.run(self._render, tenant, changes, everything=everything or many)
        else:
            frames = []
        self._cursors[tenant] = cursor
        for watcher in self._watchers:
            if watcher.tenant == tenant:
                watcher.put(frames, cursor)

    def _read_outbox(self, tenant: str, after: int) -> tuple[set[Change], int, bool]:
        """Changes after an id, the newest id read, and whether there are too many to name."""
        changes: set[Change] = set()
        for _ in range(EVENTS_READ_MAX // EVENTS_PAGE):
            events = self._store.events(tenant, after=after, limit=EVENTS_PAGE)
            changes.update(*(changes_of(event) for event in events))
            after = events[-1].id if events else after
            if len(events) < EVENTS_PAGE:
                return changes, after, False
        return changes, self._store.last_event(), True

    def _render(
        self, tenant: str, changes: Iterable[Change], *, everything: bool = False
    ) -> list[tuple[Change, Frame]]:
        found = set(changes)
        if everything:
            found |= {Change(tenant, "twin", t.key.site, t.key.twin) for t in every(self._store.twins, tenant)}
            found |= {Change(tenant, "gateway", g.key.site, g.key.gateway) for g in every(self._store.gateways, tenant)}
            standing = self._store.alarms(tenant, AlarmChoice(standing=True), limit=ALARMS_READ).items
            found |= {Change(tenant, "alarm", one.gateway.site, one.id) for one in standing}
        frames: list[tuple[Change, Frame]] = []
        ordered = sorted(found, key=lambda c: (c.kind, c.site, c.name))
        for change in ordered:
            if change.kind == "gateway":
                frames += self._gateway_frame(change)
            elif change.kind == "alarm":
                frames += self._alarm_frame(change)
            elif change.kind == "command":
                frames += self._command_frame(change)
        frames += self._twin_frames(tenant, [change for change in ordered if change.kind == "twin"])
        if any(change.kind == "directive" for change in found):
            frames += self._directive_frames(tenant, found)
        return frames

    def _twin_frames(self, tenant: str, changes: Sequence[Change]) -> list[tuple[Change, Frame]]:
        """Many read together: what they share, as the alarms of the tenant, is then read once."""
        frames: list[tuple[Change, Frame]] = []
        for start in range(0, len(changes), TWINS_READ):
            some = changes[start : start + TWINS_READ]
            views = self._fleet.read_twins(tenant, [TwinKey(tenant, change.site, change.name) for change in some])
            frames += [
                (change, Frame("twin", change.site, change.name, view.model_dump_json()))
                for change, view in zip(some, views, strict=True)
                if not isinstance(view, TwinError)
            ]
        return frames

    def _gateway_frame(self, change: Change) -> list[tuple[Change, Frame]]:
        try:
            view = self._fleet.read_gateway(GatewayKey(change.tenant, change.site, change.name))
        except MissingError:
            return []
        return [(change, Frame("gateway", change.site, "", view.model_dump_json()))]

    def _alarm_frame(self, change: Change) -> list[tuple[Change, Frame]]:
        try:
            alarm = self._store.alarm(change.tenant, change.name)
        except MissingError:
            return []
        body = alarm_view(alarm).model_dump_json()
        return [(change, Frame("alarm", change.site, "\n".join(alarm.twins), body))]

    def _command_frame(self, change: Change) -> list[tuple[Change, Frame]]:
        twin, _, command = change.name.partition("/")
        try:
            found = self._store.command(TwinKey(change.tenant, change.site, twin), command)
        except MissingError:
            return []
        return [(change, Frame("command", change.site, twin, command_view(found).model_dump_json()))]

    def _directive_frames(self, tenant: str, changes: set[Change]) -> list[tuple[Change, Frame]]:
        wanted = {change.name for change in changes if change.kind == "directive"}
        frames: list[tuple[Change, Frame]] = []
        for directive in reversed(self._store.directives(tenant, limit=DIRECTIVES_READ)):
            if f"{directive.target}@{directive.version}" in wanted:
                change = Change(tenant, "directive", directive.gateway.site, directive.id)
                body = directive_view(directive).model_dump_json()
                frames.append((change, Frame("directive", directive.gateway.site, directive.target, body)))
        return frames

    def _health_of(self, tenant: str, snapshot: Snapshot) -> dict[Change, str]:
        now_ns = self._clock.wall_ns()
        health: dict[Change, str] = {
            Change(tenant, "twin", site, name): state for (site, name), state in snapshot.health.items()
        }
        for (site, name), gateway in snapshot.gateways.items():
            state, _ = diagnose_gateway(gateway, now_ns=now_ns, stale_ns=self._fleet.stale_ns)
            # What a heartbeat of the gateway tells has no row in the outbox.
            health[Change(tenant, "gateway", site, name)] = f"{state} {gateway.connected} {gateway.backlog_samples}"
        return health

    async def _rung_or_timeout(self) -> None:
        try:
            async with asyncio.timeout(SWEEP_NS / SECOND_NS):
                await self._bus.wait()
        except TimeoutError:
            return

    def _forget(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)
        self._metrics.watchers.set(len(self._watchers))
