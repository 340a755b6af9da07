"""Tables of the spool's file, and the one way to open a connection to it.

WAL with `synchronous` FULL: a commit is on the disk before it returns. One connection writes and alone checkpoints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw

from twinmodel.errors import StorageError

FILE = "spool.db"
PAGE_BYTES = 4096
WAL_FRAME_BYTES = PAGE_BYTES + 24
# Twice the same half: a damaged version is told from a newer one.
_VERSION = 0x0002_0002
_FULL = 2
BUSY_MS = 5000
_CACHE_KIB = 4096

# The first sequence number not acknowledged is kept per lane, so that an acknowledgement is one small write and
# taking it back is another. A seal is the checksum of a row's numbers: SQLite finds broken pages, not flipped bits.
# `handed_seq` bounds what may have left this machine: an item below it keeps its extent. `kept` and `level` belong to
# thinned blocks. `settled` is the part of a loss that the coordinator has committed and that is pruned here.
_TABLES = """
CREATE TABLE boots(
    counter INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, previous BLOB NOT NULL,
    started_ns INTEGER NOT NULL, clock INTEGER NOT NULL, seal INTEGER NOT NULL) STRICT;
CREATE TABLE lanes(
    boot INTEGER NOT NULL, stream INTEGER NOT NULL, next_seq INTEGER NOT NULL, acked_seq INTEGER NOT NULL,
    handed_seq INTEGER NOT NULL, at_ns INTEGER NOT NULL, seal INTEGER NOT NULL,
    PRIMARY KEY(boot, stream)) STRICT, WITHOUT ROWID;
CREATE TABLE items(
    row INTEGER PRIMARY KEY AUTOINCREMENT, boot INTEGER NOT NULL, stream INTEGER NOT NULL,
    first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, kind INTEGER NOT NULL,
    from_ns INTEGER NOT NULL, to_ns INTEGER NOT NULL, catalogue INTEGER NOT NULL, crc32c INTEGER NOT NULL,
    size INTEGER NOT NULL, seal INTEGER NOT NULL, at_ns INTEGER NOT NULL, kept INTEGER NOT NULL DEFAULT 0,
    level INTEGER NOT NULL DEFAULT 0, payload BLOB NOT NULL) STRICT;
CREATE INDEX items_order ON items(boot, stream, first_seq, last_seq, kind, size, at_ns);
CREATE INDEX items_thinned ON items(boot, stream, first_seq, last_seq, kept) WHERE kind = 4;
CREATE TABLE catalogues(
    number INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL UNIQUE, packed BLOB NOT NULL) STRICT;
CREATE TABLE ledger(
    boot BLOB NOT NULL, stream INTEGER NOT NULL, reason TEXT NOT NULL, samples INTEGER NOT NULL,
    from_ns INTEGER NOT NULL, to_ns INTEGER NOT NULL, at_ns INTEGER NOT NULL, settled INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY(boot, stream, reason)) STRICT, WITHOUT ROWID;
