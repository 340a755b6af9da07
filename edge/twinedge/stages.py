"""The stages of a started agent, joined: what a device says goes to the right, versions and commands flow back.

    device ─▶ driver ─▶ gate ─▶ align ─▶ estimate ─▶ lanes ─▶ spool ─▶ uplink ═gRPC═▶ coordinator
                                            ▲                                              │
                                          slot ◀─ modelstore ◀─ downlink ◀═════gRPC════════┘

Every stage is a task of one group. None of them ends because something outside is away or broken: a device becomes
quality, a full disk becomes a degraded state, at the start as later, a cut link becomes a backlog.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import structlog

from twinedge.administration import Administration
from twinedge.alarms.watcher import Alarms
from twinedge.commanding import Commanding
from twinedge.config.load import LoadedSite
from twinedge.configuration import Configuration
from twinedge.connections import Connections, ended
from twinedge.control import SOCKET, ControlServer
from twinedge.downlink.outcomes import Outcomes
from twinedge.downlink.receiver import Receiver
from twinedge.drivers.link import Assignment
from twinedge.drivers.registry import Group, assignments_of, make_driver
from twinedge.enrol import Identity, load_identity
from twinedge.firmware import Rematch
from twinedge.gate.gate import Gate
from twinedge.gate.rules import rules_of
from twinedge.health.clock import ClockWatch
from twinedge.health.server import StatusServer
from twinedge.keeping import keep
from twinedge.lanes import Flush, Lanes, windows_of
from twinedge.models import Models
from twinedge.modelstore.store import ModelStore
from twinedge.northbound.serving import Northbound
from twinedge.pipeline import Pipeline
from twinedge.ports import Driver
from twinedge.publication import Publication
from twinedge.reload import Parts, Reload
from twinedge.remote import TARGET, Remote
from twinedge.renewal import Renewal
from twinedge.replays import Replays, source_stamped
from twinedge.spool.store import Spool
from twinedge.storage import Storage
from twinedge.telling import VERSION, Telling, Told
from twinedge.uplink.sender import Uplink
from twinedge.uplink.spooled import SpooledItems
from twinmodel.clock import SECOND_NS
from twinmodel.errors import StorageError
from twinmodel.process import notify
from twinmodel.signal import Catalogue
from twinsync.channel import Credentials
from twinsync.directive import DirectiveKind, DirectiveState

log = structlog.get_logger(__name__)

DRAIN_S = 8.0


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


@dataclass(frozen=True, slots=True)
class Ground:
    """What stages stand on.

    Attributes:
        configuration: what they are to do.
        identity: who this gateway is, None for an agent that runs alone.
        storage: the spool.
        server: where the status is shown.
        watch: the clocks.
        random: jitter.
        hangup: set when the configuration is to be read again.
    """

    options: Options
    configuration: Configuration
    identity: Identity | None
    storage: Storage
    server: StatusServer
    watch: ClockWatch
    random: Random
    hangup: asyncio.Event


class Stages:
    """The stages of one agent, run once.

    Attributes:
        connections: the drivers.
        reload: brings another configuration about.
        telling: what the agent says of itself.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._clock = clock = ground.watch.clock
        options, loaded, storage = ground.options, ground.configuration.loaded, ground.storage
        self._models_changed = asyncio.Event()
        store = ModelStore(options.state, options.state / "identity" / "signers")
        self._models = Models(loaded, store, options.kernel_cache)
        self._lanes = Lanes(windows_of(loaded.site.spool.sync, loaded.site.spool.sync_telemetry))
        numbered = self._models.numbered
        self._replays = Replays(*source_stamped(loaded, numbered.signals.values()))
        self._gate = Gate(rules_of(loaded, numbered), clock, ground.watch.is_unset)
        self._pipeline = Pipeline(self._replays, self._gate, self._lanes, self._models.runners, self._commit, clock)
        self.connections = Connections(
            self._driver, self._pipeline, self._commit_all, clock,
            twice=lambda signals, over: self._replays.read_twice(signals, over=over),
        )  # fmt: skip
        self.connections.build(assignments_of(loaded, numbered))
        self._join_watchers()
        self._spooled = SpooledItems(storage, ground.watch.quality, os.urandom)
        self._publication = Publication(self._spooled, self._pipeline, self._reopen_session)
        self.reload = Reload(ground.configuration, self._parts(), clock)
        for follower in (self._alarms.configure, self._commanding.use, self._northbound.apply):
            self.reload.follow(follower)
        self._receiver: Receiver | None = None
        self._uplink = self._make_uplink(store)
        self.telling = Telling(self._told(), ground.server)
        self._administration = Administration(ground.configuration, self.reload, clock, hangup=ground.hangup)
        self._remote = self._make_remote()
        self._rematch = Rematch(ground.configuration, self.reload, self.connections)
        self._control = ControlServer(options.state / SOCKET)
        self._alarms.serve(self._control)
        self._administration.serve(self._control)

    @property
    def name(self) -> str:
        """`site/gateway`, or the site alone for an agent that has no identity."""
        identity = self._ground.identity
        return (
            self._ground.configuration.loaded.site.site if identity is None else f"{identity.site}/{identity.gateway}"
        )

    async def run(self, stop: asyncio.Event, ready: Callable[[dict[str, object]], None]) -> None:
        """Runs until `stop` is set, then lets what is buffered become durable and, for a while, sent."""
        await asyncio.to_thread(self._models.start)
        await self._recall()
        await self._publication.use(self._models.catalogue(), self._models.numbered)
        await self._publication.store()
        serving: list[asyncio.Task[None]] = []
        async with asyncio.TaskGroup() as group:

            def start(name: str, work: Coroutine[Any, Any, Any]) -> None:
                serving.append(group.create_task(work, name=name))

            self.connections.begin(group)
            ticking = group.create_task(self._pipeline.tick(), name="ticks")
            flushing = group.create_task(self._pipeline.flush(), name="flush")
            start("models", keep("models", self._follow_models))
            start("catalogue", keep("catalogue", self._publication.run))
            start("status", keep("status", self.telling.run))
            start("alarms", keep("alarms", self._alarms.run))
            start("control", keep("control", self._control.run))
            start("configuration", keep("configuration", self._administration.run))
            start("firmware", keep("firmware", self._rematch.run))
            start("northbound", keep("northbound", self._northbound.run))
            start("commands", keep("commands", self._commanding.run))
            if self._remote is not None:
                start("remote configuration", keep("remote configuration", self._remote.run))
            if self._uplink is not None and self._receiver is not None:
                start("uplink", keep("uplink", self._uplink.run))
                start("downlink", keep("downlink", self._receiver.run))
                renewal = Renewal(self._ground.options.state, self._clock, self._ground.random, self._uplink.retry_now)
                start("renewal", keep("renewal", renewal.run))
            devices = len(self._ground.configuration.loaded.site.devices)
            ready({"gateway": self.name, "status_port": self._ground.server.port, "devices": devices})
            await stop.wait()
            notify("STOPPING=1\nSTATUS=sending what is buffered")
            await self._end([*self.connections.tasks, ticking], flushing)
            for task in serving:
                task.cancel()

    async def _end(self, reading: Sequence[asyncio.Task[Any]], flushing: asyncio.Task[None]) -> None:
        """Stops reading, makes everything durable, and gives the uplink a moment to send it."""
        await ended(reading, self._commit_all, self._clock)
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
        storage = self._ground.storage
        end_ns = self._clock.boot_ns() + round(DRAIN_S * SECOND_NS)
        while self._uplink is not None and self._uplink.status().connected and self._clock.boot_ns() < end_ns:
            if (await storage.call(Spool.backlog)).items == 0:
                break
            await asyncio.sleep(0.05)
        return (await storage.call(Spool.backlog)).samples

    async def _commit_all(self) -> bool:
        return await self._pipeline.commit(everything=True)

    async def _commit(self, flush: Flush, catalogue: Catalogue) -> None:
        append = Spool.append_many
        await self._ground.storage.call(append, flush.parts, catalogue, flush.records, declare=flush.declare)
        if self._uplink is not None:
            self._uplink.wake()

    async def _recall(self) -> None:
        """Teaches `replays` what the boot before this one stored last: a broker may send it again."""
        signals = self._models.numbered.signals
        try:
            recent = await self._ground.storage.call(Spool.recent)
        except StorageError:
            return  # the disk does not even let itself be read; what it says is told with the first commit
        for known, batches in recent:
            numbers = {s.id: signals[s.name].id for s in known.signals if s.name in signals}
            for batch in batches:
                self._replays.recall(batch, numbers)

    def _reopen_session(self) -> None:
        if self._uplink is not None:
            self._uplink.reopen()

    async def _follow_models(self) -> None:
        """Publishes the outputs of models as they change; the samples before the change keep their catalogue."""
        while True:
            await self._models_changed.wait()
            self._models_changed.clear()
            fresh = self._models.catalogue()
            if fresh.digest != self._publication.present.digest:
                await self._publication.use(fresh)

    # ---- made once -----------------------------------------------------------------------------------------------

    def _driver(self, group: Group, assignments: Sequence[Assignment]) -> Driver:
        ground = self._ground
        return make_driver(
            group, assignments, clock=self._clock, rng=ground.random, client_id=self.name,
            state_dir=ground.options.state,
        )  # fmt: skip

    def _join_watchers(self) -> None:
        options, loaded, clock = self._ground.options, self._ground.configuration.loaded, self._clock
        self._northbound = Northbound(
            loaded, self.name, clock=clock, random=self._ground.random, state_dir=options.state, version=VERSION
        )
        self._alarms = Alarms(
            loaded, options.state, clock, record=self._pipeline.record,
            drivers=lambda: self.connections.drivers, runners=lambda: self._models.runners,
        )  # fmt: skip
        self._commanding = Commanding(
            loaded, options.state, clock,
            drivers=lambda: self.connections.drivers, runners=lambda: self._models.runners,
            uplink=lambda: self._uplink,
        )  # fmt: skip
        self._pipeline.watchers += [self._northbound, self._alarms, self._commanding.readings]

    def _parts(self) -> Parts:
        return Parts(
            self._models, self._replays, self._gate, self._lanes, self._pipeline, self.connections, self._publication
        )

    def _make_remote(self) -> Remote | None:
        ground, receiver = self._ground, self._receiver
        if receiver is None:
            return None
        folder = ground.options.state / "config" / "incoming"
        remote = Remote(
            ground.configuration, self.reload, self.telling.status, receiver.conclude, folder, self._clock
        )  # fmt: skip
        receiver.handlers[DirectiveKind.CONFIG] = remote.obey
        receiver.in_turn.add(DirectiveKind.CONFIG)
        receiver.digests[TARGET] = remote.digest
        self.reload.follow(lambda _loaded: receiver.watch_slots())
        return remote

    def _configuration_status(self) -> dict[str, Any]:
        return {
            **self._ground.configuration.status(),
            "on_trial": self._remote and self._remote.on_trial(),
            "profiles": dict(self._rematch.profiles()),
        }

    def _told(self) -> Told:
        ground = self._ground
        sections = {
            "northbound": self._northbound.status,
            "alarms": self._alarms.status,
            "commands": self._commanding.status,
            "configuration": self._configuration_status,
        }
        return Told(
            self.name, ground.watch, ground.storage, ground.configuration, self.connections, self._models,
            self._replays, self._lanes, self._pipeline, self._publication, self._uplink, sections,
            self._northbound.troubles, {"alarms": lambda: self._alarms.rounds},
        )  # fmt: skip

    def _make_uplink(self, store: ModelStore) -> Uplink | None:
        ground, identity = self._ground, self._ground.identity
        if identity is None or ground.options.offline:
            return None
        outcomes = Outcomes(ground.options.state / "outcomes.json")

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
            random=ground.random,
            on_state=self._directive_ended,
        )
        self._receiver.handlers[DirectiveKind.ALARM] = self._alarms.obey

        def address(loaded: LoadedSite) -> str:
            return loaded.site.uplink or identity.sync_address

        uplink = Uplink(
            address(ground.configuration.loaded),
            self._credentials,
            self._spooled,
            self._receiver,
            clock=self._clock,
            random=ground.random,
            agent_version=VERSION,
            commands=self._commanding.desk,
            on_server_time=ground.watch.heard,
        )
        self.reload.follow(lambda loaded: uplink.use(address(loaded)))
        return uplink

    def _credentials(self) -> Credentials:
        identity = load_identity(self._ground.options.state, self._clock)
        return Credentials(identity.ca_pem, identity.cert_pem, identity.key_pem)

    def _directive_ended(self, state: DirectiveState) -> None:
        self._models_changed.set()
        if self._uplink is not None:
            self._uplink.report(state)
