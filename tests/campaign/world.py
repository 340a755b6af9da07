"""A plant in virtual time: production's spools, uplinks, servicer, writer and store on one thread, and their enemy.

    Gateway ── Uplink, EdgeSession, Storage, Spool ──▶ Network ──▶ SyncServicer, ServerSession, Writer, CoordinatorStore
        ▲                                                 ▲                          ▲
        └─────────────── kills, copies, restores ──── Nemesis ──── cuts, losses, restores

What is not production: gRPC with its TLS (`link`), the threads (`loop`), devices (`produce`) and the operator, who
ends forks. A seed decides everything; `run_seed` gives the history that its judge reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import logging
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextvars import copy_context
from pathlib import Path
from random import Random

import structlog

from tests.campaign.beginning import (
    SITE,
    TENANT,
    copy_center,
    credentials,
    let_in,
    memory_folder,
    open_center,
    serial_of,
    template,
    until_ns,
)
from tests.campaign.gateway import Gateway
from tests.campaign.history import Excuse, History
from tests.campaign.link import Context, Network, Pipe
from tests.campaign.loop import LIFE, Life, VirtualClock, VirtualLoop
from tests.campaign.nemesis import Nemesis, Only, Plan
from tests.campaign.reading import Coordinator as Database
from twincloud.ingest.limits import IngestLimits
from twincloud.ingest.servicer import SyncServicer
from twincloud.storage.contract import GatewayKey, TwinKey
from twincloud.storage.directory import DATABASE
from twincloud.storage.store import CoordinatorStore
from twinedge.uplink import sender
from twinmodel.clock import SECOND_NS
from twinmodel.errors import StorageError, TwinError
from twinsync.session import ServerLimits

PATIENCE_NS = 9 * SECOND_NS
"""How long somebody may still be heard who should not be: a look at the certificate, and what was under way."""
LOOK_S = 2.0
DRAIN_NS = 1_500 * SECOND_NS
"""Time after the last fault in which everything must have arrived: two waits of a refused gateway and its operator."""


class Mailbox:
    """No directives: what goes down has a campaign of its own."""

    def waiting(self, gateway):
        return ()

    def settle(self, gateway, state):
        return None


class Center:
    """The coordinator: its database, its process while it lives, its backups."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = VirtualClock(world.loop, 77 * SECOND_NS)
        self.folder = world.root / "center0"
        copy_center(template(), self.folder)
        self.life = Life("center")
        self.life.alive = False
        self.backup: Path | None = None
        self.backups = 0
        self.revoked: set[str] = set()
        self.stolen: dict[bytes, int] = {}
        self.unwanted: dict[str, int] = {}
        self.invitations = 0
        self.disk_fault = ""
        self.pending_peak = 0
        self.servicer: SyncServicer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._store: CoordinatorStore | None = self._open()

    def start(self) -> None:
        limits = IngestLimits(
            session=ServerLimits(heartbeat_ns=8 * SECOND_NS),
            window_bytes=self.world.plan.window_bytes,
            window_items=self.world.plan.window_items,
            pending_bytes_max=self.world.plan.pending_bytes,
            watch_s=2.0,
            recheck_ns=5 * SECOND_NS,
        )
        try:
            self._store.end_sessions(self.clock.wall_ns())
        except StorageError:
            # It does not come up, and is started again.
            self.world.loop.call_at(self.world.loop.now_ns / SECOND_NS + 2.0, self.start)
            return
        self.life = Life("center", self._died)
        self.servicer = SyncServicer(
            self._store, Mailbox(), clock=self.clock, on_commit=self._committed, is_revoked=self.revoked.__contains__,
            limits=limits,
        )  # fmt: skip
        self._spawn(self.servicer.run)

    def accept(self, pipe: Pipe) -> None:
        if not self.life.alive or self.servicer is None:
            pipe.refuse()
            return
        pipe.server = self._spawn(functools.partial(self._serve, self.servicer, pipe))

    async def _serve(self, servicer: SyncServicer, pipe: Pipe) -> None:
        try:
            await servicer.Session(None, Context(pipe))
        finally:
            # What was written before the end arrives before it.
            end, loop = pipe.ends["down"], self.world.loop
            loop.call_at((max(end.last_ns, loop.now_ns) + 1) / SECOND_NS, end.finish)
            pipe.ends["up"].over = True

    def _spawn(self, work) -> asyncio.Task[None]:
        task = spawn(self.world, self.life, work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _committed(self, gateway, commit) -> None:
        self.world.last_commit_ns = self.world.loop.now_ns
        since_ns = self.unwanted.get(gateway.gateway)
        if not self.world.plan.slow and since_ns is not None and self.world.loop.now_ns - since_ns > PATIENCE_NS:
            self.world.history.failures.append(f"{gateway.gateway} is suspended, and what it sends is stored")
        self.world.note(f"commit {gateway.gateway} {commit.samples} {[m.next_seq for m in commit.marks]}")
        if self.servicer is not None:
            self.pending_peak = max(self.pending_peak, self.servicer.pending_bytes)

    def kill(self) -> None:
        """kill -9: everything that was not committed is gone."""
        if self.life.alive:
            self.life.alive = False
            self._died()

    def _died(self) -> None:
        self.world.note("center died")
        self.world.loop.call_soon(self._bury)

    def _bury(self) -> None:
        for task in sorted(self._tasks, key=lambda one: one.get_name()):
            task.cancel()
        self.world.network.cut_all()
        self._store = self._image(self.folder)
        self.world.loop.call_at(
            (self.world.loop.now_ns + self.world.random.randint(0, 6) * SECOND_NS) / SECOND_NS, self.start
        )

    def _image(self, source: Path) -> CoordinatorStore:
        """The files as a killed process leaves them, in a new folder, opened."""
        self.backups += 1
        self.folder = self.world.root / f"center{self.backups}"
        copy_center(source, self.folder)
        return self._open()

    def _open(self) -> CoordinatorStore:
        return open_center(self.folder, self.clock, lambda: self.disk_fault)

    def back_up(self) -> None:
        self.backups += 1
        self.backup = self.world.root / f"backup{self.backups}"
        copy_center(self.folder, self.backup)

    def restore(self) -> bool:
        """An older database takes the place of the present one; False when there is none or nobody to be restored."""
        if self.backup is None or not self.life.alive:
            return False
        self.life.alive = False
        self.world.note("center restored")
        self.unwanted.clear()
        self.folder = self.backup
        for excuse in self.world.history.excused:
            excuse.restored_after = True
        self._bury()
        return True

    def invite(self, name: str) -> None:
        """The operator invites a gateway, anew or again; a fork of it ends."""
        # Twins of one name may be invited at one moment.
        self.invitations += 1
        token = hashlib.sha256(f"{name}/{self.world.loop.now_ns}/{self.invitations}".encode()).digest()
        let_in(self._store, name, token, self.clock.wall_ns())
        # Who joins anew is let in.
        self.unwanted.pop(name, None)

    def suspend(self, name: str, *, suspended: bool) -> bool:
        """Shuts a gateway out, or lets it in again."""
        if not self.life.alive or self.servicer is None or self.disk_fault:
            return False
        if suspended and name in self.unwanted:
            return False
        key = GatewayKey(TENANT, SITE, name)
        self._store.suspend_gateway(key, suspended=suspended, now_ns=self.clock.wall_ns())
        self.unwanted.pop(name, None)
        if suspended:
            self.unwanted[name] = self.world.loop.now_ns
            self.servicer.cut(key, "SUSPENDED", "by the operator")
        return True

    def hears(self, chain: bytes) -> None:
        """Somebody is listened to: nobody whose certificate has ended or whose key was stolen is, for long."""
        ended_ns = self.clock.wall_ns() - until_ns(chain)
        stolen_ns = self.world.loop.now_ns - self.stolen.get(chain, self.world.loop.now_ns)
        if not self.world.plan.slow and max(ended_ns, stolen_ns) > PATIENCE_NS:
            self.world.history.failures.append("a certificate that ended or was revoked is listened to")

    def check_silent(self, gateway: Gateway) -> None:
        """A gateway that was silent for so long counts as away."""
        alone = sum(other.name == gateway.name for other in self.world.gateways) == 1
        key = GatewayKey(TENANT, SITE, gateway.name)
        if alone and self.life.alive and self.servicer is not None and key in self.servicer.connected:
            self.world.history.failures.append(f"{gateway.label} is silent, and counts as connected")

    def revoke(self, name: str, certificate: str) -> bool:
        """A key was stolen: nobody with this certificate gets in, and who is in is cut at once."""
        if not self.life.alive or self.servicer is None:
            return False
        self.revoked.add(serial_of(name, certificate))
        self.stolen.setdefault(credentials(name, certificate).chain, self.world.loop.now_ns)
        self.servicer.recheck()
        return True

    def marks(self) -> dict[tuple[bytes, int], int]:
        with contextlib.closing(sqlite3.connect(self.folder / DATABASE)) as db:
            rows = db.execute("SELECT boot, stream, next_seq FROM marks JOIN boots ON boots.id = marks.boot_id")
            found: dict[tuple[bytes, int], int] = {}
            for boot, stream, next_seq in rows:
                found[boot, stream] = max(next_seq, found.get((boot, stream), 0))
            return found

    def tell(self, history: History) -> None:
        """Ends, and gives what it holds to the history."""
        held = Database(self.folder / DATABASE)
        history.ledgers = held.intervals()
        for gateway, (items, losses, hashes) in held.read().items():
            history.held[gateway], history.losses[gateway] = items, losses
            for twin, hashed in hashes.items():
                with contextlib.suppress(TwinError):
                    history.states.append(
                        (f"{gateway} {twin}", self._store.state_hash(TwinKey(TENANT, SITE, twin)), hashed)
                    )
        history.peaks["writer bytes"] = (self.pending_peak, self.world.plan.pending_bytes + (64 << 20))


class World:
    """Everything of one seed."""

    def __init__(self, seed: int, root: Path, only: Only | None = None) -> None:
        self.random = Random(seed)
        self.root = root
        self.plan = Plan.of(self.random, only)
        self.loop = VirtualLoop(Random(self.random.random()))
        self.history = History()
        self.network = Network(self.loop, Random(self.random.random()), self.note)
        self.center = Center(self)
        self.network.accept = self.center.accept
        self.network.hears = self.center.hears
        self.network.is_over = lambda chain: until_ns(chain) < self.center.clock.wall_ns()
        self.gateways: list[Gateway] = []
        self.made = 0
        self.names = 1
        self.certificates = 0
        self.last_commit_ns = 0
        self.healed = False
        self.values = 0

    def note(self, what: str) -> None:
        self.history.trace.note(self.loop.now_ns, what)

    def fault(self, kind: str) -> None:
        self.history.faults[kind] += 1
        self.note(kind)

    async def run(self) -> None:
        self.center.start()
        self.add(Gateway(self, self.root / "disk0", "gw-1"))
        nemesis = Nemesis(self)
        await nemesis.run()
        self.healed = True
        healed_ns = self.loop.now_ns
        while self.loop.now_ns < healed_ns + DRAIN_NS and not self._drained():  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(LOOK_S)
        for gateway in self.gateways:
            self.history.waiting[gateway.label] = gateway.waiting()
        self.history.faults += self.network.faults
        faults = self.history.faults
        if faults["SERVER_REGRESSED"] and not faults["center restored"] + faults["clone"] + faults["disk restored"]:
            self.history.failures.append("the coordinator forgot what it had acknowledged")
        names = [gateway.name for gateway in self.gateways]
        if len(set(names)) < len(names) and not faults["IDENTITY_FORK"]:
            self.history.failures.append("two machines spoke with one name, and nobody was told")
        self.history.recoveries_ns.append(max(self.last_commit_ns - healed_ns, 0))

    def add(self, gateway: Gateway) -> None:
        self.gateways.append(gateway)
        gateway.start()

    def _drained(self) -> bool:
        return self.center.life.alive and not self.loop.frozen and all(gateway.drained for gateway in self.gateways)

    def destroyed(self, gateway: Gateway, survivor: dict[tuple[bytes, int], int]) -> None:
        """What lay on a disk that is gone, and not on the one that takes its place nor on any other."""
        lanes = dict(survivor)
        for other in self.gateways:
            if other is not gateway:
                for lane, next_seq in other.lanes().items():
                    lanes[lane] = max(lanes.get(lane, 0), next_seq)
        marks = self.center.marks()
        for lane, next_seq in gateway.lanes().items():
            if next_seq > lanes.get(lane, 0):
                self.history.excused.append(Excuse(lane, lanes.get(lane, 0), marks.get(lane, 0)))

    def end(self) -> None:
        """Stops everything that still runs, without a trace."""
        for gateway in self.gateways:
            gateway.end()
        self.center.life.alive = False
        for life in list(self.loop.frozen):
            self.loop.thaw(life)
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        # Cancelled tasks end now; their words count no more.
        failures = list(self.loop.failures)
        for _ in range(50):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
            if not asyncio.all_tasks(self.loop):
                break
        self.history.failures += failures


def spawn(world: World, life: Life, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    """Runs a part of a process; an error that ends it while it lives is a failure of the run.

    A part that is killed before its first turn is never begun.
    """

    async def shell() -> None:
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - groups of anything; it is told to the judge
            if life.alive:
                world.history.failures.append(f"{life.name} ended: {error!r}")

    context = copy_context()
    context.run(LIFE.set, life)
    return world.loop.create_task(shell(), context=context, name=f"{life.name}-{world.loop.now_ns}-{world.made}")


@contextlib.contextmanager
def _linked(world: World) -> Iterator[None]:
    """The sender's channels open in this world, and nobody talks."""
    original = sender.open_channel
    sender.open_channel = lambda address, ours, **_: world.gateways[int(address)].channel(ours)
    try:
        with quiet():
            yield
    finally:
        sender.open_channel = original


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No log of production is written: faults are what a campaign is made of."""
    logs = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**logs)


def run_seed(seed: int, only: Only | None = None) -> History:
    """One run from a seed; the same seed gives the same history."""
    root = memory_folder()
    world = None
    try:
        world = World(seed, root, only)
        asyncio.set_event_loop(world.loop)
        with _linked(world):
            try:
                world.loop.run_until_complete(world.loop.create_task(world.run()))
                world.center.tell(world.history)
                for gateway in world.gateways:
                    gateway.tell(world.history)
            finally:
                world.end()
        return world.history
    finally:
        if world is not None:
            asyncio.set_event_loop(None)
            world.loop.close()
        shutil.rmtree(root, ignore_errors=True)
