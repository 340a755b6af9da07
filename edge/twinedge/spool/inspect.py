"""Looking into a spool beside a running agent: what it holds and whether it is sound.

It only reads, through a connection of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

from twinedge.spool.catalogues import catalogue_of, digests_of
from twinedge.spool.failure import storage_error
from twinedge.spool.forecast import forecast_of
from twinedge.spool.ledger import Loss, declared_of, losses_of
from twinedge.spool.outgoing import backlog_of
from twinedge.spool.recover import ASIDE
from twinedge.spool.retention import Retention, beside
from twinedge.spool.rows import Lane, Row, RowKind, boots_of, lanes_of
from twinedge.spool.schema import FILE, as_it_is, number, run
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError, MissingError, StorageError, TwinError
from twinmodel.signal import Batch, Catalogue, Stream
from twinsync import block
from twinsync.kept import unpack_kept

_ROWS_PER_READ = 256


def status(state_dir: Path, now_ns: int) -> dict[str, Any]:
    """What the spool of a state directory holds at a wall time, as plain values for people and for JSON.

    Raises:
        MissingError: when there is no spool.
        StorageError: when it cannot be read.
    """
    path = existing(state_dir)
    db = reader(path)
    try:
        run(db, "BEGIN")
        boots, lanes, losses = boots_of(db), lanes_of(db), losses_of(db)
        backlog, forecast = backlog_of(db, lanes), forecast_of(db, lanes)
        return {
            "path": str(path),
            "bytes": Retention(path, beside(path, ASIDE), forecast.disk_max_bytes, "thin").disk_bytes(),
            "disk_max_bytes": forecast.disk_max_bytes,
            "when_full": forecast.when_full,
            "hours_until_full": forecast.hours_until_full,
            "alarm_hours_until_full": forecast.alarm_hours_until_full,
            "bytes_per_hour": {stream.name.lower(): rate for stream, rate in sorted(forecast.bytes_per_hour.items())},
            "boot": boots[-1].id.hex() if boots else "",
            "boots": len(boots),
            "backlog_bytes": backlog.bytes,
            "backlog_samples": backlog.samples,
            "backlog_items": backlog.items,
            "backlog_age_s": 0.0 if backlog.oldest_ns is None else max(0, now_ns - backlog.oldest_ns) / SECOND_NS,
            "kept_items": number(db, "SELECT count(*) FROM items"),
            "lost_samples": sum(line.samples for line in losses),
            "lost": {reason: sum(x.samples for x in losses if x.reason == reason) for reason in _reasons(losses)},
        }
    except (apsw.Error, OSError) as error:
        raise storage_error(error, path) from error
    finally:
        db.close(True)


def verify(state_dir: Path) -> dict[str, Any]:
    """Checks every page, every block, every sequence and every sum of the loss ledger.

    Works beside a running agent: only the sums are read at one moment, blocks a few at a time.

    Raises:
        MissingError: when there is no spool.
        StorageError: STORE_CORRUPT with what was found first.
    """
    path = existing(state_dir)
    db = reader(path)
    try:
        verdict = number(db, "PRAGMA integrity_check(1)")
        if verdict != "ok":
            raise _corrupt(path, verdict)
        run(db, "BEGIN")
        lanes = lanes_of(db)
        _verify_numbers(db, lanes, path)
        _verify_ledger(db, path)
        run(db, "COMMIT")
        items, samples = _verify_items(db, path)
        return {"pages": number(db, "PRAGMA page_count"), "lanes": len(lanes), "items": items, "samples": samples}
    except (apsw.Error, OSError) as error:
        raise storage_error(error, path) from error
    finally:
        db.close(True)


def _verify_numbers(db: apsw.Connection, lanes: list[Lane], path: Path) -> None:
    sql = (
        "SELECT total(last_seq - first_seq + 1), ifnull(min(first_seq), ?) FROM items"
        " WHERE boot = ? AND stream = ? AND last_seq >= ?"
    )
    for lane in lanes:
        held, first = run(db, sql, (lane.next_seq, lane.boot, lane.stream, lane.acked_seq))[0]
        if first > lane.acked_seq or held != lane.next_seq - first:
            where = f"boot {lane.boot}, stream {Stream(lane.stream).name.lower()}"
            raise _corrupt(path, f"{where}: a number has no item")


def _verify_ledger(db: apsw.Connection, path: Path) -> None:
    declared = declared_of(db)
    for line in losses_of(db):
        found = declared.pop((line.boot, line.stream, line.reason), 0) + line.settled
        if found != line.samples:
            where = f"ledger of {line.stream.name.lower()}, {line.reason}"
            raise _corrupt(path, f"{where}: {line.samples} samples, items declare {found}")
    if any(declared.values()):
        raise _corrupt(path, "a gap that the ledger lacks")


def _verify_items(db: apsw.Connection, path: Path) -> tuple[int, int]:
    items = samples = last = 0
    while True:
        rows = [
            Row(*v) for v in run(db, "SELECT * FROM held WHERE row > ? ORDER BY row LIMIT ?", (last, _ROWS_PER_READ))
        ]
        if not rows:
            return items, samples
        catalogues = {n: catalogue_of(db, digest) for n, digest in digests_of(db).items()}
        for row in rows:
            items += 1
            try:
                if not row.intact:
                    raise InputError("BLOCK_CORRUPT", "its checksum is another")
                if row.kind in {RowKind.BLOCK, RowKind.THINNED}:
                    samples += sum(map(len, batches_of(row, catalogues.get(row.catalogue))))
            except TwinError as error:
                raise _corrupt(path, f"item {row.row}: {error}") from error
        last = rows[-1].row


def batches_of(row: Row, catalogue: Catalogue | None) -> list[Batch]:
    """Samples of a block; raises InputError BLOCK_CORRUPT."""
    if catalogue is None:
        raise InputError("BLOCK_CORRUPT", "its catalogue is gone")
    kept, payload = row.block
    if kept and int(unpack_kept(kept, row.count).sum()) != row.kept:
        raise InputError("BLOCK_CORRUPT", "its mask keeps another number of samples")
    found = block.decode(payload, catalogue)
    if sum(map(len, found)) != row.samples:
        raise InputError("BLOCK_CORRUPT", "it holds another number of samples")
    return found


def _corrupt(path: Path, what: str) -> StorageError:
    return StorageError("STORE_CORRUPT", f"{path}: {what}", path=str(path))


def _reasons(losses: list[Loss]) -> list[str]:
    return sorted({line.reason for line in losses})


def existing(state_dir: Path) -> Path:
    """The spool's file; raises MissingError NOT_FOUND."""
    path = state_dir / FILE
    if not path.exists():
        raise MissingError("NOT_FOUND", f"{path} does not exist", hint="give the agent's state directory with --state")
    return path


def reader(path: Path) -> apsw.Connection:
    """A connection that cannot write, on a disk that takes nothing, too; raises StorageError."""
    try:
        return _reader(path)
    except apsw.Error as error:
        db = as_it_is(path) if isinstance(error, apsw.CantOpenError | apsw.IOError) else None
        if db is None:
            raise storage_error(error, path) from error
        return db


def _reader(path: Path) -> apsw.Connection:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        db.set_busy_timeout(5000)
        run(db, "SELECT count(*) FROM held")
    except apsw.Error:
        db.close(True)
        raise
    return db
