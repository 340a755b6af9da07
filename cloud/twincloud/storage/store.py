"""The store: all parts over one SQLite file and a folder of artifacts, or over one PostgreSQL that coordinators share.

open_store(state_dir, clock=SystemClock(), database="") -> CoordinatorStore
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from twincloud.registry.blobs import Blobs
from twincloud.registry.packages import Verify, verify_package
from twincloud.storage import migrate
from twincloud.storage import schema as t
from twincloud.storage.alarms import AlarmStore
from twincloud.storage.archives import ArchiveStore
from twincloud.storage.artifacts import SharedBlobs
from twincloud.storage.asof import AsOfStore
from twincloud.storage.audit import AuditStore
from twincloud.storage.cloud_twins import CloudTwinStore
from twincloud.storage.command_sessions import CommandSessionStore
from twincloud.storage.commands import CommandStore
from twincloud.storage.commit_times import CommitTimeStore
from twincloud.storage.commits import CommitStore
from twincloud.storage.compaction import CompactionStore
from twincloud.storage.contract import StoreStatus
from twincloud.storage.database import Database
from twincloud.storage.directory import ARTIFACTS, Lock, open_database, replica_of
from twincloud.storage.downsampled import DownsampledStore
from twincloud.storage.exports import ExportStore
from twincloud.storage.fleet import FleetStore
from twincloud.storage.fleets import FleetsStore
from twincloud.storage.letters import LetterStore
from twincloud.storage.listings import ListingStore
from twincloud.storage.mailbox import MailboxStore
from twincloud.storage.merging import MergeStore
from twincloud.storage.models import ModelStore
from twincloud.storage.operations import OperationStore
from twincloud.storage.outbox import OutboxStore
from twincloud.storage.part import Decode
from twincloud.storage.people import PeopleStore
from twincloud.storage.relations import RelationStore
from twincloud.storage.requests import RequestStore
from twincloud.storage.retention_plan import RetentionPlanStore
from twincloud.storage.sessions import SessionStore
from twincloud.storage.shared import open_shared
from twincloud.storage.sharing import SharingStore
from twincloud.storage.sources import SourceStore
from twincloud.storage.tracks import TrackStore
from twincloud.storage.twin_records import RecordStore
from twincloud.storage.versions import VersionStore
from twincloud.storage.wishes import WishStore
from twincloud.twins.history import SAMPLES_MAX
from twinmodel.clock import Clock
from twinmodel.errors import ConflictError, TwinError
from twinsync import block


class CoordinatorStore(
    SessionStore,
    CloudTwinStore,
    CommitStore,
    AsOfStore,
    DownsampledStore,
    ExportStore,
    RetentionPlanStore,
    CompactionStore,
    MergeStore,
    AuditStore,
    AlarmStore,
    CommitTimeStore,
    FleetStore,
    FleetsStore,
    LetterStore,
    ListingStore,
    OutboxStore,
    ModelStore,
    MailboxStore,
    PeopleStore,
    RequestStore,
    VersionStore,
    WishStore,
    OperationStore,
    CommandStore,
    CommandSessionStore,
    ArchiveStore,
    SharingStore,
    SourceStore,
    RecordStore,
    RelationStore,
    TrackStore,
):
    """Everything the coordinator keeps; see `Store`. Synchronous and safe to use from any thread."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        blobs: Blobs | SharedBlobs,
        lock: Lock,
        *,
        decode: Decode,
        verify: Verify,
        decoded_samples: int = SAMPLES_MAX,
        replica: str = "",
    ) -> None:
        super().__init__(database, clock, blobs, decode=decode, verify=verify, decoded_samples=decoded_samples)
        self._state_lock = lock
        self._replica = replica

    def status(self) -> StoreStatus:
        """See `Store.status`."""
        facts = self._database.facts()
        with self._database.read() as connection:
            version = migrate.version(connection)
            blocks, samples = connection.execute(_TOTALS).one()
            letters = connection.execute(_LETTERS).scalar_one()
            events = connection.execute(_EVENTS).scalar_one()
        size = int(str(facts["bytes"]))
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
    state_dir: Path,
    *,
    clock: Clock,
    database: str = "",
    decode: Decode = block.decode,
    verify: Verify = verify_package,
    decoded_samples: int = SAMPLES_MAX,
) -> CoordinatorStore:
    """Opens the store of a state directory, for this process alone; upgrades it, with a backup, when it is older.

    Args:
        state_dir: made by `create`.
        clock: gives the time of commits.
        database: connection URI of the PostgreSQL to use instead of a file in the directory; it is never upgraded here.
        decode: block codec; exchangeable for tests.
        verify: verifies model packages; exchangeable for tests.
        decoded_samples: held in memory for those who read history.

    Raises:
        ConflictError: NOT_INITIALISED, STATE_LOCKED.
        StorageError: STORE_CORRUPT, STATE_INVALID, STORE_READ_ONLY ...
    """
    if not state_dir.is_dir():
        raise ConflictError("NOT_INITIALISED", f"{state_dir} does not exist", hint="run `twincloud init`")
    lock = Lock(state_dir)
    options: dict[str, Any] = {"decode": decode, "verify": verify, "decoded_samples": decoded_samples}
    try:
        if database:
            shared = open_shared(database)
            return CoordinatorStore(shared, clock, SharedBlobs(shared), lock, replica=replica_of(state_dir), **options)
        return CoordinatorStore(open_database(state_dir), clock, Blobs(state_dir / ARTIFACTS), lock, **options)
    except TwinError:
        lock.release()
        raise


_TOTALS = select(func.sum(t.gateways.c.blocks), func.sum(t.gateways.c.samples))
_LETTERS = select(func.count()).select_from(t.dead_letters)
_EVENTS = select(func.count()).select_from(t.events)
