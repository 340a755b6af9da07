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
import gc
import hashlib
import logging
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextvars import copy_context
from multiprocessing.util import Finalize
from pathlib import Path
from random import Random

import structlog

from tests.campaign.gateway import Gateway
from tests.campaign.history import Excuse, History
from tests.campaign.link import Context, Network, Pipe
from tests.campaign.loop import LIFE, SHORT_NS, WALL_NS, Life, VirtualClock, VirtualLoop
from tests.campaign.nemesis import Nemesis, Only, Plan
from tests.campaign.reading import Coordinator as Database
from tests.cloud.ingest.memory import Authority
from twincloud.ingest.limits import IngestLimits
from twincloud.ingest.servicer import SyncServicer
from twincloud.registry.blobs import Blobs
from twincloud.registry.packages import verify_package
from twincloud.storage import create, open_store
from twincloud.storage.contract import GatewayKey, TwinKey
from twincloud.storage.directory import ARTIFACTS, DATABASE, Lock
from twincloud.storage.sqlite import SqliteDatabase
from twincloud.storage.store import CoordinatorStore
from twinedge.uplink import sender
from twinmodel.clock import SECOND_NS, ManualClock, SystemClock
from twinmodel.errors import StorageError, TwinError
from twinsync import block
from twinsync.channel import Credentials, peer_identity, valid_until_ns
from twinsync.session import ServerLimits

TENANT, SITE = "acme", "mill"
PATIENCE_NS = 9 * SECOND_NS
"""How long somebody may still be heard who should not be: a look at the certificate, and what was under way."""
DAY_NS = 86_400 * SECOND_NS
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
        ended_ns = self.clock.wall_ns() - _until_ns(chain)
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
        self.network.is_over = lambda chain: _until_ns(chain) < self.center.clock.wall_ns()
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
def other_template(change: Callable[[Path], None]) -> Iterator[None]:
    """New coordinators have a database that was changed, while the context is open."""
    made = memory_folder()
    original = template()
    shutil.copytree(original, made / "center")
    change(made / "center" / DATABASE)
    _TEMPLATES["center"] = made / "center"
    try:
        yield
    finally:
        _TEMPLATES["center"] = original
        shutil.rmtree(made)


_TEMPLATES: dict[str, Path] = {}


def memory_folder() -> Path:
    """A folder in memory where there is one: syncs cost nothing there."""
    shm = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="campaign-", dir=shm if shm.is_dir() else None))


def template() -> Path:
    """An empty coordinator, made once a process."""
    if "center" not in _TEMPLATES:
        made = memory_folder()
        # Also at the end of a worker process, where `atexit` is not heard.
        Finalize(None, shutil.rmtree, args=(made, True), exitpriority=1)
        create(made / "center")
        store = open_store(made / "center", clock=ManualClock())
        store.create_tenant(TENANT, 1)
        let_in(store, "gw-1", hashlib.sha256(b"first").digest(), WALL_NS)
        store.close()
        _TEMPLATES["center"] = made / "center"
        _TEMPLATES["root"] = made
        # What was imported and compiled by now stays for good: it need not be looked through again and again.
        gc.freeze()
    return _TEMPLATES["center"]


def let_in(store: CoordinatorStore, name: str, token: bytes, now_ns: int) -> None:
    """Invites a gateway and lets it join."""
    store.create_invite(GatewayKey(TENANT, SITE, name), token, now_ns, now_ns + SECOND_NS)
    store.redeem_invite(token, now_ns)


def copy_center(source: Path, target: Path) -> None:
    """Files of a coordinator as they are now; what SQLite shares in memory dies with a process."""
    (target / ARTIFACTS).mkdir(parents=True)
    for name in (DATABASE, f"{DATABASE}-wal"):
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


_DATABASES: dict[str, Refusing] = {}


class Refusing(SqliteDatabase):
    """A database whose disk refuses commits while `fault` says why."""

    fault: Callable[[], str] = staticmethod(lambda: "")

    @contextlib.contextmanager
    def write(self, tenant="*"):
        with super().write(tenant) as connection:
            yield connection
            if reason := self.fault():
                raise StorageError(reason, "the disk of the coordinator refuses")


def open_center(folder: Path, clock: VirtualClock, fault: Callable[[], str]) -> CoordinatorStore:
    """A store over the files of a folder, which knows nothing of the one before.

    The engine under it is kept from seed to seed: SQLAlchemy compiles each statement once for an engine, which takes
    longer than all else. Its connections are new, and so is everything that the store itself remembers.
    """
    database = _DATABASES.get("center")
    if database is None:
        database = _DATABASES["center"] = Refusing(folder / DATABASE)
    else:
        database.close()
        database.path = folder / DATABASE
    database.fault = fault
    # A process that dies lets go of its lock; no store is closed here, and thousands of them live in one process.
    while _LOCKS:
        _LOCKS.pop().release()
    _LOCKS.append(Lock(folder))
    return CoordinatorStore(
        database, clock, Blobs(folder / ARTIFACTS), _LOCKS[-1], decode=block.decode, verify=verify_package
    )


_LOCKS: list[Lock] = []
_AUTHORITY = Authority()
_CREDENTIALS: dict[tuple[str, str], Credentials] = {}


def credentials(name: str, certificate: str) -> Credentials:
    """What a gateway of this name shows; of certificates only their names differ, and when they end."""
    key = (name, certificate)
    if key not in _CREDENTIALS:
        until_ns = WALL_NS + (SHORT_NS if certificate == "short" else 5_000 * DAY_NS)
        days = (until_ns - SystemClock().wall_ns()) / DAY_NS
        _CREDENTIALS[key] = _AUTHORITY.gateway(GatewayKey(TENANT, SITE, name), days=days, past_days=5_000)
    return _CREDENTIALS[key]


_until_ns = functools.lru_cache(valid_until_ns)  # of the few certificates there are; asked for with each message


@functools.lru_cache
def serial_of(name: str, certificate: str) -> str:
    """The serial number that is revoked."""
    return peer_identity(credentials(name, certificate).chain).serial


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
