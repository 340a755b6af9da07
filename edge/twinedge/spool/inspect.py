"""Looking into a spool beside a running agent: what it holds, all of it as a file, and whether it is sound.

It only reads, through a connection of its own or, for the export, a copy that SQLite makes while the agent writes on.
"""

from __future__ import annotations

import csv
import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

from twinedge.spool.catalogues import catalogue_of, digests_of
from twinedge.spool.failure import storage_error
from twinedge.spool.ledger import losses_of
from twinedge.spool.outgoing import backlog_of
from twinedge.spool.rows import Row, RowKind, boots_of, lanes_of
from twinedge.spool.schema import FILE, number, run
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError, MissingError, StorageError, TwinError
from twinmodel.quality import describe
from twinmodel.signal import Catalogue, Stream
from twinsync import block

COLUMNS = ("boot", "stream", "seq", "signal", "t_ns", "value", "quality")
_COPY_PAGES = 256


def status(state_dir: Path, now_ns: int) -> dict[str, Any]:
    """What the spool of a state directory holds at a wall time, as plain values for people and for JSON.

    Raises:
        MissingError: when there is no spool.
        StorageError: when it cannot be read.
    """
    path = _existing(state_dir)
    db = _reader(path)
    try:
        boots, backlog, losses = boots_of(db), backlog_of(db), losses_of(db)
        wal = path.with_name(path.name + "-wal")
        return {
            "path": str(path),
            "bytes": path.stat().st_size + (wal.stat().st_size if wal.exists() else 0),
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


def export(state_dir: Path, to: Path) -> int:
    """Writes every sample still held, sent or not, to a `.csv` or `.jsonl` file; returns how many.

    Raises:
        InputError: VALUE_INVALID for another suffix.
        MissingError: when there is no spool.
        StorageError: when it cannot be read or the file cannot be written.
    """
    if to.suffix not in {".csv", ".jsonl"}:
        raise InputError("VALUE_INVALID", f"{to} ends neither in .csv nor in .jsonl")
    path = _existing(state_dir)
    try:
        with tempfile.TemporaryDirectory(dir=to.parent) as folder:
            copy = Path(folder) / FILE
            _copy(path, copy)
            with to.open("w", newline="", encoding="utf-8") as file:
                table = csv.writer(file)
                if to.suffix == ".csv":
                    table.writerow(COLUMNS)
                count = 0
                for sample in _samples(copy):
                    if to.suffix == ".csv":
                        table.writerow(sample)
                    else:
                        file.write(json.dumps(dict(zip(COLUMNS, map(_jsonable, sample), strict=True))) + "\n")
                    count += 1
            return count
    except (apsw.Error, OSError) as error:
        raise storage_error(error, path) from error


def verify(state_dir: Path) -> dict[str, Any]:
    """Checks every page, every block and every sequence.

    Raises:
        MissingError: when there is no spool.
        StorageError: STORE_CORRUPT with what was found first.
    """
    path = _existing(state_dir)
    db = _reader(path)
    try:
        run(db, "BEGIN")
        verdict = number(db, "PRAGMA integrity_check(1)")
        if verdict != "ok":
            raise StorageError("STORE_CORRUPT", f"{path}: {verdict}", path=str(path))
        lanes = lanes_of(db)
        items, samples = _verify_items(db, path)
        for lane in lanes:
            sql = (
                "SELECT total(last_seq - first_seq + 1), ifnull(min(first_seq), ?) FROM items"
                " WHERE boot = ? AND stream = ? AND last_seq >= ?"
            )
            held, first = run(db, sql, (lane.next_seq, lane.boot, lane.stream, lane.acked_seq))[0]
            if first > lane.acked_seq or held != lane.next_seq - first:
                where = f"boot {lane.boot}, stream {Stream(lane.stream).name.lower()}"
                raise StorageError("STORE_CORRUPT", f"{path}: {where}: a number has no item", path=str(path))
        return {"pages": number(db, "PRAGMA page_count"), "lanes": len(lanes), "items": items, "samples": samples}
    except (apsw.Error, OSError) as error:
        raise storage_error(error, path) from error
    finally:
        db.close(True)


def _verify_items(db: apsw.Connection, path: Path) -> tuple[int, int]:
    catalogues = {number: catalogue_of(db, digest) for number, digest in digests_of(db).items()}
    items = samples = 0
    for values in db.execute("SELECT * FROM items ORDER BY row"):
        row = Row(*values)
        items += 1
        try:
            if not row.intact:
                raise InputError("BLOCK_CORRUPT", "its checksum is another")
            samples += sum(map(len, _batches(row, catalogues[row.catalogue]))) if row.kind == RowKind.BLOCK else 0
        except (TwinError, KeyError) as error:
            raise StorageError("STORE_CORRUPT", f"{path}: item {row.row}: {error}", path=str(path)) from error
    return items, samples


def _batches(row: Row, catalogue: Catalogue | None) -> list[Any]:
    if catalogue is None:
        raise InputError("BLOCK_CORRUPT", "its catalogue is gone")
    found = block.decode(row.payload, catalogue)
    if sum(map(len, found)) != row.last_seq - row.first_seq + 1:
        raise InputError("BLOCK_CORRUPT", "it holds another number of samples")
    return found


def _samples(copy: Path) -> Iterator[tuple[Any, ...]]:
    """Samples of a copy by stream, boot and number; items that cannot be read are left out."""
    import sqlite_utils  # noqa: PLC0415 - 27 MB that only an export pays for

    reader = _reader(copy)
    try:
        boots = {boot.counter: boot.id.hex() for boot in boots_of(reader)}
        catalogues = {number: catalogue_of(reader, digest) for number, digest in digests_of(reader).items()}
    finally:
        reader.close(True)
    db = sqlite_utils.Database(copy)
    try:
        where = "kind = :block"
        rows = db["items"].rows_where(where, {"block": int(RowKind.BLOCK)}, order_by="stream, boot, first_seq")
        for values in rows:
            row = Row(*values.values())
            catalogue = catalogues.get(row.catalogue)
            if catalogue is None or not row.intact:
                continue
            seq = row.first_seq
            for batch in _batches(row, catalogue):
                columns = (batch.signal, batch.t_ns, batch.value, batch.quality)
                for signal, t_ns, value, quality in zip(*(c.tolist() for c in columns), strict=True):
                    name = catalogue.signals[signal].name
                    stream = Stream(row.stream).name.lower()
                    yield boots[row.boot], stream, seq, name, t_ns, value, describe(quality)
                    seq += 1
    finally:
        db.close()


def _jsonable(value: object) -> object:
    # JSON has no NaN; the quality beside it says that there is no value.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _reasons(losses: list[Any]) -> list[str]:
    return sorted({line.reason for line in losses})


def _existing(state_dir: Path) -> Path:
    path = state_dir / FILE
    if not path.exists():
        raise MissingError("NOT_FOUND", f"{path} does not exist", hint="give the agent's state directory with --state")
    return path


def _reader(path: Path) -> apsw.Connection:
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        db.set_busy_timeout(5000)
        run(db, "SELECT count(*) FROM boots")
    except apsw.Error as error:
        raise storage_error(error, path) from error
    return db


def _copy(path: Path, copy: Path) -> None:
    source, target = _reader(path), apsw.Connection(str(copy))
    try:
        with target.backup("main", source, "main") as backup:
            while not backup.done:
                backup.step(_COPY_PAGES)
        # The copy is read by another library: it must not need a log of its own.
        run(target, "PRAGMA journal_mode=DELETE")
    finally:
        target.close(True)
        source.close(True)
