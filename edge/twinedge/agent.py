"""The gateway agent: joins all stages; facts flow to the right, versions flow back.

    device ─▶ driver ─▶ gate ─▶ align ─▶ estimate ─▶ lanes ─▶ spool ─▶ uplink ═gRPC═▶ coordinator
                                            ▲                                              │
                                          slot ◀─ modelstore ◀─ downlink ◀═════gRPC════════┘

Every stage is a task of one group. None of them ends because something outside is away or broken: a device becomes
quality, a full disk becomes a degraded state, at the start as later, a cut link becomes a backlog.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import structlog

from twinedge.alarms.watcher import Alarms
from twinedge.commanding import Commanding
from twinedge.config.load import LoadedSite, load_site
from twinedge.control import SOCKET, ControlServer
from twinedge.downlink.outcomes import Outcomes
from twinedge.downlink.receiver import Receiver
from twinedge.drivers.registry import build_drivers
from twinedge.enrol import Identity, load_identity
from twinedge.gate.gate import Gate
from twinedge.gate.rules import rules_of
from twinedge.health import report
from twinedge.health.clock import ClockWatch
from twinedge.health.server import PORT_FILE, StatusServer
from twinedge.lanes import Flush, Lanes, windows_of
from twinedge.models import Models
from twinedge.modelstore.store import ModelStore
from twinedge.northbound.serving import Northbound
from twinedge.pipeline import Pipeline
from twinedge.ports import NotAcquired
from twinedge.publication import Publication
from twinedge.renewal import Renewal
from twinedge.replays import Replays, source_stamped
from twinedge.spool.store import Spool
from twinedge.storage import Storage
from twinedge.uplink.sender import Uplink
from twinedge.uplink.spooled import SpooledItems
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import StorageError, TwinError
from twinmodel.process import notify, watchdog_period_s
from twinmodel.signal import Catalogue
from twinsync.channel import Credentials
from twinsync.directive import DirectiveKind, DirectiveState

log = structlog.get_logger(__name__)

STATUS_S = 1.0
DRAIN_S = 8.0
RESTART_S = 5.0
STOP_AGAIN_S = 5.0
VERSION = importlib.metadata.version("hybridtwin")


@dataclass(frozen=True, slots=True)
class Options:
    """How an agent is started.

    Attributes:
        config: the gateway's site.yaml.
        state: folder of identity, spool and models.
        kernel_cache: folder of compiled kernels, None for the default.
        offline: whether to leave the coordinator alone.
    """

    config: Path
    state: Path
    kernel_cache: Path | None = None
    offline: bool = False


class Agent:
    """One agent; made by options, a clock and chance, run once."""

    def __init__(self, options: Options, clock: Clock, random: Random) -> None:
        self._options = options
        self._clock = clock
        self._random = random
        self._watch = ClockWatch(clock, options.state)

    async def run(self, stop: asyncio.Event, ready: Callable[[dict[str, object]], None]) -> None:
        """Runs until `stop` is set, then lets what is buffered become durable and, for a while, sent.

        Raises:
            TwinError: what keeps it from starting: configuration, identity, a taken port, a locked state directory.
        """
        loaded = load_site(self._options.config)
        identity = self._identity()
        server = StatusServer(loaded.site.status.host, loaded.site.status.port)
        try:
            storage = await Storage.open(lambda: self._open_spool(loaded))
            with suppress(OSError):  # a full disk keeps nobody from running
                (self._options.state / PORT_FILE).write_text(str(server.port))
            try:
                running = _Running(self._options, loaded, identity, storage, server, self._watch, self._random)
                await running.run(stop, ready)
            finally:
                await storage.close()
        finally:
            server.close()

    def _identity(self) -> Identity | None:
        """Who this gateway is; with an expired certificate too, as it goes on reading under its own name.

        Its sessions at brokers hang on that name. The uplink says CERT_EXPIRED until there is a new certificate.
        """
        try:
            return load_identity(self._options.state, self._clock, expired_too=True)
        except TwinError:
            if not self._options.offline:
                raise
            return None

    def _open_spool(self, loaded: LoadedSite) -> Spool:
        return Spool.open(
            self._options.state,
            clock=self._clock,
            rng_bytes=os.urandom,
            disk_max_bytes=loaded.site.spool.disk,
            when_full=loaded.site.spool.when_full,
            clock_quality=self._watch.quality(),
            patient=True,
        )


class _Running:
    """The stages of a started agent."""

    def __init__(
        self,
        options: Options,
        loaded: LoadedSite,
        identity: Identity | None,
        storage: Storage,
        server: StatusServer,
        watch: ClockWatch,
        random: Random,
    ) -> None:
        self._options = options
        self._watch = watch
        self._loaded = loaded
        self._identity = identity
        self._storage = storage
        self._server = server
        self._clock = clock = watch.clock
        self._random = random
        self._models_changed = asyncio.Event()
        store = ModelStore(options.state, options.state / "identity" / "signers")
        self._models = Models(loaded, store, options.kernel_cache)
        self._lanes = Lanes(windows_of(loaded.site.spool.sync, loaded.site.spool.sync_telemetry))
        catalogue = self._models.catalogue()
        self._replays = Replays(*source_stamped(loaded, catalogue.signals))
        gate = Gate(rules_of(loaded, catalogue), clock, watch.is_unset)
        self._pipeline = Pipeline(self._replays, gate, self._lanes, self._models.runners, self._commit, clock)
        self._northbound = Northbound(
            loaded, self.name, clock=clock, random=random, state_dir=options.state, version=VERSION
        )
        self._pipeline.watchers.append(self._northbound)
        self._drivers = build_drivers(
            loaded, catalogue, clock=clock, rng=random, client_id=self.name, state_dir=options.state
        )
        self._alarms = Alarms(
            loaded, options.state, clock, record=self._pipeline.record,
            drivers=lambda: self._drivers, runners=lambda: self._models.runners,
        )  # fmt: skip
        self._pipeline.watchers.append(self._alarms)
        self._commanding = Commanding(
            loaded, options.state, clock,
            drivers=lambda: self._drivers, runners=lambda: self._models.runners, uplink=lambda: self._uplink,
        )  # fmt: skip
        self._pipeline.watchers.append(self._commanding.readings)
        self._spooled = SpooledItems(storage, watch.quality, os.urandom)
        self._publication = Publication(self._spooled, self._pipeline)
        self._receiver: Receiver | None = None
        self._uplink = self._make_uplink(store)
        self._control = ControlServer(options.state / SOCKET)
        self._alarms.serve(self._control)
        self._progress = -1
        self._stop = asyncio.Event()

    @property
    def name(self) -> str:
        """`site/gateway`, or the site alone for an agent that has no identity."""
        if self._identity is None:
            return self._loaded.site.site
        return f"{self._identity.site}/{self._identity.gateway}"

    async def run(self, stop: asyncio.Event, ready: Callable[[dict[str, object]], None]) -> None:
        self._stop = stop
        await asyncio.to_thread(self._models.start)
        await self._recall()
        catalogue = self._models.catalogue()
        await self._publication.begin(catalogue)
        reading: list[asyncio.Task[None]] = []
        serving: list[asyncio.Task[None]] = []
        async with asyncio.TaskGroup() as group:

            def start(into: list[asyncio.Task[None]], name: str, work: Coroutine[Any, Any, Any]) -> None:
                into.append(group.create_task(work, name=name))

            for driver in self._drivers:
                start(reading, f"driver {driver.name}", self._keep(driver.name, partial(driver.run, self._pipeline)))
            start(reading, "ticks", self._pipeline.tick())
            flushing = group.create_task(self._pipeline.flush(), name="flush")
            start(serving, "models", self._follow_models(catalogue))
            start(serving, "status", self._tell())
            start(serving, "alarms", self._keep("alarms", self._alarms.run))
            start(serving, "control", self._keep("control", self._control.run))
            start(serving, "northbound", self._keep("northbound", self._northbound.run))
            start(serving, "commands", self._keep("commands", self._commanding.run))
            if self._uplink is not None and self._receiver is not None:
                start(serving, "uplink", self._keep("uplink", self._uplink.run))
                start(serving, "downlink", self._keep("downlink", self._receiver.run))
                renewal = Renewal(self._options.state, self._clock, self._random, self._uplink.retry_now)
                start(serving, "renewal", self._keep("renewal", renewal.run))
            ready({"gateway": self.name, "status_port": self._server.port, "devices": len(self._loaded.site.devices)})
            await stop.wait()
            notify("STOPPING=1\nSTATUS=sending what is buffered")
            await self._end(reading, flushing)
            for task in serving:
                task.cancel()

    async def _keep(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs what speaks to the outside for ever: not even a defect in it may stop the other devices."""
        while True:
            try:
                await run()
            except Exception:
                log.exception("stage failed, it starts again", stage=name, wait_s=RESTART_S)
            await asyncio.sleep(RESTART_S)

    async def _end(self, reading: list[asyncio.Task[None]], flushing: asyncio.Task[None]) -> None:
        """Stops reading, makes everything durable, and gives the uplink a moment to send it."""
        ended = asyncio.gather(*reading, return_exceptions=True)
        again_ns = 0
        while not ended.done():
            if self._clock.boot_ns() >= again_ns:
                # Before Python 3.13 a TaskGroup loses a cancellation that meets an error: it is said again.
                again_ns = self._clock.boot_ns() + round(STOP_AGAIN_S * SECOND_NS)
                for task in reading:
                    task.cancel()
            # A driver that acknowledges after the commit waits for these.
            await self._pipeline.commit(everything=True)
            await asyncio.sleep(0.02)
        self._pipeline.end()
        await flushing
        # After an outage of the disk there is more than one block a lane.
        while await self._pipeline.commit(everything=True) and len(self._lanes):
            continue
        try:
            left = await self._drained()
        except StorageError as error:
            log.warning("stopped while the spool refuses", reason=error.reason, samples_in_memory=len(self._lanes))
        else:
            log.info("stopped", samples_left=left, samples_in_memory=len(self._lanes))

    async def _drained(self) -> int:
        """Waits a while for the uplink to send what waits; returns the samples that are left."""
        end_ns = self._clock.boot_ns() + round(DRAIN_S * SECOND_NS)
        while self._uplink is not None and self._uplink.status().connected and self._clock.boot_ns() < end_ns:
            if (await self._storage.call(Spool.backlog)).items == 0:
                break
            await asyncio.sleep(0.05)
        return (await self._storage.call(Spool.backlog)).samples

    async def _commit(self, flush: Flush, catalogue: Catalogue) -> None:
        await self._storage.call(Spool.append_many, flush.parts, catalogue, flush.records, declare=flush.declare)
        if self._uplink is not None:
            self._uplink.wake()

    async def _recall(self) -> None:
        """Teaches `replays` what the boot before this one stored last: a broker may send it again."""
        catalogue = self._models.catalogue()
        try:
            recent = await self._storage.call(Spool.recent)
        except StorageError:
            return  # the disk does not even let itself be read; what it says is told with the first commit
        for known, batches in recent:
            ids = {s.id: catalogue.by_name[s.name].id for s in known.signals if s.name in catalogue.by_name}
            for batch in batches:
                self._replays.recall(batch, ids)

    def _make_uplink(self, store: ModelStore) -> Uplink | None:
        if self._identity is None or self._options.offline:
            return None
        outcomes = Outcomes(self._options.state / "outcomes.json")

        def fetch(digest: bytes, offset: int) -> Any:
            assert self._uplink is not None, "a receiver runs beside its uplink"
            return self._uplink.fetch(digest, offset)

        self._receiver = Receiver(
            store,
            outcomes,
            self._models.slots,
            self._models.build,
            fetch,
            clock=self._clock,
            random=self._random,
            on_state=self._directive_ended,
        )
        self._receiver.handlers[DirectiveKind.ALARM] = self._alarms.obey
        return Uplink(
            self._loaded.site.uplink or self._identity.sync_address,
            self._credentials,
            self._spooled,
            self._receiver,
            clock=self._clock,
            random=self._random,
            agent_version=VERSION,
            commands=self._commanding.desk,
            on_server_time=self._watch.heard,
        )

    def _credentials(self) -> Credentials:
        identity = load_identity(self._options.state, self._clock)
        return Credentials(identity.ca_pem, identity.cert_pem, identity.key_pem)

    def _directive_ended(self, state: DirectiveState) -> None:
        self._models_changed.set()
        if self._uplink is not None:
            self._uplink.report(state)

    async def _follow_models(self, catalogue: Catalogue) -> None:
        """Publishes the outputs of models as they change; the samples before the change keep their catalogue."""
        if self._publication.trouble is not None:
            await self._publication.publish(catalogue, self._stop)
        while True:
            await self._models_changed.wait()
            self._models_changed.clear()
            fresh = self._models.catalogue()
            if fresh.digest != catalogue.digest and await self._publication.publish(fresh, self._stop):
                catalogue = fresh

    async def _tell(self) -> None:
        """Publishes the status each second and feeds the watchdog while real work is done."""
        period_s = watchdog_period_s()
        fed_ns = 0
        while True:
            await self._look_at_time()
            self._server.publish(await self._status())
            now_ns = self._clock.boot_ns()
            if period_s is not None and now_ns - fed_ns >= period_s / 2 * SECOND_NS and self._works():
                notify("WATCHDOG=1")
                fed_ns = now_ns
            await asyncio.sleep(STATUS_S)

    async def _look_at_time(self) -> None:
        """A suspended machine measured nothing, and its timers stood still: it says so, and comes back at once."""
        slept = self._watch.look()
        if (put := self._watch.taken_put()) is not None:
            await self._pipeline.put_right(put.span_ns, put.shift_ns, self._put_right_stored)
        if slept is not None:
            await self._pipeline.put(NotAcquired("*", "AGENT_SUSPENDED", slept.from_ns, slept.to_ns))
            if self._uplink is not None:
                self._uplink.retry_now()

    async def _put_right_stored(self, span_ns: tuple[int, int], shift_ns: int) -> int:
        return await self._storage.call(Spool.put_right, span_ns, shift_ns)

    def _works(self) -> bool:
        """Whether the ticks went on since the last look; the spool answered, or this line would not be reached."""
        went_on, self._progress = self._pipeline.progress != self._progress, self._pipeline.progress
        return went_on

    async def _status(self) -> Mapping[str, Any]:
        try:
            waiting = await self._storage.call(Spool.backlog)
            disk_bytes = await self._storage.call(Spool.disk_bytes)
            forecast = await self._storage.call(Spool.forecast)
        except StorageError as error:
            return self._document(report.NO_SPOOL, [error])
        age_ns = self._clock.wall_ns() - waiting.oldest_ns if waiting.oldest_ns is not None else 0
        spool = {
            "bytes": disk_bytes,
            "backlog_bytes": waiting.bytes,
            "backlog_samples": waiting.samples,
            "backlog_age_s": max(age_ns, 0) / SECOND_NS,
            "hours_until_full": forecast.hours_until_full,
        }
        return self._document(spool, [])

    def _document(self, spool: Mapping[str, Any], troubles: list[StorageError]) -> Mapping[str, Any]:
        uplink = self._uplink.status() if self._uplink is not None else None
        troubles += [error for error in (self._pipeline.trouble, self._publication.trouble) if error is not None]
        degraded = list(dict.fromkeys(error.reason for error in troubles))
        if uplink is not None and uplink.needs_operator:
            degraded.append(uplink.reason)
        degraded += self._northbound.troubles()
        return {
            "gateway": self.name,
            "version": VERSION,
            "degraded": degraded,
            "clock": self._watch.quality().name,
            "time": self._watch.document(),
            "devices": report.devices(self._drivers),
            "twins": report.twins(self._models.runners),
            "uplink": report.uplink(uplink),
            "northbound": self._northbound.status(),
            "repeats": self._replays.found,
            "alarms": self._alarms.status(),
            "commands": self._commanding.status(),
            **report.buffers(self._lanes, self._pipeline, spool),
        }
