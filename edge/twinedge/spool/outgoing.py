"""What waits for the coordinator: reading it in order of urgency, and how much it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import apsw

from twinedge.spool.catalogues import digests_of
from twinedge.spool.rows import Lane, Row, item_of
from twinedge.spool.schema import number, run
from twinmodel.signal import Stream
from twinsync.item import Item, Mark, Range

_ROWS_PER_READ = 64
_HANDED_AHEAD = 1 << 17
# Both read an index alone.
_SUMS = (
    "SELECT count(*), total(size), total(iif(kind = 0, last_seq - first_seq + 1, 0)) FROM items"
    " WHERE boot = ? AND stream = ? AND first_seq >= ? AND first_seq < ?"
)
_KEPT = "SELECT total(kept) FROM items WHERE kind = 4 AND boot = ? AND stream = ? AND first_seq >= ? AND first_seq < ?"
_FIRST_BLOCK = (
    "SELECT from_ns FROM items WHERE boot = ? AND stream = ? AND first_seq >= ? AND first_seq < ? AND kind IN (0, 4)"
    " ORDER BY first_seq LIMIT 1"
)
_FIRST_APPENDED = "SELECT at_ns FROM items WHERE boot = ? AND stream = ? AND last_seq >= ? ORDER BY first_seq LIMIT 1"
_READ = (
    "SELECT * FROM held WHERE boot = ? AND stream = ? AND first_seq >= ? AND first_seq < ? ORDER BY first_seq LIMIT ?"
)
_INSIDE = (
    "SELECT first_seq FROM items WHERE boot = ? AND stream = ? AND first_seq <= ? AND last_seq >= ?"
    " ORDER BY first_seq DESC LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for the coordinator.

    Attributes:
        bytes: payload bytes.
        samples: samples in blocks; gaps and records do not count.
        items: items of any kind.
        oldest_ns: event time of the earliest sample of the oldest items, None when nothing waits.
    """

    bytes: int
    samples: int
    items: int
    oldest_ns: int | None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One read of what waits.

    Attributes:
        items: in order of urgency, inside a stream in the order of boots and numbers.
        damaged: rows whose bytes changed; none of the items behind them in their lane is among `items`.
        lanes: lanes that `items` belong to.
    """

    items: list[Item]
    damaged: list[tuple[Lane, Row]]
    lanes: list[Lane]


def read_unsent(
    db: apsw.Connection,
    lanes: Iterable[Lane],
    boots: Mapping[int, bytes],
    after: Iterable[Mark],
    *,
    bytes_max: int,
    items_max: int,
) -> Outgoing:
    """Reads items of these lanes that are not acknowledged and lie at or behind `after`; at least one when one waits.

    Nothing behind the `next_seq` of its lane is read: a commit that failed may have arrived.
    """
    found = Outgoing([], [], [])
    starts = {(mark.boot, int(mark.stream)): mark.next_seq for mark in after}
    digests: dict[int, bytes] = {}
    room = bytes_max
    for lane in lanes:
        boot = boots[lane.boot]
        start = max(lane.acked_seq, starts.get((boot, lane.stream), 0))
        while start < lane.next_seq and (room > 0 or not found.items) and len(found.items) < items_max:
            rows = _rows(db, lane, start, min(_ROWS_PER_READ, items_max - len(found.items)))
            if rows and not digests:
                digests = digests_of(db)
            for row in rows:
                item = item_of(row, boots, digests) if row.intact else None
                if item is None:
                    found.damaged.append((lane, row))
                    start = lane.next_seq
                    break
                if found.items and room < row.size:
                    return found
                found.items.append(item)
                if lane not in found.lanes:
                    found.lanes.append(lane)
                room -= row.size
                start = row.last_seq + 1
            if not rows:
                break
    return found


def handed_lanes(found: Outgoing, boots: Mapping[int, bytes]) -> list[Lane]:
    """Lanes in which a read went beyond what was known to leave, with a bound far ahead: one write for many reads."""
    last = {(item.boot, int(item.stream)): item.last_seq for item in found.items}
    return [
        replace(lane, handed_seq=seq + _HANDED_AHEAD)
        for lane in found.lanes
        if (seq := last[boots[lane.boot], lane.stream]) >= lane.handed_seq
    ]


def ranges_of(lanes: Iterable[Lane], boots: Mapping[int, bytes]) -> list[Range]:
    """What is held unacknowledged, by stream and then in the order of boots."""
    return [
        Range(boots[lane.boot], Stream(lane.stream), lane.acked_seq, lane.next_seq)
        for lane in lanes
        if lane.acked_seq < lane.next_seq
    ]


def backlog_of(db: apsw.Connection, lanes: Iterable[Lane]) -> Backlog:
    """Sums over what waits in these lanes; reads indices alone."""
    size = samples = items = 0
    oldest: list[int] = []
    for lane in lanes:
        if lane.acked_seq >= lane.next_seq:
            continue
        key = (lane.boot, lane.stream, lane.acked_seq, lane.next_seq)
        count, lane_size, whole = run(db, _SUMS, key)[0]
        kept = number(db, _KEPT, key)
        items, size, samples = items + count, size + int(lane_size), samples + int(whole) + int(kept)
        oldest += [row[0] for row in run(db, _FIRST_BLOCK, key)]
    return Backlog(size, samples, items, min(oldest, default=None))


def oldest_append_ns(db: apsw.Connection, lanes: Iterable[Lane]) -> int | None:
    """Wall time at which the first item that waits in these lanes was appended, None when nothing waits."""
    waiting = [(lane.boot, lane.stream, lane.acked_seq) for lane in lanes if lane.acked_seq < lane.next_seq]
    found = [row[0] for key in waiting for row in run(db, _FIRST_APPENDED, key)]
    return min(found, default=None)


def _rows(db: apsw.Connection, lane: Lane, start: int, count: int) -> list[Row]:
    # A start inside an item means the whole item: its extent never changes.
    inside = run(db, _INSIDE, (lane.boot, lane.stream, start, start))
    first = inside[0][0] if inside else start
    return [Row(*values) for values in run(db, _READ, (lane.boot, lane.stream, first, lane.next_seq, count))]
