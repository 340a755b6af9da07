"""What the spool keeps when its disk budget is used up: what goes first, what never goes, and how it is declared.

The cap holds for database, log and shared index after every commit, a damaged file set aside included. A part of it
is reserved for alarms and for the declarations of loss themselves. What is in the way goes first: a damaged file that
was set aside, then acknowledged items; then the policy decides:

- `thin`: waiting blocks become coarser, see `coarser`, over the whole outage; alarms never. When all are as thin as
  they get, it goes on as `drop_oldest`.
- `drop_oldest`: the oldest of the least important stream, and never anything more important than what comes.
- `drop_newest`: what comes is dropped.
- `reject`: what comes is refused with STORE_FULL, see `Spool.append_many`.

What is dropped leaves a gap over its numbers and a line in the loss ledger. Neighbouring gaps become one, unless the
older one may have left this machine already: what the coordinator may know keeps its extent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import apsw
import structlog

from twinedge.spool.coarser import Coarser
from twinedge.spool.gaps import put_gap
from twinedge.spool.ledger import THINNED, count_loss, settle_loss
from twinedge.spool.rows import Lane, RowKind, lanes_of
from twinedge.spool.schema import BUSY_MS, PAGE_BYTES, WAL_FRAME_BYTES, number, run
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError, StorageError
from twinmodel.signal import Stream
from twinsync.item import Gap

log = structlog.get_logger(__name__)

DISK_BYTES_MIN = 1 << 20
TAIL_AGE_NS = 24 * 3600 * SECOND_NS
POLICIES = ("thin", "drop_oldest", "drop_newest", "reject")
# Pages one transaction touches besides the payloads: index, lanes, free list, pointer map, ledger.
_PAGES_BESIDE = 24
_PAYLOAD_PER_PAGE = PAGE_BYTES - 64
# Room that even alarms leave: the gap, the lanes and the ledger of a sample that is dropped.
_SLACK_BYTES = 16 * WAL_FRAME_BYTES
# One block of the shared index holds the places of 4,096 frames, four times what the log may reach.
_SHM_BYTES = 1 << 15
_ROWS_PER_STEP = (4, 64)
_FRAMES_PER_ROW = 4
_PRUNE_STEP = 64
_WAL_BYTES_MAX = 4 << 20


class Retention:
    """The arithmetic of the budget, and the steps that make room.

    Args:
        path: the database file.
        aside: a damaged file that was set aside; it counts, and goes first.
        disk_max_bytes: cap over database, log and shared index.
        when_full: one of `POLICIES`.
    """

    def __init__(self, path: Path, aside: Path, disk_max_bytes: int, when_full: str) -> None:
        if disk_max_bytes < DISK_BYTES_MIN:
            raise InputError("VALUE_INVALID", f"a spool of {disk_max_bytes} bytes, at least {DISK_BYTES_MIN}")
        if when_full not in POLICIES:
            raise InputError("VALUE_INVALID", f"{when_full!r} is none of {', '.join(POLICIES)}")
        self._path = path
        self._wal = beside(path, "-wal")
        self._shm = beside(path, "-shm")
        self._aside = (aside, beside(aside, "-wal"))
        self.disk_max_bytes = disk_max_bytes
        self._reserve_bytes = reserve_bytes(disk_max_bytes)
        self._wal_max_bytes = min(max(disk_max_bytes // 8, 1 << 17), _WAL_BYTES_MAX)
        self._tail_max_bytes = disk_max_bytes // 4
        # A step must fit into the reserve: it makes room by writing.
        rows = self._reserve_bytes // (_FRAMES_PER_ROW * WAL_FRAME_BYTES)
        self._rows_step = min(max(rows, _ROWS_PER_STEP[0]), _ROWS_PER_STEP[1])
        self.coarser = Coarser(self._rows_step)
        self.when_full = when_full

    def disk_bytes(self) -> int:
        """Bytes of database, log and shared index now, and of a damaged file set aside."""
        return sum(map(_size, (self._path, self._wal, self._shm, *self._aside)))

    def make_room(
        self, db: apsw.Connection, stream: Stream, sizes: list[int], boots: Mapping[int, bytes], now_ns: int
    ) -> bool:
        """Makes room for payloads of these sizes in small steps; False when nothing more may go for `stream`.

        Raises:
            StorageError: STORE_FULL while a reader keeps the log from shrinking; dropping would only make it longer.
        """
        pages = _PAGES_BESIDE + sum(size // _PAYLOAD_PER_PAGE + 2 for size in sizes)
        while not self._fits(db, stream, pages):
            if self.checkpoint(db, above_bytes=0):
                continue
            if _size(self._wal):
                raise StorageError("STORE_FULL", f"{self._path}: a reader holds the log", path=str(self._path))
            if self._drop_aside():
                continue
            if int(number(db, "PRAGMA freelist_count")) > pages:
                # Enough pages are free and yet it does not fit: the file itself must shrink.
                run(db, f"PRAGMA incremental_vacuum({self._rows_step})")
            elif not self.prune(db, boots, now_ns, everything=True) and not self._give_way(db, stream, boots, now_ns):
                return False
        return True

    def _fits(self, db: apsw.Connection, stream: Stream, pages: int) -> bool:
        grown = max(0, pages - int(number(db, "PRAGMA freelist_count")))
        used = max(_size(self._path), (int(number(db, "PRAGMA page_count")) + grown) * PAGE_BYTES)
        used += _size(self._wal) + _SHM_BYTES + sum(map(_size, self._aside))
        reserve = _SLACK_BYTES if stream is Stream.ALARM else self._reserve_bytes
        return used + pages * WAL_FRAME_BYTES + reserve <= self.disk_max_bytes

    def checkpoint(self, db: apsw.Connection, *, above_bytes: int | None = None) -> bool:
        """Moves the log into the database once it is large or the cap is near; False when it did not get shorter."""
        before = _size(self._wal)
        if above_bytes is None:
            near = self.disk_bytes() + _SLACK_BYTES > self.disk_max_bytes
            above_bytes = 0 if near else self._wal_max_bytes // 2
        if before <= above_bytes:
            return False
        # A reader beside us is not waited for: samples are.
        db.set_busy_timeout(0)
        try:
            run(db, "PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            db.set_busy_timeout(BUSY_MS)
        return _size(self._wal) < before

    def prune(self, db: apsw.Connection, boots: Mapping[int, bytes], now_ns: int, *, everything: bool = False) -> bool:
        """Deletes one step of acknowledged items that are too old or too many; False when none is."""
        lanes = sorted(lanes_of(db), key=lambda one: one.boot)
        excess = everything or self._tail_bytes(db, lanes) > self._tail_max_bytes
        for lane in lanes:
            rows = run(db, _TAIL, (lane.boot, lane.stream, lane.acked_seq, min(_PRUNE_STEP, 4 * self._rows_step)))
            old = [(row, kind) for row, kind, at_ns in rows if excess or at_ns + TAIL_AGE_NS < now_ns]
            if old:
                with db:
                    for row, kind in old:
                        if kind in {RowKind.GAP, RowKind.THINNED}:
                            settle_loss(db, boots[lane.boot], row)
                        run(db, "DELETE FROM items WHERE row = ?", (row,))
                return True
        return False

    def vacuum(self, db: apsw.Connection) -> None:
        """Gives some free pages back to the file system when a quarter of the file is free."""
        free = int(number(db, "PRAGMA freelist_count"))
        if free > self._rows_step and free * 4 > int(number(db, "PRAGMA page_count")):
            run(db, f"PRAGMA incremental_vacuum({self._rows_step})")

    def _drop_aside(self) -> bool:
        """Deletes a damaged file set aside: what could be read of it moved here long ago."""
        if not any(map(_size, self._aside)):
            return False
        for path in self._aside:
            path.unlink(missing_ok=True)
        log.warning("spool.damaged_file_deleted", path=str(self._aside[0]), why="its place is needed")
        return True

    def _tail_bytes(self, db: apsw.Connection, lanes: list[Lane]) -> int:
        sql = "SELECT total(size) FROM items WHERE boot = ? AND stream = ? AND last_seq < ?"
        return sum(int(number(db, sql, (lane.boot, lane.stream, lane.acked_seq))) for lane in lanes)

    def _give_way(self, db: apsw.Connection, stream: Stream, boots: Mapping[int, bytes], now_ns: int) -> bool:
        """One step of the policy; False when nothing more may go."""
        if self.when_full not in {"thin", "drop_oldest"}:
            return False
        if self.when_full == "thin" and self.coarser.step(db, boots, now_ns):
            return True
        victims = [s for s in sorted(Stream, reverse=True) if s >= stream]
        # Outages and the like are small, and say more than any sample: they go last.
        return any(
            self._drop_step(db, oldest, victim, boots, now_ns)
            for oldest in (_OLDEST_BLOCKS, _OLDEST)
            for victim in victims
        )

    def _drop_step(
        self, db: apsw.Connection, oldest: str, stream: Stream, boots: Mapping[int, bytes], now_ns: int
    ) -> bool:
        for lane in lanes_of(db):
            if lane.stream != stream or lane.acked_seq >= lane.next_seq:
                continue
            rows = run(db, oldest, (lane.boot, lane.stream, lane.acked_seq, self._rows_step))
            if rows:
                with db:
                    for row, first_seq, last_seq, from_ns, to_ns, kind, kept in rows:
                        gap = Gap("STORE_FULL", last_seq - first_seq + 1, from_ns, to_ns)
                        count_loss(db, boots[lane.boot], lane.stream, gap, now_ns)
                        if kind == RowKind.THINNED:
                            # The gap declares them from now on.
                            thinned = Gap(THINNED, kept - gap.count, from_ns, to_ns)
                            count_loss(db, boots[lane.boot], lane.stream, thinned, now_ns)
                        put_gap(db, lane, first_seq, last_seq, gap, now_ns, row=row)
                return True
        return False


_TAIL = "SELECT row, kind, at_ns FROM items WHERE boot = ? AND stream = ? AND last_seq < ? ORDER BY first_seq LIMIT ?"
_OLDEST = (
    "SELECT row, first_seq, last_seq, from_ns, to_ns, kind, kept FROM items WHERE boot = ? AND stream = ?"
    " AND first_seq >= ? AND kind <> 1 ORDER BY first_seq LIMIT ?"
)
_OLDEST_BLOCKS = _OLDEST.replace("kind <> 1", "kind IN (0, 4)")


def reserve_bytes(disk_max_bytes: int) -> int:
    """The part of a budget that is left to alarms and to declarations."""
    return max(disk_max_bytes // 16, 4 * _SLACK_BYTES)


def beside(path: Path, suffix: str) -> Path:
    """A file of SQLite beside its database."""
    return path.with_name(path.name + suffix)


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - asked often; by way of the path it takes twice as long
    except FileNotFoundError:
        return 0
