"""Opening a spool whatever its bytes look like: a damaged file is set aside, what can be read moves to a new one.

Every number that was given and whose item cannot be read is declared by a gap STORE_CORRUPT. Starting is never refused
for damage, and it takes a bounded number of reads. The new file is built beside and renamed: a crash repeats the work.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import apsw
import structlog

from twinedge.spool.catalogues import damaged_catalogues, is_sound
from twinedge.spool.debris import opened, readable, readable_rows
from twinedge.spool.failure import storage_error
from twinedge.spool.gaps import drop_overlaps, put_gap
from twinedge.spool.ledger import count_loss, recount
from twinedge.spool.rows import (
    Lane,
    Row,
    RowKind,
    boots_of,
    fresh_lane,
    insert_boot,
    insert_row,
    lanes_of,
    reason_of,
    set_gap,
    set_lane,
    sound_boots,
    sound_lanes,
)
from twinedge.spool.schema import connect, number, run
from twinmodel.signal import Stream
from twinsync.item import Boot, Gap

ASIDE = ".damaged"
_CHECK_BYTES_MAX = 64 << 20
_CHECKPOINT_PAGES = 512
# What SQLite says when the machine, not the file, is the cause.
_MACHINE = (apsw.FullError, apsw.ReadOnlyError, apsw.BusyError, apsw.LockedError, apsw.CantOpenError, apsw.NoMemError)
# Of what two versions may have, the newer comes first.
_PLAIN_TABLES = (
    (
        (
            "SELECT boot, stream, reason, samples, from_ns, to_ns, at_ns, settled FROM ledger",
            "INSERT OR IGNORE INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        ),
        (
            "SELECT boot, stream, reason, samples, from_ns, to_ns, at_ns FROM ledger",
            "INSERT OR IGNORE INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
        ),
    ),
    (("SELECT name, value FROM settings", "INSERT OR IGNORE INTO settings VALUES (?, ?)"),),
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Salvage:
    """What was saved from a damaged file.

    Attributes:
        aside: where the damaged file lies now.
        cause: what was wrong with it.
        items: items that moved to the new file.
        lost: sequence numbers declared as gaps.
        since_ns: from when on boots may have had more than was found, without a number to declare; None when the
            numbers of every lane could be read.
    """

    aside: Path
    cause: str
    items: int
    lost: int
    since_ns: int | None = None


def open_sound(
    path: Path, chain: list[Boot], now_ns: int, *, held: int = 0, damaged: bool = False, vfs: str | None = None
) -> tuple[apsw.Connection, Salvage | None]:
    """Opens the spool's file, or a new one with what could be read from a damaged one.

    Args:
        path: the database file.
        chain: the boots this disk is known to have had; they win over damaged ones.
        now_ns: wall clock, for the records of loss.
        held: counter of the oldest boot that may hold anything unacknowledged.
        damaged: whether reading it has already failed: what a quick look finds sound may still be damaged.
        vfs: name of the SQLite file system layer.

    Raises:
        StorageError: when the disk refuses, or the file is of a newer version.
    """
    aside = path.with_name(path.name + ASIDE)
    try:
        if damaged and path.exists():
            cause = "a read failed"
        elif path.exists() or not aside.exists():
            try:
                return _open_checked(path, vfs), None
            except apsw.Error as error:
                if not _is_damage(error):
                    raise
                cause = str(error)
        else:
            cause = "an earlier salvage was interrupted"
        _set_aside(path, aside)
        salvage = _salvage(path, aside, cause, chain, now_ns, held)
        db = connect(path, vfs=vfs)
    except (apsw.Error, OSError) as error:
        raise storage_error(error, path) from error
    log.warning("spool.damaged", path=str(path), aside=str(aside), cause=cause, items=salvage.items, lost=salvage.lost)
    return db, salvage


def reconcile(db: apsw.Connection, boot: Boot, promised: Mapping[Stream, int], now_ns: int) -> None:
    """Makes a file that was opened anew agree with what the running boot has promised.

    A transaction whose commit failed may have arrived: it is undone, its caller tries again. What was promised and is
    gone is declared.

    Args:
        db: the file, in a transaction.
        boot: the running boot.
        promised: first number not given yet, by stream.
        now_ns: wall clock.
    """
    if boot.id not in {one.id for one in boots_of(db)}:
        insert_boot(db, boot)
    lanes = {Stream(lane.stream): lane for lane in lanes_of(db) if lane.boot == boot.counter}
    undone = 0
    for stream in {*lanes, *promised}:
        lane = lanes.get(stream) or fresh_lane(boot, stream, now_ns)
        next_seq = promised.get(stream, 0)
        undo = "DELETE FROM items WHERE boot = ? AND stream = ? AND first_seq >= ?"
        before = db.total_changes()
        run(db, undo, (lane.boot, lane.stream, next_seq))
        _shrink(db, lane, next_seq)
        undone += db.total_changes() - before
        lane = replace(lane, next_seq=next_seq, acked_seq=min(lane.acked_seq, next_seq))
        set_lane(db, lane)
        fill_holes(db, lane, boot.id, "STORE_CORRUPT", now_ns)
    if undone:
        recount(db)


def _shrink(db: apsw.Connection, lane: Lane, next_seq: int) -> None:
    """Takes back what a gap grew by in a commit that failed and yet arrived."""
    sql = (
        "SELECT row, first_seq, from_ns, to_ns, payload FROM items WHERE boot = ? AND stream = ? AND kind = ?"
        " AND first_seq < ? AND last_seq >= ?"
    )
    grown = (lane.boot, lane.stream, int(RowKind.GAP), next_seq, next_seq)
    for row, first_seq, from_ns, to_ns, payload in run(db, sql, grown):
        gap = Gap(reason_of(payload), next_seq - first_seq, from_ns, to_ns)
        set_gap(db, row, lane, first_seq, next_seq - 1, gap)


def fill_holes(db: apsw.Connection, lane: Lane, boot: bytes, reason: str, now_ns: int) -> int:
    """Declares every unacknowledged number of a lane that no item occupies; returns how many."""
    lost = 0
    expected = lane.acked_seq
    sql = (
        "SELECT first_seq, last_seq, from_ns FROM items WHERE boot = ? AND stream = ? AND last_seq >= ?"
        " ORDER BY first_seq"
    )
    found = run(db, sql, (lane.boot, lane.stream, lane.acked_seq))
    for first_seq, last_seq, from_ns in [*found, (lane.next_seq, lane.next_seq, 0)]:
        if first_seq > expected:
            gap = Gap(reason, first_seq - expected, from_ns, from_ns)
            put_gap(db, lane, expected, first_seq - 1, gap, now_ns)
            count_loss(db, boot, lane.stream, gap, now_ns)
            lost += gap.count
        expected = max(expected, last_seq + 1)
    return lost


def _open_checked(path: Path, vfs: str | None) -> apsw.Connection:
    db = connect(path, vfs=vfs)
    try:
        _check(db)
    except BaseException:
        db.close(True)
        raise
    return db


def _check(db: apsw.Connection) -> None:
    if number(db, "PRAGMA page_count") * number(db, "PRAGMA page_size") <= _CHECK_BYTES_MAX:
        verdict = number(db, "PRAGMA quick_check(1)")
        if verdict != "ok":
            raise apsw.CorruptError(f"quick_check: {verdict}")
    boots = {boot.counter for boot in boots_of(db)}
    for lane in lanes_of(db):
        _check_lane(db, lane, boots)
    if damaged_catalogues(db):
        raise apsw.CorruptError("a catalogue is damaged")


def _check_lane(db: apsw.Connection, lane: Lane, boots: set[int]) -> None:
    if lane.boot not in boots:
        raise apsw.CorruptError(f"lane {lane.boot}/{lane.stream} has no boot")
    sql = (
        "SELECT min(first_seq), max(last_seq), sum(last_seq - first_seq + 1) FROM items"
        " WHERE boot = ? AND stream = ? AND last_seq >= ?"
    )
    first, last, count = run(db, sql, (lane.boot, lane.stream, lane.acked_seq))[0]
    if lane.acked_seq == lane.next_seq and first is None:
        return
    if first is None or first > lane.acked_seq or last != lane.next_seq - 1 or count != lane.next_seq - first:
        raise apsw.CorruptError(f"lane {lane.boot}/{lane.stream} has holes")


def _is_damage(error: apsw.Error) -> bool:
    if isinstance(error, apsw.IOError):
        # Absent where a file system layer in Python raised it.
        extended: int = getattr(error, "extendedresult", 0)
        return extended == int(apsw.SQLITE_IOERR_SHORT_READ)
    return not isinstance(error, _MACHINE)


def _set_aside(path: Path, aside: Path) -> None:
    """Renames the database and its log; only the newest damaged file is kept, the disk is bounded."""
    wal, aside_wal = (p.with_name(p.name + "-wal") for p in (path, aside))
    if path.exists():
        aside.unlink(missing_ok=True)
        aside_wal.unlink(missing_ok=True)
        # The database goes first: were it to stay without its log, it would look sound and lack commits.
        path.rename(aside)
    if wal.exists():
        wal.rename(aside_wal)
    for leftover in (path, aside):
        leftover.with_name(leftover.name + "-shm").unlink(missing_ok=True)


def _salvage(path: Path, aside: Path, cause: str, chain: list[Boot], now_ns: int, held: int) -> Salvage:
    part = path.with_name(path.name + ".part")
    for suffix in ("", "-wal", "-shm"):
        part.with_name(part.name + suffix).unlink(missing_ok=True)
    db = connect(part)
    try:
        # Nothing counts before the file is renamed, and it is synced before.
        run(db, "PRAGMA synchronous=OFF")
        run(db, f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
        boots = {boot.counter: boot for boot in chain}
        lanes: list[Lane] = []
        items, whole = 0, False
        old = opened(aside)
        if old is not None:
            for boot in readable(lambda: sound_boots(old)):
                boots.setdefault(boot.counter, boot)
            lanes = readable(lambda: sound_lanes(old))
            whole = bool(lanes) and len(readable(lambda: lanes_of(old))) == len(lanes)
            known = _copy_catalogues(old, db)
            for versions in _PLAIN_TABLES:
                _copy_plain(old, db, versions)
            items = _copy_items(old, db, set(boots), known)
            old.close(True)
        with db:
            ids = set()
            for boot in sorted(boots.values(), key=lambda one: one.counter):
                if boot.id not in ids:
                    insert_boot(db, boot)
                ids.add(boot.id)
            lost = _settle_lanes(db, lanes, boots, now_ns)
            recount(db)
        run(db, "PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        db.close(True)
    _sync(part)
    part.rename(path)
    _sync(path.parent)
    since_ns = min((boot.started_ns for boot in boots.values() if boot.counter >= held), default=None)
    return Salvage(aside, cause, items, lost, None if whole else since_ns)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _copy_catalogues(old: apsw.Connection, db: apsw.Connection) -> set[int]:
    known = set()
    with db:
        for row in readable(lambda: run(old, "SELECT number, digest, packed FROM catalogues")):
            if type(row[0]) is int and is_sound(row[1], row[2]):
                run(db, "INSERT OR IGNORE INTO catalogues(number, digest, packed) VALUES (?, ?, ?)", row)
                known.add(row[0])
    return known


def _copy_plain(old: apsw.Connection, db: apsw.Connection, versions: tuple[tuple[str, str], ...]) -> None:
    for select, into in versions:
        rows = readable(partial(run, old, select))
        for row in rows:
            # A row whose values are of the wrong type is left out, the others still go over.
            readable(partial(run, db, into, row))
        if rows:
            return


def _copy_items(old: apsw.Connection, db: apsw.Connection, boots: set[int], catalogues: set[int]) -> int:
    seen: set[int] = set()
    for rows in readable_rows(old):
        with db:
            for row in rows:
                fits = row.boot in boots and row.stream in Stream._value2member_map_
                refers = row.catalogue == 0 or row.catalogue in catalogues
                if row.row not in seen and row.intact and fits and refers and readable(partial(_moved, db, row)):
                    seen.add(row.row)
    return len(seen)


def _moved(db: apsw.Connection, row: Row) -> list[Row]:
    """Moves a row; the caller passes over one that the new file does not take."""
    insert_row(db, row)
    return [row]


def _settle_lanes(db: apsw.Connection, lanes: list[Lane], boots: dict[int, Boot], now_ns: int) -> int:
    """Gives every lane its numbers again and declares what is missing; returns how many numbers are."""
    by_key = {(lane.boot, lane.stream): lane for lane in lanes if lane.boot in boots}
    sql = "SELECT boot, stream, min(first_seq), max(last_seq), max(at_ns) FROM items GROUP BY boot, stream"
    for boot, stream, first_seq, last_seq, at_ns in run(db, sql):
        lane = by_key.get((boot, stream)) or Lane(boot, stream, 0, first_seq, last_seq + 1, at_ns)
        by_key[boot, stream] = replace(lane, next_seq=max(lane.next_seq, last_seq + 1))
    lost = 0
    for lane in by_key.values():
        set_lane(db, lane)
        drop_overlaps(db, lane)
        lost += fill_holes(db, lane, boots[lane.boot].id, "STORE_CORRUPT", now_ns)
    return lost
