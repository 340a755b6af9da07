"""The one connection to the spool's file: transactions that are durable or did not happen, and healing.

    call fails with                     then
    STORE_FULL, STORE_READ_ONLY         rolled back; the file stays open, what it holds can still be read and sent;
                                        one that could only be opened to be read is opened anew for the next call
    STORE_SYNC_FAILED                   closed; the next call opens it anew, the next write settles it first
    STORE_CORRUPT                       closed; the next opening sets the file aside and salvages it

A commit whose sync failed may have arrived. Before anything else is written the file is settled: the log goes into the
database, so that no later commit stands behind bytes the disk may have dropped, and the owner undoes what it did not
promise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import apsw
import structlog

from twinedge.spool.failure import DAMAGE, storage_error
from twinedge.spool.schema import run
from twinmodel.errors import StorageError

R = TypeVar("R")

log = structlog.get_logger(__name__)

_STAYS_OPEN = ("STORE_FULL", "STORE_READ_ONLY")


class Opener(Protocol):
    """Opens the file sound, being told whether it is known to be damaged."""

    def __call__(self, *, damaged: bool) -> apsw.Connection:
        """Opens it; raises StorageError while the disk refuses."""


class Connection:
    """Runs transactions and reads.

    Args:
        path: the database file.
        open_file: opens the file.
        settle: brings a file that was opened anew in line with what was promised.

    Attributes:
        failures: calls the disk refused, since the start.
        refusing: whether the last write was refused.
    """

    def __init__(self, path: Path, open_file: Opener, settle: Callable[[apsw.Connection], None]) -> None:
        self._path = path
        self._open_file = open_file
        self._settle = settle
        self._db: apsw.Connection | None = None
        self._settled = False
        self._damaged = False
        self.refusing = False
        self.failures = 0

    @contextmanager
    def write(self) -> Iterator[apsw.Connection]:
        """One transaction, durable when the block ends; raises StorageError when the disk refuses."""
        with self._guarded(writes=True) as db:
            run(db, "BEGIN IMMEDIATE")
            try:
                yield db
                run(db, "COMMIT")
            except BaseException:
                if db.in_transaction:
                    run(db, "ROLLBACK")
                raise

    def steps(self, work: Callable[[apsw.Connection], R]) -> R:
        """Work that commits by itself, in small steps; raises StorageError when the disk refuses."""
        with self._guarded(writes=True) as db:
            return work(db)

    def read(self, work: Callable[[apsw.Connection], R]) -> R:
        """Work that only reads; it goes on while the disk refuses writes."""
        with self._guarded(writes=False) as db:
            return work(db)

    def close(self) -> None:
        """Closes the file, whatever state it is in."""
        db, self._db = self._db, None
        self._settled = False
        if db is not None:
            try:
                db.close(True)
            except apsw.Error as error:
                # Commits are on the disk already; only the last checkpoint was refused, the next opening repeats it.
                log.debug("spool.close_failed", path=str(self._path), cause=str(error))

    @contextmanager
    def _guarded(self, *, writes: bool) -> Iterator[apsw.Connection]:
        try:
            if self._db is None:
                self._db = self._open_file(damaged=self._damaged)
                self._damaged = False
            if writes and not self._settled:
                self._settle(self._db)
                self._settled = True
            before = self._db.total_changes()
            yield self._db
            # What finds nothing to write succeeds on a full disk, too.
            wrote = self._db.total_changes() != before
        except (apsw.Error, OSError) as error:
            found = storage_error(error, self._path)
            self._count(found, writes=writes)
            self._damaged = isinstance(error, DAMAGE)
            if found.reason not in _STAYS_OPEN or self._db is None or self._db.in_transaction or _only_read(self._db):
                self.close()
            raise found from error
        except StorageError as error:
            if self._db is None:
                self._count(error, writes=writes)
            raise
        if writes and wrote and self.refusing:
            self.refusing = False
            log.info("spool.back", path=str(self._path))

    def _count(self, error: StorageError, *, writes: bool) -> None:
        self.failures += 1
        if writes and not self.refusing:
            self.refusing = True
            log.warning("spool.lost", path=str(self._path), reason=error.reason, cause=error.message)


def _only_read(db: apsw.Connection) -> bool:
    """Whether the file was opened while its disk was read-only: such a connection never writes again."""
    return db.readonly("main")
