"""What the spool keeps when its disk budget is used up: what goes first, what never goes, and how it is declared.

The cap holds for database plus log at every moment. A part of it is reserved for alarms and for the declarations of
loss themselves. Acknowledged items go first; then the policy decides:

- `drop_oldest`: the oldest of the least important stream, and never anything more important than what comes.
- `thin`: as `drop_oldest`, but only bulk and telemetry are dropped; states and alarms stay.
- `drop_newest`: what comes is dropped.
- `reject`: what comes is refused with STORE_FULL, no number is given.

What is dropped leaves a gap over its numbers and a line in the loss ledger. Neighbouring gaps become one, unless the
older one may have left this machine already: what the coordinator may know keeps its extent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import apsw

from twinedge.spool.ledger import count_loss
from twinedge.spool.rows import Lane, RowKind, insert, lanes_of, packed_gap, set_gap
from twinedge.spool.schema import PAGE_BYTES, WAL_FRAME_BYTES, number, run
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError
from twinmodel.signal import Stream
from twinsync.item import Gap

DISK_BYTES_MIN = 1 << 20
TAIL_AGE_NS = 24 * 3600 * SECOND_NS
POLICIES = ("thin", "drop_oldest", "drop_newest", "reject")
# Pages one transaction touches besides the payloads: index, lanes, free list, pointer map, ledger.
_PAGES_BESIDE = 24
_PAYLOAD_PER_PAGE = PAGE_BYTES - 64
# Room that even alarms leave: the gap, the lanes and the ledger of a sample that is dropped.
_SLACK_BYTES = 16 * WAL_FRAME_BYTES
_DROP_STEP = 16
_PRUNE_STEP = 64
_VACUUM_PAGES = 64
_WAL_BYTES_MAX = 4 << 20


class Retention:
    """The arithmetic of the budget, and the steps that make room.

    Args:
        path: the database file.
        disk_max_bytes: cap over database and log.
        when_full: one of `POLICIES`.
    """

    def __init__(self, path: Path, disk_max_bytes: int, when_full: str) -> None:
        if disk_max_bytes < DISK_BYTES_MIN:
            raise InputError("VALUE_INVALID", f"a spool of {disk_max_bytes} bytes, at least {DISK_BYTES_MIN}")
        if when_full not in POLICIES:
            raise InputError("VALUE_INVALID", f"{when_full!r} is none of {', '.join(POLICIES)}")
        self._wal = path.with_name(path.name + "-wal")
        self._path = path
        self._disk_max_bytes = disk_max_bytes
        self._reserve_bytes = max(disk_max_bytes // 16, 4 * _SLACK_BYTES)
        self._wal_max_bytes = min(max(disk_max_bytes // 8, 1 << 17), _WAL_BYTES_MAX)
        self._tail_max_bytes = disk_max_bytes // 4
        self.when_full = when_full

    def disk_bytes(self) -> int:
        """Bytes of database and log now."""
        return _size(self._path) + _size(self._wal)

    def make_room(
        self, db: apsw.Connection, stream: Stream, sizes: list[int], boots: Mapping[int, bytes], now_ns: int
    ) -> bool:
        """Makes room for payloads of these sizes in small steps; False when nothing more may go for `stream`."""
        pages = _PAGES_BESIDE + sum(size // _PAYLOAD_PER_PAGE + 2 for size in sizes)
        while not self._fits(db, stream, pages):
            if self.checkpoint(db, above_bytes=0):
                continue
            if int(number(db, "PRAGMA freelist_count")) > pages:
                # Enough pages are free and yet it does not fit: the file itself must shrink.
                run(db, f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
            elif not self.prune(db, now_ns, everything=True) and not any(
                self._drop_step(db, victim, boots, now_ns) for victim in self._victims(stream)
            ):
                return False
        return True

    def _fits(self, db: apsw.Connection, stream: Stream, pages: int) -> bool:
        grown = max(0, pages - int(number(db, "PRAGMA freelist_count")))
        used = max(_size(self._path), (int(number(db, "PRAGMA page_count")) + grown) * PAGE_BYTES)
        reserve = _SLACK_BYTES if stream is Stream.ALARM else self._reserve_bytes
        return used + _size(self._wal) + pages * WAL_FRAME_BYTES + reserve <= self._disk_max_bytes

    def checkpoint(self, db: apsw.Connection, *, above_bytes: int | None = None) -> bool:
        """Moves the log into the database once it is large; False when there was nothing to do or a reader holds it."""
        before = _size(self._wal)
        if before <= (self._wal_max_bytes // 2 if above_bytes is None else above_bytes):
            return False
        run(db, "PRAGMA wal_checkpoint(TRUNCATE)")
        return _size(self._wal) < before

    def prune(self, db: apsw.Connection, now_ns: int, *, everything: bool = False) -> bool:
        """Deletes one step of acknowledged items that are too old or too many; False when none is."""
        lanes = sorted(lanes_of(db), key=lambda one: one.boot)
        excess = everything or self._tail_bytes(db, lanes) > self._tail_max_bytes
        for lane in lanes:
            rows = run(
                db,
                "SELECT row, at_ns FROM items WHERE boot = ? AND stream = ? AND last_seq < ?"
                " ORDER BY first_seq LIMIT ?",
                (lane.boot, lane.stream, lane.acked_seq, _PRUNE_STEP),
            )
            old = [row for row, at_ns in rows if excess or at_ns + TAIL_AGE_NS < now_ns]
            if old:
                with db:
                    for row in old:
                        run(db, "DELETE FROM items WHERE row = ?", (row,))
                return True
        return False

    def vacuum(self, db: apsw.Connection) -> None:
        """Gives some free pages back to the file system when a quarter of the file is free."""
        free = int(number(db, "PRAGMA freelist_count"))
        if free > _VACUUM_PAGES and free * 4 > int(number(db, "PRAGMA page_count")):
            run(db, f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")

    def _tail_bytes(self, db: apsw.Connection, lanes: list[Lane]) -> int:
        sql = "SELECT total(size) FROM items WHERE boot = ? AND stream = ? AND last_seq < ?"
        return sum(int(number(db, sql, (lane.boot, lane.stream, lane.acked_seq))) for lane in lanes)

    def _victims(self, stream: Stream) -> list[Stream]:
        """Streams that may lose something for a sample of `stream`, the least important first."""
        if self.when_full == "drop_oldest":
            return [s for s in sorted(Stream, reverse=True) if s >= stream]
        if self.when_full == "thin":
            return [s for s in (Stream.BULK, Stream.TELEMETRY) if s >= stream]
        return []

    def _drop_step(self, db: apsw.Connection, stream: Stream, boots: Mapping[int, bytes], now_ns: int) -> bool:
        for lane in lanes_of(db):
            if lane.stream != stream or lane.acked_seq >= lane.next_seq:
                continue
            rows = run(
                db,
                "SELECT row, first_seq, last_seq, from_ns, to_ns FROM items WHERE boot = ? AND stream = ?"
                " AND first_seq >= ? AND kind <> ? ORDER BY first_seq LIMIT ?",
                (lane.boot, lane.stream, lane.acked_seq, int(RowKind.GAP), _DROP_STEP),
            )
            if rows:
                with db:
                    for row, first_seq, last_seq, from_ns, to_ns in rows:
                        gap = Gap("STORE_FULL", last_seq - first_seq + 1, from_ns, to_ns)
                        count_loss(db, boots[lane.boot], lane.stream, gap, now_ns)
                        put_gap(db, lane, first_seq, last_seq, gap, now_ns, row=row)
                return True
        return False


def put_gap(
    db: apsw.Connection,
    lane: Lane,
    first_seq: int,
    last_seq: int,
    gap: Gap,
    now_ns: int,
    *,
    row: int | None = None,
) -> None:
    """Lets a gap occupy these numbers, in the place of `row` when one is given.

    It widens the gap before it when that has the same reason and cannot have left this machine.
    """
    before = run(
        db,
        "SELECT row, first_seq, from_ns, to_ns, payload FROM items WHERE boot = ? AND stream = ? AND last_seq = ?"
        " AND first_seq < ? AND first_seq >= ? AND kind = ? ORDER BY first_seq DESC LIMIT 1",
        (lane.boot, lane.stream, first_seq - 1, first_seq, lane.handed_seq, int(RowKind.GAP)),
    )
    if before and before[0][4] == packed_gap(gap):
        if row is not None:
            run(db, "DELETE FROM items WHERE row = ?", (row,))
        row, first_seq, from_ns, to_ns, _ = before[0]
        gap = Gap(gap.reason, last_seq - first_seq + 1, min(from_ns, gap.from_ns), max(to_ns, gap.to_ns))
    if row is None:
        insert(db, lane.boot, lane.stream, first_seq, last_seq, gap, 0, now_ns)
    else:
        set_gap(db, row, lane, first_seq, last_seq, gap)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
