"""The embedded store: all parts over one SQLite file and a folder of artifacts.

open_store(state_dir, clock=SystemClock()) -> CoordinatorStore
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import func, select

from twincloud.registry.blobs import Blobs
from twincloud.registry.packages import Verify, verify_package
from twincloud.storage import migrate
from twincloud.storage import schema as t
from twincloud.storage.commits import CommitStore
from twincloud.storage.contract import StoreStatus
from twincloud.storage.database import Database
from twincloud.storage.directory import ARTIFACTS, Lock, open_database
from twincloud.storage.fleet import FleetStore
from twincloud.storage.letters import LetterStore
from twincloud.storage.mailbox import MailboxStore
from twincloud.storage.models import ModelStore
from twincloud.storage.operations import OperationStore
from twincloud.storage.outbox import OutboxStore
from twincloud.storage.part import Decode
from twincloud.storage.people import PeopleStore
from twincloud.storage.readings import TwinStore
from twincloud.storage.requests import RequestStore
from twincloud.storage.sessions import SessionStore
from twincloud.storage.sources import SourceStore
from twincloud.storage.timeline import TimelineStore
from twincloud.storage.tracks import TrackStore
from twincloud.storage.wishes import WishStore
from twinmodel.clock import Clock
from twinmodel.errors import ConflictError, TwinError
from twinsync import block


class CoordinatorStore(
    SessionStore,
    CommitStore,
    TwinStore,
    TimelineStore,
    FleetStore,
    LetterStore,
    OutboxStore,
    ModelStore,
    MailboxStore,
    PeopleStore,
    RequestStore,
    WishStore,
    OperationStore,
    SourceStore,
    TrackStore,
):
    """Everything the coordinator keeps; see `Store`. Synchronous and safe to use from any thread."""

    def __init__(
        self, database: Database, clock: Clock, blobs: Blobs, lock: Lock, *, decode: Decode, verify: Verify
    ) -> None:
        super().__init__(database, clock, blobs, decode=decode, verify=verify)
        self._state_lock = lock

    def status(self) -> StoreStatus:
        """See `Store.status`."""
        facts = self._database.facts()
        with self._database.read() as connection:
            version = migrate.version(connection)
            blocks, samples = connection.execute(_TOTALS).one()
            letters = connection.execute(_LETTERS).scalar_one()
            events = connection.execute(_EVENTS).scalar_one()
        size = int(str(facts["page_size"])) * int(str(facts["page_count"])) + int(str(facts["wal_bytes"]))
        decoded = {"events": events, "decoded_blocks": len(self._decoded), "decoded_samples": self._decoded.samples}
        return StoreStatus(
            self._database.engine,
            version,
            size,
            int(blocks or 0),
            int(samples or 0),
            int(letters),
            {**facts, **decoded},
        )

    def check(self) -> tuple[str, ...]:
        """Damage found in the whole database, empty when it is sound; may take minutes."""
        return self._database.check()

    def close(self) -> None:
        """See `Store.close`."""
        self._database.close()
        self._state_lock.release()


def open_store(
    state_dir: Path, *, clock: Clock, decode: Decode = block.decode, verify: Verify = verify_package
) -> CoordinatorStore:
    """Opens the store of a state directory, for this process alone; upgrades it, with a backup, when it is older.

    Args:
        state_dir: made by `create`.
        clock: gives the time of commits.
        decode: block codec; exchangeable for tests.
        verify: verifies model packages; exchangeable for tests.

    Raises:
        ConflictError: NOT_INITIALISED, STATE_LOCKED.
        StorageError: STORE_CORRUPT, STATE_INVALID, STORE_READ_ONLY ...
    """
    if not state_dir.is_dir():
        raise ConflictError("NOT_INITIALISED", f"{state_dir} does not exist", hint="run `twincloud init`")
    lock = Lock(state_dir)
    try:
        database = open_database(state_dir)
    except TwinError:
        lock.release()
        raise
    return CoordinatorStore(database, clock, Blobs(state_dir / ARTIFACTS), lock, decode=decode, verify=verify)


_TOTALS = select(func.sum(t.gateways.c.blocks), func.sum(t.gateways.c.samples))
_LETTERS = select(func.count()).select_from(t.dead_letters)
_EVENTS = select(func.count()).select_from(t.events)
