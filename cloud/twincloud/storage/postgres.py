"""The shared database: PostgreSQL by psycopg 3, for several coordinators at once.

    write   BEGIN; role, tenant; lock of the counter `row` ─▶ ... ─▶ COMMIT, flushed before it returns
    read    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; role, tenant ─▶ ...

Every transaction begins with one message that takes the application's role, names the tenant that row-level security
looks at, and, of a writer, locks the counter all numbers come from: writers of all coordinators come one after the
other, as they do on SQLite, so a smaller number is always visible before a larger one. Role and tenant are local to
the transaction, so that nothing of one leaks into the next and a pooler between is no danger.

A server that goes away fails what runs with STORE_UNAVAILABLE; the next transaction connects again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import structlog
from psycopg import sql
from psycopg.types.string import StrDumper
from sqlalchemy import ClauseElement, Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from twincloud.storage import presence
from twincloud.storage.arrays import Statements
from twincloud.storage.database import ALL, Row
from twincloud.storage.postgres_errors import error_of
from twincloud.storage.stamps import stamp
from twinmodel.errors import StorageError, TwinError

ROLE = "hybridtwin_app"
"""Who transactions run as: neither owner of the tables nor superuser, so that row-level security holds them."""

READERS_MAX = 16
READER_WAIT_S = 30.0
CONNECT_TIMEOUT_S = 5
ATTEMPTS_MAX = 8
"""Pooled connections that may prove dead before one transaction begins; more than a pool holds."""

_OPTIONS = {
    "synchronous_commit": "on",
    "lock_timeout": "20s",
    # A coordinator that stands still in the midst of a transaction holds up all others; one that died does not.
    "idle_in_transaction_session_timeout": "15s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "client_min_messages": "warning",
    "timezone": "UTC",
    "jit": "off",
}
_DIAL: dict[str, Any] = {
    "application_name": "twincloud",
    "connect_timeout": CONNECT_TIMEOUT_S,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}
_LOCK_COUNTER = "SELECT value FROM counters WHERE name = 'row' FOR UPDATE"
_NUMBER = "number"
_AHEAD = 1 << 19
"""Numbers for which a partition is ready before they are given; more than any transaction takes."""
_READ_ONLY = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

_log = structlog.get_logger("twincloud")


class PlainText(StrDumper):
    """Text as the server takes it: it knows no NUL, which only broken or hostile gateways send."""

    def dump(self, obj: str) -> Any:
        """The text, NUL replaced."""
        return super().dump(obj.replace("\0", "\ufffd") if "\0" in obj else obj)


class PostgresDatabase:
    """See `Database`."""

    def __init__(self, url: str, *, role: str = ROLE, readers_max: int = READERS_MAX) -> None:
        """Connects; raises StorageError STORE_UNAVAILABLE, STATE_INVALID when the server refuses.

        Args:
            url: a connection URI of libpq; a password may also come from PGPASSFILE or PGPASSWORD.
            role: whose rights transactions have, "" for those of the URL's user (migrations).
            readers_max: connections that read at once.
        """
        self._url = url
        self._role = role
        self._lock = threading.RLock()
        self._prepared_until = 0
        self._writers = self._engine_of(pool_size=1, max_overflow=0)
        self._readers = self._engine_of(pool_size=4, max_overflow=readers_max - 4)
        named: Dialect = PGDialect_psycopg(paramstyle="named")  # type: ignore[no-untyped-call] # SQLAlchemy's
        self._statements = Statements(named)
        with self._translated(), self._readers.connect() as connection:
            self._version = driver(connection).info.server_version // 10_000
            self.place = place_of(driver(connection))

    @property
    def engine(self) -> str:
        """See `Database.engine`."""
        return f"postgresql {self._version}"

    @property
    def commits(self) -> int | None:
        """See `Database.commits`: other coordinators commit here, too."""
        return None

    @contextlib.contextmanager
    def write(self, tenant: str = ALL) -> Iterator[Connection]:
        """See `Database.write`; waits for other writers, of this process and of other coordinators."""
        lock = _LOCK_COUNTER if self._role else ""
        with self._lock, self._begun(self._writers, "BEGIN", tenant, lock) as connection:
            try:
                if lock:
                    self._extend(connection)
                yield connection
                stamp(connection)
            except BaseException:
                self._prepared_until = 0  # what was made is rolled back with the rest
                raise

    @contextlib.contextmanager
    def read(self, tenant: str = ALL) -> Iterator[Connection]:
        """See `Database.read`; a bounded number of readers run at once, others wait for their turn."""
        with self._begun(self._readers, _READ_ONLY, tenant) as connection:
            yield connection

    @contextlib.contextmanager
    def whole(self, connection: Connection) -> Iterator[None]:
        """See `Database.whole`; when the block raises, the transaction takes the setting with it."""
        connection.exec_driver_sql("SET LOCAL enable_nestloop = off")
        yield
        connection.exec_driver_sql("SET LOCAL enable_nestloop = on")

    def read_many(self, connection: Connection, statement: ClauseElement, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
        """See `Database.read_many`; one round trip, whatever the number of rows."""
        if not rows:
            return []
        text, parameters = self._statements.reading(statement, rows)
        with driver(connection).cursor(binary=True) as cursor:
            return cursor.execute(text, parameters).fetchall()

    def write_many(self, connection: Connection, statement: ClauseElement, rows: Sequence[Row]) -> None:
        """See `Database.write_many`; one round trip for inserts, and for updates of rows that differ."""
        if rows:
            with driver(connection).cursor() as cursor:
                self._statements.write(cursor, statement, rows)

    def upsert(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        """See `Database.upsert`; of rows with one key the last one counts."""
        if rows:
            with driver(connection).cursor() as cursor:
                self._statements.upsert(cursor, table, rows)

    def lease(self, name: str) -> contextlib.AbstractContextManager[bool]:
        """See `Database.lease`."""
        return presence.lease(self.session, name)

    def is_present(self, connection: Connection, replica: str) -> bool:
        """See `Database.is_present`."""
        return presence.is_present(connection, replica)

    def announce(self, replica: str, ring: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
        """See `Database.announce`."""
        return presence.announce(self.session, replica, ring)

    def reclaim(self) -> int:
        """See `Database.reclaim`."""
        with self.write() as connection:
            number = connection.info[_NUMBER]
            return int(
                connection.exec_driver_sql("SELECT hybridtwin_shrink(%(number)s)", {"number": number}).scalar_one()
            )

    def facts(self) -> dict[str, object]:
        """See `Database.facts`."""
        with self.read() as connection:
            row = connection.exec_driver_sql(
                "SELECT pg_database_size(current_database()), current_setting('fsync'),"
                " current_setting('synchronous_commit'), current_setting('full_page_writes')"
            ).one()
        return {"bytes": row[0], "path": self.place, "fsync": row[1], "synchronous": row[2], "full_page_writes": row[3]}

    def check(self) -> tuple[str, ...]:
        """See `Database.check`: the server's checksums speak when rows are read; `pg_amcheck` looks at indexes."""
        with self.read() as connection:
            invalid = connection.exec_driver_sql("SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid")
            return tuple(f"index {name} is not valid" for (name,) in invalid)

    def close(self) -> None:
        """See `Database.close`."""
        self._readers.dispose()
        with self._lock:
            self._writers.dispose()

    @contextlib.contextmanager
    def session(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """A connection outside all pools, without a transaction: for locks and news that live as long as it does."""
        with self._translated(), contextlib.closing(self._connect()) as connection:
            yield connection

    def _extend(self, connection: Connection) -> None:
        """Sees that there are partitions for the numbers this transaction may take."""
        number = int(connection.info[_NUMBER])
        if number + _AHEAD >= self._prepared_until:
            made = connection.exec_driver_sql("SELECT hybridtwin_extend(%(number)s)", {"number": number})
            self._prepared_until = int(made.scalar_one())

    def _engine_of(self, *, pool_size: int, max_overflow: int) -> Engine:
        engine = create_engine(
            "postgresql+psycopg://", creator=self._connect, poolclass=QueuePool, pool_size=pool_size,
            max_overflow=max_overflow, pool_timeout=READER_WAIT_S, use_native_hstore=False,
        )  # fmt: skip
        event.listen(engine, "begin", _begin)
        return engine

    @contextlib.contextmanager
    def _begun(self, engine: Engine, begin: str, tenant: str, then: str = "") -> Iterator[Connection]:
        role = f"SET LOCAL ROLE {self._role}" if self._role else ""
        whose = sql.SQL("SET LOCAL hybridtwin.tenant = {}").format(sql.Literal(tenant)).as_string()
        text = "; ".join(part for part in (begin, role, whose, then) if part)
        with self._translated():
            connection = self._connection(engine, text)
            try:
                with connection:
                    yield connection
                    connection.commit()
            except (psycopg.Error, DBAPIError):
                if not connection.closed and driver(connection).closed:
                    connection.invalidate()
                raise

    def _connection(self, engine: Engine, begin: str) -> Connection:
        """A connection in a transaction; those of the pool that a restart of the server has cut are left behind."""
        for attempt in range(ATTEMPTS_MAX):
            connection = engine.connect().execution_options(begin=begin)
            try:
                connection.begin()
            except psycopg.Error:
                dead = driver(connection).closed
                if dead:
                    connection.invalidate()
                connection.close()
                if not dead or attempt == ATTEMPTS_MAX - 1:
                    raise
            else:
                return connection
        raise AssertionError("the loop returns or raises")

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        options = " ".join(f"-c {name}={value}" for name, value in _OPTIONS.items())
        connection = psycopg.connect(self._url, autocommit=True, options=options, **_DIAL)
        connection.adapters.register_dumper(str, PlainText)
        return connection

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeoutError:
            raise StorageError(
                "LIMIT_EXCEEDED", f"no reader became free within {READER_WAIT_S:g} s", hint="ask less at once"
            ) from None
        except DBAPIError as error:
            raise self._error(error.orig) from error
        except psycopg.Error as error:
            raise self._error(error) from error

    def _error(self, error: BaseException | None) -> TwinError:
        return error_of(error, getattr(self, "place", "the database"))


def driver(connection: Connection) -> psycopg.Connection[tuple[Any, ...]]:
    """The driver's connection of a transaction."""
    found = connection.connection.driver_connection
    if not isinstance(found, psycopg.Connection):
        raise TypeError("not a PostgreSQL connection")
    return found


def place_of(connection: psycopg.Connection[Any]) -> str:
    """Where a connection leads, without the password."""
    info = connection.info
    return f"{info.host}:{info.port}/{info.dbname}"


def _begin(connection: Connection) -> None:
    begin = connection.get_execution_options().get("begin")
    if begin:
        cursor = driver(connection).execute(begin)
        while cursor.nextset():
            pass
        if cursor.description:
            connection.info[_NUMBER] = (cursor.fetchone() or (0,))[0]
