"""What runs in virtual time begin with: a coordinator's empty database, copied and opened anew, and certificates."""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.util import Finalize
from pathlib import Path

from tests.campaign.loop import SHORT_NS, WALL_NS, VirtualClock
from tests.cloud.ingest.memory import Authority
from twincloud.registry.blobs import Blobs
from twincloud.registry.packages import verify_package
from twincloud.storage import create, open_store
from twincloud.storage.contract import GatewayKey
from twincloud.storage.directory import ARTIFACTS, DATABASE, Lock
from twincloud.storage.sqlite import SqliteDatabase
from twincloud.storage.store import CoordinatorStore
from twinmodel.clock import SECOND_NS, ManualClock, SystemClock
from twinmodel.errors import StorageError
from twinsync import block
from twinsync.channel import Credentials, peer_identity, valid_until_ns

TENANT, SITE = "acme", "mill"
DAY_NS = 86_400 * SECOND_NS


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


until_ns = functools.lru_cache(valid_until_ns)  # of the few certificates there are; asked for with each message


@functools.lru_cache
def serial_of(name: str, certificate: str) -> str:
    """The serial number that is revoked."""
    return peer_identity(credentials(name, certificate).chain).serial
