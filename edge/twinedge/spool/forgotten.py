"""Last numbers of lanes that hold nothing any more, for a coordinator restored from before they were acknowledged.

A lane whose items are all acknowledged and pruned is deleted when the next boot starts, so that there are few of them.
A coordinator that went back then asks for numbers nobody has: what they were is all that is left to declare.
"""

from __future__ import annotations

import apsw
import crc32c
import msgpack

from twinedge.spool.schema import run

_SETTING = "forgotten_lanes"
_CRC_BYTES = 4

Numbers = dict[tuple[int, int], int]
"""Boot's counter and stream -> the first number never given."""


def read_forgotten(db: apsw.Connection) -> Numbers:
    """All lanes that were deleted of boots that are kept; none when the row is damaged."""
    rows = run(db, "SELECT value FROM settings WHERE name = ?", (_SETTING,))
    # A large file is not looked through when it is opened: its values may be of any type.
    stored = rows[0][0] if rows and type(rows[0][0]) is bytes else b""
    packed = stored[_CRC_BYTES:]
    if not packed or crc32c.crc32c(packed).to_bytes(_CRC_BYTES, "little") != stored[:_CRC_BYTES]:
        return {}
    return {(boot, stream): next_seq for boot, stream, next_seq in msgpack.unpackb(packed)}


def forget_lanes(db: apsw.Connection) -> None:
    """Deletes lanes of earlier boots that hold nothing any more, and remembers their numbers."""
    empty = (
        "acked_seq = next_seq AND boot < (SELECT max(counter) FROM boots) AND NOT EXISTS"
        " (SELECT 1 FROM items WHERE items.boot = lanes.boot AND items.stream = lanes.stream)"
    )
    rows = run(db, f"SELECT boot, stream, next_seq FROM lanes WHERE {empty} AND next_seq > 0")  # noqa: S608 - no input
    run(db, f"DELETE FROM lanes WHERE {empty}")  # noqa: S608 - as above
    if rows:
        _write(db, read_forgotten(db) | {(boot, stream): next_seq for boot, stream, next_seq in rows})


def forget_numbers(db: apsw.Connection) -> None:
    """Drops the numbers of boots that are gone; nobody can ask for them any more."""
    known = read_forgotten(db)
    boots = {counter for (counter,) in run(db, "SELECT counter FROM boots")}
    kept = {key: next_seq for key, next_seq in known.items() if key[0] in boots}
    if len(kept) < len(known):
        _write(db, kept)


def recall(db: apsw.Connection, boot: int, stream: int) -> int:
    """The first number never given of a deleted lane, which is a lane from now on; 0 for one nobody knows."""
    known = read_forgotten(db)
    next_seq = known.pop((boot, stream), 0)
    if next_seq:
        _write(db, known)
    return next_seq


def _write(db: apsw.Connection, numbers: Numbers) -> None:
    packed = msgpack.packb([[*key, next_seq] for key, next_seq in sorted(numbers.items())])
    value = crc32c.crc32c(packed).to_bytes(_CRC_BYTES, "little") + packed
    run(db, "INSERT OR REPLACE INTO settings VALUES (?, ?)", (_SETTING, value))
