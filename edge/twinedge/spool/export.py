"""All that a spool holds as one file for people and their tools: samples and declared holes, beside a running agent.

    FILE.csv, FILE.jsonl   a line each
    FILE.db                a SQLite file with the tables `samples` and `holes`

It reads a copy that SQLite makes while the agent writes on.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import apsw

from twinedge.spool.catalogues import catalogue_of, digests_of
from twinedge.spool.failure import storage_error
from twinedge.spool.inspect import batches_of, existing, reader
from twinedge.spool.ledger import THINNED
from twinedge.spool.rows import Row, RowKind, boots_of, item_of
from twinedge.spool.schema import FILE, run
from twinmodel.errors import ConflictError, InputError
from twinmodel.quality import describe
from twinmodel.signal import Catalogue
from twinsync.item import Block, Item
from twinsync.kept import numbers_of

COLUMNS = (
    "boot",
    "stream",
    "seq",
    "signal",
    "t_ns",
    "value",
    "quality",
    "kind",
    "last_seq",
    "to_ns",
    "count",
    "reason",
)
"""A sample fills the first seven; a declared hole `kind`, its numbers, its times and why."""
SAMPLE: Final = "sample"
_ROWS_PER_WRITE: Final = 5_000
Line = tuple[Any, ...]


def export(state_dir: Path, to: Path) -> int:
    """Writes what is still held, sent or not, to a `.csv`, `.jsonl` or `.db` file; returns how many samples that are.

    Besides samples it writes a line for every gap, every thinned block, every outage and every interval in which a
    device served nothing.

    Raises:
        InputError: VALUE_INVALID for another suffix.
        MissingError: when there is no spool.
        StorageError: when it cannot be read or the file cannot be written.
    """
    write = _FORMATS.get(to.suffix)
    if write is None:
        raise InputError("VALUE_INVALID", f"{to} ends in none of {', '.join(_FORMATS)}")
    path = existing(state_dir)
    try:
        with tempfile.TemporaryDirectory(dir=to.parent) as folder:
            copy = Path(folder) / FILE
            _copy(path, copy)
            return write(to, _lines(copy))
    except (apsw.Error, OSError) as error:
        raise storage_error(error, path) from error


def _write_csv(to: Path, lines: Iterator[Line]) -> int:
    count = 0
    with to.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for line in lines:
            table.writerow(line)
            count += line[KIND] == SAMPLE
    return count


def _write_jsonl(to: Path, lines: Iterator[Line]) -> int:
    count = 0
    with to.open("w", encoding="utf-8") as file:
        for line in lines:
            fields = zip(COLUMNS, line, strict=True)
            told = {name: _jsonable(value) for name, value in fields if value != "" or name == "value"}
            file.write(json.dumps(told) + "\n")
            count += line[KIND] == SAMPLE
    return count


def _write_tables(to: Path, lines: Iterator[Line]) -> int:
    """Raises ConflictError ALREADY_EXISTS rather than mix two exports."""
    from sqlite_utils import Database  # noqa: PLC0415 - 27 MB that nothing else needs

    if to.exists():
        raise ConflictError("ALREADY_EXISTS", f"{to} exists; it is not overwritten", hint="name another file")
    database, count = Database(to), 0
    for name, types in _TABLES.items():
        database.table(name).create(dict(types), pk=("boot", "stream", "seq", "kind"))
    for chunk in iter(lambda: list(itertools.islice(lines, _ROWS_PER_WRITE)), []):
        rows = [dict(zip(COLUMNS, line, strict=True)) for line in chunk]
        for name, types in _TABLES.items():
            mine = [r for r in rows if (r["kind"] == SAMPLE) == (name == "samples")]
            database.table(name).insert_all([{k: r[k] for k in types} for r in mine])
            count += len(mine) if name == "samples" else 0
    database.close()
    return count


def _lines(copy: Path) -> Iterator[tuple[Any, ...]]:
    """Samples and holes of a copy by stream, boot and number; items that cannot be read are left out."""
    db = reader(copy)
    try:
        boots = {boot.counter: boot.id for boot in boots_of(db)}
        digests = digests_of(db)
        catalogues = {n: catalogue_of(db, digest) for n, digest in digests.items()}
        for values in db.execute("SELECT * FROM held ORDER BY stream, boot, first_seq"):
            row = Row(*values)
            item = item_of(row, boots, digests) if row.intact else None
            if item is None:
                continue
            if isinstance(item.content, Block):
                yield from _samples(item, row, catalogues[row.catalogue])
            if row.kind != RowKind.BLOCK:
                yield _hole(item, row)
    finally:
        db.close(True)


def _samples(item: Item, row: Row, catalogue: Catalogue | None) -> Iterator[tuple[Any, ...]]:
    if catalogue is None:
        return
    boot, stream = item.boot.hex(), item.stream.name.lower()
    numbers = iter(numbers_of(item).tolist())
    for batch in batches_of(row, catalogue):
        columns = (batch.signal, batch.t_ns, batch.value, batch.quality)
        for signal, t_ns, value, quality in zip(*(c.tolist() for c in columns), strict=True):
            name = catalogue.signals[signal].name
            yield boot, stream, next(numbers), name, t_ns, value, describe(quality), "sample", "", "", "", ""


def _hole(item: Item, row: Row) -> tuple[Any, ...]:
    content = item.content
    kind, device = RowKind(row.kind).name.lower(), getattr(content, "device", "")
    reason = THINNED if isinstance(content, Block) else getattr(content, "reason", "AGENT_DOWN")
    count = item.count - row.samples if row.kind in {RowKind.GAP, RowKind.THINNED} else 0
    boot, stream = item.boot.hex(), item.stream.name.lower()
    return boot, stream, item.first_seq, device, row.from_ns, "", "", kind, item.last_seq, row.to_ns, count, reason


def _jsonable(value: object) -> object:
    # JSON has no NaN; the quality beside it says that there is no value.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _copy(path: Path, copy: Path) -> None:
    source, target = reader(path), apsw.Connection(str(copy))
    try:
        with target.backup("main", source, "main") as backup:
            # In one step: between two of them the agent's commits would have it start over.
            backup.step(-1)
        # The copy must not need a log of its own.
        run(target, "PRAGMA journal_mode=DELETE")
    finally:
        target.close(True)
        source.close(True)


KIND: Final = COLUMNS.index("kind")
_KEY: Final[Mapping[str, Any]] = {"boot": str, "stream": str, "seq": int, "kind": str}
_TABLES: Final[Mapping[str, Mapping[str, Any]]] = {
    # A column of bytes leaves values as they are: numbers stay numbers, texts stay texts.
    "samples": {**_KEY, "signal": str, "t_ns": int, "value": bytes, "quality": str},
    "holes": {**_KEY, "signal": str, "t_ns": int, "last_seq": int, "to_ns": int, "count": int, "reason": str},
}
_FORMATS: Final[Mapping[str, Callable[[Path, Iterator[Line]], int]]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".db": _write_tables,
}
