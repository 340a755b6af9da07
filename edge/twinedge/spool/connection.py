"""The one connection to the spool's file: transactions that are durable or did not happen, and healing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import apsw
import structlog

from twinedge.spool.failure import storage_error
from twinedge.spool.schema import run
from twinmodel.errors import StorageError

R = TypeVar("R")

log = structlog.get_logger(__name__)


class Connection:
    """Runs transactions and reads; when SQLite fails the file is closed, and the next call opens it anew.

    Args:
        path: the database file.
        open_file: opens the file sound; it raises StorageError while the disk refuses.

    Attributes:
        failures: calls the disk refused, since the start.
    """

    def __init__(self, path: Path, open_file: Callable[[], apsw.Connection]) -> None:
        self._path = path
        self._open_file = open_file
        self._db: apsw.Connection | None = None
        self._lost = False
        self.failures = 0

    @contextmanager
    def write(self) -> Iterator[apsw.Connection]:
        """One transaction, durable when the block ends; raises StorageError when the disk refuses."""
        with self._guarded() as db:
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
        with self._guarded() as db:
            return work(db)

    def close(self) -> None:
        """Closes the file, whatever state it is in."""
        db, self._db = self._db, None
        if db is not None:
            try:
                db.close(True)
            except apsw.Error as error:
                # Commits are on the disk already; only the last checkpoint was refused, the next opening repeats it.
                log.debug("spool.close_failed", path=str(self._path), cause=str(error))

    @contextmanager
    def _guarded(self) -> Iterator[apsw.Connection]:
        try:
            if self._db is None:
                self._db = self._open_file()
            yield self._db
        except (apsw.Error, OSError) as error:
            self._fail(error)
            raise storage_error(error, self._path) from error
        except StorageError as error:
            if self._db is None:
                self._count(error.reason, error.message)
            raise
        if self._lost:
            self._lost = False
            log.info("spool.back", path=str(self._path))

    def _fail(self, error: apsw.Error | OSError) -> None:
        self._count(type(error).__name__, str(error))
        self.close()

    def _count(self, what: str, cause: str) -> None:
        self.failures += 1
        if not self._lost:
            self._lost = True
            log.warning("spool.lost", path=str(self._path), what=what, cause=cause)