CREATE TABLE settings(name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""
# Rows in the order of their class, whatever the table's version; what gaps and thinned blocks declare. A gap's payload
# is its reason in MessagePack, a list of one string.
_VIEWS = """
CREATE VIEW held AS SELECT row, boot, stream, first_seq, last_seq, kind, from_ns, to_ns, catalogue, crc32c, size, seal,
    payload, at_ns, kept, level FROM items;
CREATE VIEW declared(row, boot, stream, reason, samples) AS
    SELECT row, boot, stream, CAST(substr(payload, iif(substr(payload, 2, 1) = x'd9', 4, 3)) AS TEXT),
        last_seq - first_seq + 1 FROM items WHERE kind = 1
    UNION ALL SELECT row, boot, stream, 'THINNED', last_seq - first_seq + 1 - kept FROM items WHERE kind = 4;
"""
# From the first version: nothing of a large file is rewritten, so that the budget holds meanwhile.
_SECOND = """
DROP TABLE IF EXISTS directives;
ALTER TABLE items ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
ALTER TABLE items ADD COLUMN level INTEGER NOT NULL DEFAULT 0;
CREATE INDEX items_thinned ON items(boot, stream, first_seq, last_seq, kept) WHERE kind = 4;
ALTER TABLE ledger ADD COLUMN settled INTEGER NOT NULL DEFAULT 0;
"""
_SETTLE = (
    "UPDATE ledger SET settled = max(0, samples - (SELECT ifnull(sum(samples), 0) FROM declared WHERE declared.boot ="
    " (SELECT counter FROM boots WHERE id = ledger.boot) AND declared.stream = ledger.stream"
    " AND declared.reason = ledger.reason))"
)


def connect(path: Path, *, vfs: str | None = None) -> apsw.Connection:
    """Opens the file, makes its tables when they are missing, and proves that commits are durable.

    Raises:
        apsw.Error: what SQLite says.
        StorageError: STORE_SYNC_FAILED when this SQLite does not sync, STATE_INVALID for a newer file.
    """
    db = apsw.Connection(str(path), vfs=vfs)
    try:
        _prepare(db, path, vfs)
    except (apsw.CantOpenError, apsw.IOError):
        db.close(True)
        found = as_it_is(path) if vfs is None else None
        if found is None:
            raise
        return found
    except BaseException:
        db.close(True)
        raise
    return db


def _prepare(db: apsw.Connection, path: Path, vfs: str | None) -> None:
    db.set_busy_timeout(BUSY_MS)
    if vfs is not None:
        # A layer above the file system has no shared memory; one process alone needs none.
        run(db, "PRAGMA locking_mode=EXCLUSIVE")
    if number(db, "PRAGMA page_count") == 0:
        # Both must come before the first table; on an existing file the second would be a write.
        run(db, f"PRAGMA page_size={PAGE_BYTES}")
        run(db, "PRAGMA auto_vacuum=INCREMENTAL")
    run(db, "PRAGMA journal_mode=WAL")
    run(db, "PRAGMA synchronous=FULL")
    run(db, "PRAGMA wal_autocheckpoint=0")
    run(db, f"PRAGMA cache_size=-{_CACHE_KIB}")
    run(db, "PRAGMA trusted_schema=OFF")
    _check_durable(db, path)
    _make_tables(db, path)


def as_it_is(path: Path) -> apsw.Connection | None:
    """The file opened only to be read, where its disk has no place for a log and there is none; None otherwise.

    A writer would have a log, so that nothing changes under this connection.
    """
    wal = path.with_name(path.name + "-wal")
    try:
        if (wal.exists() and wal.stat().st_size) or not path.stat().st_size:
            return None
        uri = f"file:{quote(str(path.absolute()))}?immutable=1"
        db = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    except (apsw.Error, OSError):
        return None
    if number(db, "PRAGMA user_version") != _VERSION:
        db.close(True)
        return None
    return db


def run(db: apsw.Connection, sql: str, values: tuple[apsw.SQLiteValue, ...] = ()) -> list[tuple[Any, ...]]:
    """Runs statements to their end and returns all rows: a statement left half way frees or checkpoints half."""
    return list(db.execute(sql, values))


def number(db: apsw.Connection, sql: str, values: tuple[apsw.SQLiteValue, ...] = ()) -> Any:
    """The one value a query gives, None when there is no row."""
    rows = run(db, sql, values)
    return rows[0][0] if rows else None


def _check_durable(db: apsw.Connection, path: Path) -> None:
    if number(db, "PRAGMA synchronous") < _FULL:
        raise StorageError("STORE_SYNC_FAILED", f"{path}: this SQLite does not sync its commits")
    if number(db, "PRAGMA journal_mode") != "wal":
        raise StorageError("STORE_SYNC_FAILED", f"{path}: the file system does not take a write-ahead log")


def _make_tables(db: apsw.Connection, path: Path) -> None:
    version = number(db, "PRAGMA user_version")
    if version == _VERSION:
        return
    if version & 0xFFFF != version >> 16:
        raise apsw.CorruptError(f"user_version {version:#x}")
    if version > _VERSION:
        raise StorageError(
            "STATE_INVALID", f"{path}: made by a newer version ({version & 0xFFFF})", hint="upgrade this agent"
        )
    with db:
        run(db, _SECOND if version else _TABLES)
        run(db, _VIEWS)
        if version:
            # What no item here declares any more was committed and pruned.
            run(db, _SETTLE)
        run(db, f"PRAGMA user_version={_VERSION}")
