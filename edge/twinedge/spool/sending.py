"""What the coordinator makes of a spool: reading what waits, and keeping what was told of it.

While the disk refuses, sending goes on. Marks wait in memory: were they lost, the coordinator would tell them again.
How far items may have left is not noted then: nothing on the disk changes meanwhile, and of what had left only a gap
may grow, which the coordinator takes from its mark on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import apsw
import structlog

from twinedge.spool import outgoing
from twinedge.spool.connection import Connection
from twinedge.spool.forgotten import recall
from twinedge.spool.ledger import recount
from twinedge.spool.outgoing import Outgoing
from twinedge.spool.reading import Reading
from twinedge.spool.recover import fill_holes
from twinedge.spool.retention import Retention
from twinedge.spool.rows import CONFIRMED, Lane, Row, set_lane, set_setting
from twinedge.spool.schema import run
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import StorageError
from twinmodel.signal import Stream
from twinsync.item import Boot, Item, Mark

_TRY_AGAIN_NS = SECOND_NS

log = structlog.get_logger(__name__)


class Sending(Reading):
    """The half of `store.Spool` that the uplink uses."""

    def __init__(self, path: Path, file: Connection, clock: Clock, boot: Boot, retention: Retention) -> None:
        super().__init__(file, clock, boot)
        self._path = path
        self._retention = retention
        self._tried_ns = 0
        self._told: dict[tuple[bytes, Stream], Mark] = {}

    def unsent(self, after: Iterable[Mark] = (), *, bytes_max: int, items_max: int) -> list[Item]:
        """Items that wait, at or behind `after`: by stream (alarms first), then boot, then number.

        At least one is returned when one waits, be it larger than `bytes_max`. What is returned keeps its extent for
        ever, and its kind unless it is dropped.
        """
        marks = tuple(after)
        found = self._file.read(
            lambda db: outgoing.read_unsent(
                db, self._lanes(db), self._boots, marks, bytes_max=bytes_max, items_max=items_max
            )
        )
        if found.damaged:
            try:
                self._declare_damaged(found.damaged)
            except StorageError as error:
                if not found.items:
                    raise
                # What lies behind the damage waits until the disk lets it be declared; nothing else does.
                log.debug("spool.damage_waits", path=str(self._path), reason=error.reason)
                self._note_handed(found)
                return found.items
            return self.unsent(marks, bytes_max=bytes_max, items_max=items_max)
        self._note_handed(found)
        return found.items

    def acknowledge(self, marks: Iterable[Mark]) -> int:
        """The coordinator holds everything below these marks; returns how many numbers that releases.

        Nothing is deleted at once: the acked tail stays for a day or a quarter of the budget. A mark of an unknown
        boot changes nothing, one beyond what was given counts up to that. While the disk refuses, marks are kept in
        memory: were they lost, the coordinator would tell them again.
        """
        for mark in marks:
            known = self._told.get((mark.boot, mark.stream))
            if known is None or known.next_seq < mark.next_seq:
                self._told[mark.boot, mark.stream] = mark
        if not self._told or not self._may_write():
            return 0
        try:
            with self._file.write() as db:
                released = self._release(db)
        except StorageError as error:
            log.debug("spool.marks_wait", path=str(self._path), reason=error.reason, lanes=len(self._told))
            return 0
        self._told.clear()
        self._checkpoint()
        return released

    def _release(self, db: apsw.Connection) -> int:
        counters = {id_: counter for counter, id_ in self._boots.items()}
        lanes = {(lane.boot, lane.stream): lane for lane in self._lanes(db)}
        released = 0
        for mark in self._told.values():
            lane = lanes.get((counters.get(mark.boot, -1), int(mark.stream)))
            if lane is not None and mark.next_seq > lane.acked_seq:
                acked_seq = min(mark.next_seq, lane.next_seq)
                released += acked_seq - lane.acked_seq
                set_lane(db, replace(lane, acked_seq=acked_seq, handed_seq=max(lane.handed_seq, acked_seq)))
        return released

    def forget_marks(self) -> None:
        """A session begins: marks that the disk has refused are told anew, or were of a coordinator restored since."""
        self._told.clear()

    def rewind(self, boot: bytes, stream: Stream, next_seq: int) -> bool:
        """The coordinator went back to `next_seq`: what lies behind it waits again.

        Numbers whose items are no longer kept are declared by a gap SERVER_REGRESSED.

        Returns:
            Whether every number was still there.
        """
        counter = {id_: counter for counter, id_ in self._boots.items()}.get(boot)

        def behind(db: apsw.Connection) -> list[Lane]:
            return [
                lane
                for lane in self._lanes(db)
                if (lane.boot, lane.stream) == (counter, stream) and next_seq < lane.acked_seq
            ]

        def pruned(db: apsw.Connection) -> bool:
            return counter is not None and next_seq < self._forgotten(db).get((counter, int(stream)), 0)

        # A mark that the disk has refused so far would be written when it heals.
        known = self._told.get((boot, stream))
        if known is not None and next_seq < known.next_seq:
            del self._told[boot, stream]
        # Every session asks; only a coordinator that was restored makes it a write.
        if not self._file.read(lambda db: behind(db) or pruned(db)):
            return counter is not None
        self._retention.coarser.restart()
        with self._file.write() as db:
            if counter is not None and pruned(db):
                given, now_ns = recall(db, counter, stream), self._clock.wall_ns()
                set_lane(db, Lane(counter, stream, given, given, given, now_ns))
            for lane in behind(db):
                log.warning(
                    "coordinator was restored, sending the tail again", reason="SERVER_REGRESSED", boot=boot.hex(),
                    stream=stream.name, from_seq=next_seq, acknowledged=lane.acked_seq,
                )  # fmt: skip
                moved = replace(lane, acked_seq=next_seq)
                set_lane(db, moved)
                return fill_holes(db, moved, boot, "SERVER_REGRESSED", self._clock.wall_ns()) == 0
        return True

    def confirm_boot(self, boot: bytes | None = None) -> None:
        """Remembers that the coordinator has accepted the chain up to a boot, the present one unless told.

        A disk that refuses keeps no session from opening: the chain is only told from further back next time.
        """
        accepted = self.boot.id if boot is None else boot
        if not accepted or not self._may_write():
            return
        try:
            with self._file.write() as db:
                set_setting(db, CONFIRMED, accepted)
        except StorageError as error:
            log.debug("spool.boot_not_confirmed", path=str(self._path), reason=error.reason)

    def _may_write(self) -> bool:
        """Whether a write that can wait is worth a try: not at once after the disk refused one."""
        now_ns = self._clock.boot_ns()
        if self._file.refusing and now_ns - self._tried_ns < _TRY_AGAIN_NS:
            return False
        self._tried_ns = now_ns
        return True

    def _note_handed(self, found: Outgoing) -> None:
        """Remembers, far ahead and so rarely, which numbers may have left this machine.

        While the disk refuses it is left: nothing on it changes meanwhile, and a gap that had left may grow at most.
        """
        moved = outgoing.handed_lanes(found, self._boots)
        if not moved or not self._may_write():
            return
        try:
            with self._file.write() as db:
                for lane in moved:
                    set_lane(db, lane)
        except StorageError as error:
            log.debug("spool.handed_not_noted", path=str(self._path), reason=error.reason)

    def _declare_damaged(self, damaged: Iterable[tuple[Lane, Row]]) -> None:
        now_ns = self._clock.wall_ns()
        with self._file.write() as db:
            for lane, row in damaged:
                run(db, "DELETE FROM items WHERE row = ?", (row.row,))
                lost = fill_holes(db, lane, self._boots[lane.boot], "STORE_CORRUPT", now_ns)
                log.warning("spool.damaged_item", path=str(self._path), row=row.row, lost=lost)
            recount(db)

    def _checkpoint(self) -> None:
        """Keeps the log short; a failure here is met again by the next call that matters."""
        self._quietly(self._retention.checkpoint)

    def _quietly(self, work: Callable[[apsw.Connection], object]) -> None:
        try:
            self._file.steps(work)
        except StorageError as error:
            log.debug("spool.tidy_failed", path=str(self._path), reason=error.reason)
