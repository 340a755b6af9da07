"""Stores with a row per sample: SQLite, PostgreSQL by ON CONFLICT and by COPY, DuckDB; and what they are asked."""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import psycopg
from numpy.typing import NDArray

from bench.coordinator.engines import Postgres

_COLUMNS = "gateway INTEGER, signal INTEGER, t_ns BIGINT, value DOUBLE PRECISION, quality SMALLINT"
_TABLE = f"CREATE TABLE samples({_COLUMNS}, PRIMARY KEY (gateway, signal, t_ns))"
DAY_OF_POINT = "SELECT t_ns, value, quality FROM samples WHERE gateway = 0 AND signal = 0 ORDER BY t_ns"
LAST = "SELECT gateway, signal, t_ns, value, quality FROM last"


class Rows(NamedTuple):
    """Samples as columns."""

    gateway: NDArray[np.int64]
    signal: NDArray[np.int64]
    t_ns: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.int64]

    def tuples(self) -> list[tuple[Any, ...]]:
        """One tuple a sample."""
        return list(zip(*(column.tolist() for column in self), strict=True))


class Peer(Protocol):
    """A store with a row per sample."""

    def put(self, rows: Rows) -> None:
        """Stores rows durably, those that are there already once."""
        ...

    def ask(self, text: str) -> list[Any]:
        """The rows of a query."""
        ...

    def keep_last(self) -> None:
        """Makes a table of the newest sample of every point."""
        ...

    def bytes(self) -> int:
        """What it takes on the disk."""
        ...

    def close(self) -> None:
        """Ends it."""
        ...


_LAST = (
    "CREATE TABLE last AS SELECT gateway, signal, t_ns, value, quality FROM samples s"
    " WHERE t_ns = (SELECT MAX(t_ns) FROM samples n WHERE n.gateway = s.gateway AND n.signal = s.signal)"
)


class SqliteRows:
    """See `Peer`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "rows.db"
        self._db = sqlite3.connect(self._path, isolation_level=None)
        for text in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", _TABLE + " WITHOUT ROWID"):
            self._db.execute(text)

    def put(self, rows: Rows) -> None:
        """See `Peer.put`."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT INTO samples VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", rows.tuples())
        self._db.execute("COMMIT")

    def ask(self, text: str) -> list[Any]:
        """See `Peer.ask`."""
        return self._db.execute(text).fetchall()

    def keep_last(self) -> None:
        """See `Peer.keep_last`."""
        self._db.execute(_LAST)

    def bytes(self) -> int:
        """See `Peer.bytes`."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return self._path.stat().st_size

    def close(self) -> None:
        """See `Peer.close`."""
        self._db.close()


class PostgresRows:
    """See `Peer`; one statement a transaction, the columns as arrays."""

    _PUT = "INSERT INTO samples SELECT * FROM unnest(%b::int[], %b::int[], %b::bigint[], %b::float8[], %b::smallint[]) ON CONFLICT DO NOTHING"  # noqa: E501

    def __init__(self, server: Postgres) -> None:
        self.db = psycopg.connect(server.database(), autocommit=True)
        self.db.execute(_TABLE)

    def put(self, rows: Rows) -> None:
        """See `Peer.put`."""
        self.db.execute(self._PUT, [column.tolist() for column in rows])

    def ask(self, text: str) -> list[Any]:
        """See `Peer.ask`."""
        with self.db.cursor(binary=True) as cursor:
            return cursor.execute(text).fetchall()

    def keep_last(self) -> None:
        """See `Peer.keep_last`."""
        self.db.execute(_LAST)

    def bytes(self) -> int:
        """See `Peer.bytes`."""
        row = self.db.execute("SELECT pg_total_relation_size('samples')").fetchone()
        assert row is not None
        return int(row[0])

    def close(self) -> None:
        """See `Peer.close`."""
        self.db.close()


class PostgresCopy(PostgresRows):
    """By COPY, the fastest way into a table, which stores what comes twice twice: it has no key."""

    def __init__(self, server: Postgres) -> None:
        super().__init__(server)
        self.db.execute("ALTER TABLE samples DROP CONSTRAINT samples_pkey")

    def put(self, rows: Rows) -> None:
        """See `Peer.put`."""
        with self.db.cursor() as cursor, cursor.copy("COPY samples FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "int4", "int8", "float8", "int2"])
            for row in rows.tuples():
                copy.write_row(row)


class DuckRows:
    """See `Peer`; columns by way of Arrow."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "rows.duckdb"
        self._db: Any = importlib.import_module("duckdb").connect(str(self._path))
        self._arrow: Any = importlib.import_module("pyarrow")
        self._db.execute(_TABLE)

    def put(self, rows: Rows) -> None:
        """See `Peer.put`."""
        self._db.register("fresh", self._arrow.table({name: getattr(rows, name) for name in rows._fields}))
        self._db.execute("INSERT INTO samples SELECT * FROM fresh ON CONFLICT DO NOTHING")

    def ask(self, text: str) -> list[Any]:
        """See `Peer.ask`; columns, as DuckDB likes to give them."""
        return list(self._db.execute(text).fetchnumpy().values())

    def keep_last(self) -> None:
        """See `Peer.keep_last`."""
        self._db.execute(_LAST)

    def bytes(self) -> int:
        """See `Peer.bytes`."""
        self._db.execute("CHECKPOINT")
        return self._path.stat().st_size

    def close(self) -> None:
        """See `Peer.close`."""
        self._db.close()


def peers(folder: Path, server: Postgres | None) -> dict[str, Peer | None]:
    """All that can be had here, None for what is not installed."""
    folder.mkdir()
    found: dict[str, Peer | None] = {"rows_sqlite": SqliteRows(folder)}
    found["rows_pg"] = PostgresRows(server) if server is not None else None
    found["copy_pg"] = PostgresCopy(server) if server is not None else None
    found["rows_duckdb"] = _installed(lambda: DuckRows(folder))
    return found


def _installed(make: Callable[[], Peer]) -> Peer | None:
    try:
        return make()
    except ImportError:
        return None
