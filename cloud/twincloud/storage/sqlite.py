"""The embedded database: SQLite in WAL mode, FULL, one connection that writes and alone checkpoints.

SQLite below 3.51.3 can corrupt a WAL that two connections reset at once, hence the single writer: readers open the
file with `query_only`, so that they never checkpoint. Python's own transaction control is off (`isolation_level`
None); every transaction begins explicitly, the writer's with `BEGIN IMMEDIATE`.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import ClauseElement, Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects.sqlite import Insert, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool
from sqlalchemy.sql.compiler import SQLCompiler

from twincloud.storage.database import ALL, Row
from twincloud.storage.rows import Compiled, compiled_of
from twincloud.storage.stamps import stamp
from twinmodel.errors import ConflictError, StorageError, TwinError

READERS_MAX = 16
READER_WAIT_S = 30.0
BUSY_TIMEOUT_MS = 5_000
STATEMENTS_MAX = 512
FULL = 2
_WAL_LIMIT_BYTES = 64 << 20
_CACHE_KIB = 16_384

_REASONS = {
    sqlite3.SQLITE_FULL: "STORE_FULL",
    sqlite3.SQLITE_IOERR: "STORE_SYNC_FAILED",
    sqlite3.SQLITE_CORRUPT: "STORE_CORRUPT",
    sqlite3.SQLITE_NOTADB: "STORE_CORRUPT",
    sqlite3.SQLITE_READONLY: "STORE_READ_ONLY",
    sqlite3.SQLITE_PERM: "STORE_READ_ONLY",
    sqlite3.SQLITE_CANTOPEN: "STORE_SYNC_FAILED",
}
_HINTS = {
    "STORE_FULL": "free disk space; gateways keep their data and the coordinator goes on by itself",
    "STORE_CORRUPT": "stop twincloud, set the file aside and restore the newest backup; see docs/runbook.md",
    "STORE_SYNC_FAILED": "check the disk; the database is reopened by itself",
}


class SqliteDatabase:
    """See `Database`; one process opens it for writing at a time, which the state directory's lock ensures."""

    def __init__(self, path: Path, *, readers_max: int = READERS_MAX) -> None:
        """Opens the file; raises StorageError when it is damaged or does not sync fully."""
        self.path = path
        self._lock = threading.RLock()
        self._writer: Connection | None = None
        self._texts: dict[tuple[ClauseElement, tuple[str, ...]], Compiled] = {}
        self._commits = 0
        self._upserts: dict[tuple[str, tuple[str, ...]], Insert] = {}
        self._writers = create_engine("sqlite://", creator=self._connect_writer, poolclass=QueuePool, pool_size=1,
                                      max_overflow=0, pool_reset_on_return=None)  # fmt: skip
        self._readers = create_engine("sqlite://", creator=self._connect_reader, poolclass=QueuePool, pool_size=4,
                                      max_overflow=readers_max - 4, pool_timeout=READER_WAIT_S)  # fmt: skip
        _begin_with(self._writers, "BEGIN IMMEDIATE")
        _begin_with(self._readers, "BEGIN")
        try:
            with self._translated():
                self._open_writer()
        except TwinError:
            self.close()
            raise

    @property
    def engine(self) -> str:
        """See `Database.engine`."""
        return f"sqlite {sqlite3.sqlite_version}"

    @property
    def commits(self) -> int | None:
        """See `Database.commits`."""
        return self._commits

    @contextlib.contextmanager
    def write(self, tenant: str = ALL) -> Iterator[Connection]:
        """See `Database.write`; waits for other writers of this process."""
        del tenant  # one file knows no roles; every query names its tenant
        with self._lock, self._translated():
            connection = self._writer or self._open_writer()
            try:
                with connection.begin():
                    yield connection
                    stamp(connection)
                self._commits += 1
            except (DBAPIError, sqlite3.Error) as error:
                if _code_of(error.orig if isinstance(error, DBAPIError) else error) == sqlite3.SQLITE_IOERR:
                    # After a failed fsync the kernel may forget dirty pages: only a new connection reads the truth.
                    self._drop_writer()
                raise

    @contextlib.contextmanager
    def read(self, tenant: str = ALL) -> Iterator[Connection]:
        """See `Database.read`; a bounded number of readers run at once, others wait for their turn."""
        del tenant
        with self._translated(), self._readers.connect() as connection, connection.begin():
            yield connection

    def whole(self, connection: Connection) -> contextlib.AbstractContextManager[None]:
        """See `Database.whole`; SQLite asks keys, whatever it believes of sizes."""
        del connection
        return contextlib.nullcontext()

    def upsert(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """See `Database.upsert`."""
        if not rows:
            return
        known = self._upserts.get((table.name, tuple(rows[0])))
        if known is None:
            statement = insert(table)
            keys = [column.name for column in table.primary_key]
            new = {name: statement.excluded[name] for name in rows[0] if name not in keys}
            if new:
                known = statement.on_conflict_do_update(index_elements=keys, set_=new)
            else:
                known = statement.on_conflict_do_nothing(index_elements=keys)
            self._upserts[table.name, tuple(rows[0])] = known
        self.write_many(connection, known, rows)

    def read_many(self, connection: Connection, statement: ClauseElement, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
        """See `Database.read_many`."""
        if not rows:
            return []
        known = self._compiled(statement, rows[0])
        execute = _driver(connection).execute
        values = [[row[name] for name in known.names] for row in rows]
        if known.many(values):
            return [found for text, some in known.parts(values) for found in execute(text, some).fetchall()]
        return [found for some in values for found in execute(known.text, some).fetchall()]

    def write_many(self, connection: Connection, statement: ClauseElement, rows: Sequence[Row]) -> None:
        """See `Database.write_many`."""
        if not rows:
            return
        known = self._compiled(statement, rows[0])
        values = [[row[name] for name in known.names] for row in rows]
        driver = _driver(connection)
        if known.many(values):
            for text, some in known.parts(values):
                driver.execute(text, some)
        else:
            driver.executemany(known.text, values)

    def _compiled(self, statement: ClauseElement, row: Row) -> Compiled:
        """SQL of a statement of a module, made once: it takes longer to compile, and to bind, than to run."""
        key = (statement, tuple(row))
        known = self._texts.get(key)
        if known is None:
            compiled = statement.compile(dialect=self._writers.dialect, column_keys=list(row), for_executemany=True)
            assert isinstance(compiled, SQLCompiler)
            known = self._texts[key] = compiled_of(statement, compiled)
        return known

    @contextlib.contextmanager
    def lease(self, name: str) -> Iterator[bool]:
        """See `Database.lease`: always granted."""
        del name
        yield True

    def is_present(self, connection: Connection, replica: str) -> bool:
        """See `Database.is_present`: there is no other."""
        del connection, replica
        return False

    @contextlib.contextmanager
    def announce(self, replica: str, ring: Callable[[], None]) -> Iterator[None]:
        """See `Database.announce`: nobody else listens or commits."""
        del replica, ring
        yield

    def reclaim(self) -> int:
        """See `Database.reclaim`: pages of deleted rows are used again."""
        return 0

    def facts(self) -> dict[str, object]:
        """See `Database.facts`."""
        with self._lock, self._translated():
            connection = self._writer or self._open_writer()
            pragmas = {}
            for name in ("journal_mode", "synchronous", "page_size", "page_count", "freelist_count", "foreign_keys"):
                pragmas[name] = connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            connection.rollback()
        wal = self.path.with_name(self.path.name + "-wal")
        wal_bytes = wal.stat().st_size if wal.exists() else 0
        size = int(pragmas["page_size"] or 0) * int(pragmas["page_count"] or 0) + wal_bytes
        return {"bytes": size, "path": str(self.path), **pragmas, "wal_bytes": wal_bytes}

    def check(self) -> tuple[str, ...]:
        """See `Database.check`."""
        with self.read() as connection:
            found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check(100)")]
            found += [
                f"broken reference: {tuple(row)}" for row in connection.exec_driver_sql("PRAGMA foreign_key_check")
            ]
        return tuple(line for line in found if line != "ok")

    def backup(self, target: Path) -> None:
        """Copies the database to `target`, complete and consistent, while it is in use."""
        with (
            self._translated(),
            self._readers.connect() as connection,
            contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy,
        ):
            _driver(connection).backup(copy)

    def close(self) -> None:
        """See `Database.close`; readers go first, so that the writer does the last checkpoint."""
        self._readers.dispose()
        with self._lock:
            self._drop_writer()
            self._writers.dispose()

    def _open_writer(self) -> Connection:
        connection = self._writers.connect()
        synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar()
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        connection.rollback()
        if synchronous != FULL or mode != "wal":
            connection.close()
            raise StorageError(
                "STATE_INVALID",
                f"{self.path} opens with synchronous={synchronous}, journal_mode={mode} instead of 2 and wal",
                hint="use a local file system that supports SQLite's WAL mode",
                path=str(self.path),
            )
        self._writer = connection
        return connection

    def _drop_writer(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(DBAPIError):  # the connection is given up because it failed
                self._writer.invalidate()
            self._writer.close()
            self._writer = None

    def _connect_writer(self) -> sqlite3.Connection:
        return self._connect(
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            f"PRAGMA journal_size_limit={_WAL_LIMIT_BYTES}",
            "PRAGMA foreign_keys=ON",
        )

    def _connect_reader(self) -> sqlite3.Connection:
        return self._connect("PRAGMA query_only=ON")

    def _connect(self, *pragmas: str) -> sqlite3.Connection:
        uri = f"{self.path.resolve().as_uri()}?mode=rw"
        connection = sqlite3.connect(
            uri,
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_TIMEOUT_MS / 1000,
            cached_statements=STATEMENTS_MAX,
        )
        try:
            for pragma in (*pragmas, f"PRAGMA cache_size=-{_CACHE_KIB}", "PRAGMA temp_store=MEMORY"):
                connection.execute(pragma)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeoutError:
            raise StorageError(
                "LIMIT_EXCEEDED",
                f"no reader of {self.path} became free within {READER_WAIT_S:g} s",
                hint="ask less at once",
            ) from None
        except DBAPIError as error:
            raise self._error(error.orig) from error
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _error(self, error: BaseException | None) -> TwinError:
        code = _code_of(error)
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return ConflictError("STATE_LOCKED", f"{self.path} is locked: {error}", path=str(self.path))
        reason = _REASONS.get(code, "STATE_INVALID")
        return StorageError(reason, f"{self.path}: {error}", hint=_HINTS.get(reason), path=str(self.path))


def _begin_with(engine: Engine, statement: str) -> None:
    def begin(connection: Connection) -> None:
        _driver(connection).execute(statement)

    event.listen(engine, "begin", begin)


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError("not a SQLite connection")
    return driver


def _code_of(error: BaseException | None) -> int:
    """The primary result code of a SQLite error; extended codes keep it in the low byte."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
