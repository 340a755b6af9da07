"""What can still be read of a damaged file: it may contradict itself anywhere, and reading it takes a bounded time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw

from twinedge.spool.rows import Row
from twinedge.spool.schema import number, run

_PROBES_MAX = 512
_ROWS_PER_READ = 64
_FORWARDS = "SELECT * FROM held WHERE row > ? ORDER BY row LIMIT ?"
_BACKWARDS = "SELECT * FROM held WHERE row < ? ORDER BY row DESC LIMIT ?"
# Of the file in hand, as its own definitions may be damaged; the columns of its version.
_HELD = (
    "CREATE TEMP VIEW held AS SELECT row, boot, stream, first_seq, last_seq, kind, from_ns, to_ns, catalogue, crc32c,"
    " size, seal, payload, at_ns, kept, level FROM main.items NOT INDEXED"
)
_HELD_FIRST = _HELD.replace(", kept, level", "")


def opened(aside: Path) -> apsw.Connection | None:
    """The damaged file opened to be read; None when nothing of it can be."""
    try:
        old = apsw.Connection(str(aside))
        run(old, "PRAGMA cell_size_check=ON")
        # Lets SQLite read a file that was cut short, and one whose table definitions are damaged.
        run(old, "PRAGMA writable_schema=ON")
    except apsw.Error:
        return None
    return old


def readable(read: Callable[[], list[Any]]) -> list[Any]:
    """What a read gives; nothing where the file contradicts itself or the machine fails on it."""
    try:
        return read()
    except (apsw.Error, ValueError, TypeError, OverflowError):
        return []


def readable_rows(old: apsw.Connection) -> Iterator[list[Row]]:
    """Rows of the damaged table: from the front, from the back, then by probing what lies between."""
    try:
        run(old, "SELECT kept, level FROM main.items LIMIT 0")
        held = _HELD
    except apsw.Error:
        held = _HELD_FIRST
    readable(lambda: run(old, held))
    front, back = 0, 2**62
    # Pages that contradict each other may give rows out of order, and for ever.
    while rows := [r for r in _rows(old, _FORWARDS, front) if r.row > front]:
        yield rows
        front = max(r.row for r in rows)
    while rows := [r for r in _rows(old, _BACKWARDS, back) if front < r.row < back]:
        yield rows
        back = min(r.row for r in rows)
    if back == 2**62 and front == 0:
        back = _number_or(old, "SELECT seq FROM sqlite_sequence WHERE name = 'items'", 0) + 1
    if 1 < back - front < 2**62:
        stride = max(1, (back - front) // _PROBES_MAX)
        for probe in range(front, back, stride):
            yield [r for r in _rows(old, _FORWARDS, probe) if r.row < back]


def _number_or(db: apsw.Connection, sql: str, otherwise: int) -> int:
    """The one integer a query gives, or `otherwise` where the file is too damaged for it."""
    found = readable(lambda: [number(db, sql)])
    return found[0] if found and type(found[0]) is int and 0 <= found[0] < 2**62 else otherwise


def _rows(old: apsw.Connection, sql: str, start: int) -> list[Row]:
    """The readable rows of one read: what comes before the damage."""
    found: list[Row] = []
    try:
        found.extend(Row(*values) for values in old.execute(sql, (start, _ROWS_PER_READ)) if type(values[0]) is int)
    except (apsw.Error, TypeError, ValueError):
        return found
    return found
