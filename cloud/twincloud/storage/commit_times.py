"""When each commit became known: numbers and times that grow together, so that `known_at` means one number for ever.

    commits (a row per commit) ─ an hour later ─▶ commit_spans (many commits in one row, packed)

A commit's time is the clock's, or that of the commit before it where the clock has stepped back. A time is *sealed*
once a commit bears a later one: none can bear it any more. Asking for a time that is over seals it.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import zstandard
from sqlalchemy import Connection, bindparam, delete, func, insert, select

from twincloud.storage import schema_hours as h
from twincloud.storage.database import Database
from twincloud.storage.part import NUMBERS, Part, take_numbers
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError
from twinsync.columns import ColumnReader, ColumnWriter, differences

PACK_AFTER_NS: Final = 3_600 * SECOND_NS
PACK_COMMITS: Final = 50_000
_COUNT = struct.Struct("<I")


class CommitTimeStore(Part):
    """Resolves `known_at`; see `Hours`."""

    def known_at(self, t_ns: int, now_ns: int) -> int:
        """The number of the last commit that was known at a time, the same for ever; 0 before the first one.

        Raises:
            InputError: KNOWN_AT_OPEN for a time that is not over yet.
            StorageError: the time could not be sealed.
        """
        if t_ns >= now_ns:
            raise InputError("KNOWN_AT_OPEN", "known_at: it is not over yet, more may become known", field="known_at")
        with self._database.read() as connection:
            newest = connection.execute(_NEWEST).first()
            if newest is not None and t_ns < newest.time_ns:
                return _number_at(connection, t_ns)
        with self._database.write() as connection:
            # Whatever is committed from now on bears this time or a later one.
            number = take_numbers(connection, NUMBERS, 1)
            connection.execute(insert(h.commits), {"number": number, "time_ns": commit_time(connection, now_ns)})
            return _number_at(connection, t_ns)

    def pack_commits(self, now_ns: int) -> int:
        """A step: packs the rows of old commits; gives how many, 0 when there is nothing to do at once."""
        with self._database.write() as connection:
            rows = connection.execute(_OLD, {"before_ns": now_ns - PACK_AFTER_NS}).all()
            if len(rows) < 2:
                return 0
            number = np.array([row.number for row in rows], np.int64)
            time_ns = np.array([row.time_ns for row in rows], np.int64)
            writer = ColumnWriter()
            writer.integers(differences(number))
            writer.integers(differences(time_ns))
            packed = _COUNT.pack(len(rows)) + zstandard.ZstdCompressor(level=3).compress(writer.bytes())
            connection.execute(insert(h.commit_spans), {
                "first_number": rows[0].number, "last_number": rows[-1].number, "first_ns": rows[0].time_ns,
                "last_ns": rows[-1].time_ns, "payload": packed,
            })  # fmt: skip
            connection.execute(_FORGET, {"last": rows[-1].number})
        return len(rows) if len(rows) == PACK_COMMITS else 0


def commit_time(connection: Connection, now_ns: int) -> int:
    """The time of a commit that is made now; in its transaction."""
    newest = connection.execute(_NEWEST).first()
    return now_ns if newest is None else max(now_ns, newest.time_ns)


def commit_time_fast(database: Database, connection: Connection, now_ns: int) -> int:
    """The same as `commit_time`, for the path of every commit."""
    newest = database.read_many(connection, _NEWEST, [{}])
    return max(now_ns, int(newest[0][1])) if newest else now_ns


def note_commit(database: Database, connection: Connection, number: int, now_ns: int) -> None:
    """Keeps the time of a commit, once it has its number."""
    # Again, now that the counter's lock is held: another replica may have committed meanwhile.
    time_ns = commit_time_fast(database, connection, now_ns)
    database.write_many(connection, _NOTE, [{"number": number, "time_ns": time_ns}])


def _number_at(connection: Connection, t_ns: int) -> int:
    found = connection.execute(_AT, {"t_ns": t_ns}).scalar()
    if found is not None:
        return int(found)
    span = connection.execute(_SPAN_AT, {"t_ns": t_ns}).first()
    if span is None:
        return 0
    if span.last_ns <= t_ns:
        return int(span.last_number)
    (count,) = _COUNT.unpack_from(span.payload)
    size = zstandard.frame_content_size(span.payload[_COUNT.size :])
    raw = zstandard.ZstdDecompressor().decompress(span.payload[_COUNT.size :], max_output_size=size)
    reader = ColumnReader(raw)
    number, time_ns = reader.integers(count).cumsum(), reader.integers(count).cumsum()
    return int(number[time_ns.searchsorted(t_ns, side="right") - 1])


_LAST = select(func.max(h.commits.c.number)).scalar_subquery()
_NEWEST = select(h.commits.c.number, h.commits.c.time_ns).where(h.commits.c.number == _LAST)
_NOTE = insert(h.commits)
_AT = (
    select(h.commits.c.number)
    .where(h.commits.c.time_ns <= bindparam("t_ns"))
    .order_by(h.commits.c.time_ns.desc(), h.commits.c.number.desc())
    .limit(1)
)
_SPAN_AT = (
    select(h.commit_spans)
    .where(h.commit_spans.c.first_ns <= bindparam("t_ns"))
    .order_by(h.commit_spans.c.first_ns.desc(), h.commit_spans.c.first_number.desc())
    .limit(1)
)
_OLD = (
    select(h.commits)
    # The newest row stays, whatever its age: the next commit looks at it.
    .where(
        h.commits.c.time_ns < bindparam("before_ns"),
        h.commits.c.number < _LAST,
    )
    .order_by(h.commits.c.number)
    .limit(PACK_COMMITS)
)
_FORGET = delete(h.commits).where(h.commits.c.number <= bindparam("last"))
