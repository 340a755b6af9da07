"""The spool: appends blocks durably, hands them out in order, deletes only what the coordinator has committed.

    append ─▶ [ items of this boot ] ─▶ unsent ─▶ coordinator ─▶ acknowledge ─▶ acked tail ─▶ pruned
                     │ disk full                                     ▲
                     └─▶ gap + loss ledger                  rewind ──┘ a coordinator restored from a backup

One thread calls it. When the disk refuses, the call raises a StorageError and has changed nothing; the next call opens
the file anew. A transaction whose commit failed is undone then: nothing of it was handed out, so that the caller's
second try gets the same numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import apsw
import structlog

from twinedge.spool import directives, outgoing
from twinedge.spool.catalogues import catalogue_of, digests_of, forget_unused, keep_catalogue
from twinedge.spool.chain import read_chain, write_chain
from twinedge.spool.connection import Connection
from twinedge.spool.failure import storage_error
from twinedge.spool.ledger import Loss, count_loss, losses_of
from twinedge.spool.lock import locked
from twinedge.spool.outgoing import Backlog, Outgoing
from twinedge.spool.packing import pack
from twinedge.spool.recall import recent_of
from twinedge.spool.recover import Salvage, fill_holes, open_sound, reconcile
from twinedge.spool.retention import Retention, put_gap
from twinedge.spool.rows import (
    Lane,
    Row,
    boots_of,
    forget_boots,
    fresh_lane,
    insert,
    insert_boot,
    lanes_of,
    set_lane,
    set_setting,
    setting,
)
from twinedge.spool.schema import FILE, run
from twinmodel.clock import Clock, ClockQuality
from twinmodel.errors import StorageError
from twinmodel.signal import Batch, Catalogue, Stream
from twinsync import limits
from twinsync.directive import Directive, DirectiveState
from twinsync.item import Block, Boot, Content, Gap, Item, Mark, NotAcquired, Outage, Range

_PRUNE_EVERY = 64
_CONFIRMED = "confirmed_boot"

log = structlog.get_logger(__name__)


class Spool:
    """See the module; made by `open`.

    Attributes:
        boot: the boot that numbers what is appended.
        salvage: what was saved from a damaged file when it was opened, None when it was sound.
        commits: appends that are durable, since the start.
    """

    def __init__(self, state_dir: Path, lock: int, clock: Clock, retention: Retention, vfs: str | None) -> None:
        self._state_dir = state_dir
        self._path = state_dir / FILE
        self._lock = lock
        self._clock = clock
        self._retention = retention
        self._vfs = vfs
        self._file = Connection(self._path, self._reopen)
        self._boots: dict[int, bytes] = {}
        self._next: dict[Stream, int] = {}
        self.boot = Boot(b"", b"", 0, 0, ClockQuality.UNSET)
        self.salvage: Salvage | None = None
        self.commits = 0

    @classmethod
    def open(
        cls,
        state_dir: Path,
        *,
        clock: Clock,
        rng_bytes: Callable[[int], bytes],
        disk_max_bytes: int,
        when_full: str,
        clock_quality: ClockQuality = ClockQuality.FREE,
        vfs: str | None = None,
    ) -> Spool:
        """Opens the spool of a state directory and starts a new boot, in one durable transaction.

        Args:
            state_dir: made when it does not exist.
            clock: wall times of records.
            rng_bytes: source of the boot's id, `os.urandom` outside of tests.
            disk_max_bytes: cap over database and log.
            when_full: a policy of `twinedge.spool.retention`.
            clock_quality: how far the wall clock can be trusted now.
            vfs: name of an SQLite file system layer; tests break the disk there.

        Raises:
            ConflictError: STATE_LOCKED while another process has it.
            StorageError: when the disk refuses. A damaged file is no reason: it is set aside.
        """
        retention = Retention(state_dir / FILE, disk_max_bytes, when_full)
        lock = locked(state_dir)
        spool = cls(state_dir, lock, clock, retention, vfs)
        try:
            spool._start(rng_bytes(limits.BOOT_BYTES), clock_quality)
        except BaseException:
            spool.close()
            raise
        return spool

    @property
    def failures(self) -> int:
        """Calls the disk refused, since the start."""
        return self._file.failures

    def put_catalogue(self, catalogue: Catalogue) -> None:
        """Stores the catalogue of the present configuration; appends do it by themselves, too."""
        with self._file.write() as db:
            keep_catalogue(db, catalogue)

    def append(self, stream: Stream, batches: Sequence[Batch], catalogue: Catalogue) -> tuple[int, int]:
        """Stores samples of one stream; returns their first and last sequence number once they are durable.

        A sample's number is the first one of its block plus its place in canonical order, see `twinsync.block`.

        Raises:
            InputError: when a sample does not fit the catalogue.
            StorageError: STORE_FULL (policy `reject`, or another process filled the disk), STORE_SYNC_FAILED,
                STORE_READ_ONLY, STORE_CORRUPT; nothing was stored, try again.
        """
        first_seq = self._next.get(stream, 0)
        self.append_many([(stream, batches)], catalogue)
        return first_seq, self._next.get(stream, 0) - 1

    def append_many(
        self,
        parts: Sequence[tuple[Stream, Sequence[Batch]]],
        catalogue: Catalogue,
        records: Sequence[Outage | NotAcquired] = (),
    ) -> None:
        """Stores samples of several streams and declared holes in one durable transaction; raises as `append`.

        Under `reject`, a call without alarms that does not fit is refused; with alarms, these are stored and the rest
        is dropped with a gap.
        """
        ordered = sorted(parts, key=lambda part: part[0])
        packed = [(stream, *one) for stream, batches in ordered for one in pack(batches, catalogue)]
        if not packed and not records:
            return
        kept = self._file.steps(lambda db: self._admitted(db, packed))
        with self._file.write() as db:
            lanes = {Stream(lane.stream): lane for lane in lanes_of(db) if lane.boot == self.boot.counter}
            number = keep_catalogue(db, catalogue) if packed else 0
            for (stream, count, content), keep in zip(packed, kept, strict=True):
                lane = lanes.get(stream) or self._fresh_lane(stream)
                lanes[stream] = self._store(db, lane, count, content, number, keep=keep)
            for record in records:
                lane = lanes.get(Stream.STATE) or self._fresh_lane(Stream.STATE)
                lanes[Stream.STATE] = self._store(db, lane, 1, record, 0, keep=True)
            for stream in {*(p[0] for p in packed), *([Stream.STATE] if records else [])}:
                set_lane(db, lanes[stream])
        self._next.update({stream: lane.next_seq for stream, lane in lanes.items()})
        self.commits += 1
        self._tidy()

    def unsent(self, after: Iterable[Mark] = (), *, bytes_max: int, items_max: int) -> list[Item]:
        """Items that wait, at or behind `after`: by stream (alarms first), then boot, then number.

        At least one is returned when one waits, be it larger than `bytes_max`. What is returned keeps its extent for
        ever, and its kind unless it is dropped.
        """
        marks = tuple(after)
        found = self._file.steps(
            lambda db: outgoing.read_unsent(db, self._boots, marks, bytes_max=bytes_max, items_max=items_max)
        )
        if found.damaged:
            self._declare_damaged(found.damaged)
            return self.unsent(marks, bytes_max=bytes_max, items_max=items_max)
        self._note_handed(found)
        return found.items

    def acknowledge(self, marks: Iterable[Mark]) -> int:
        """The coordinator holds everything below these marks; returns how many numbers that releases.

        Nothing is deleted at once: the acked tail stays for a day or a quarter of the budget. A mark of an unknown
        boot changes nothing, one beyond what was given counts up to that.
        """
        counters = {id_: counter for counter, id_ in self._boots.items()}
        released = 0
        with self._file.write() as db:
            lanes = {(lane.boot, lane.stream): lane for lane in lanes_of(db)}
            for mark in marks:
                lane = lanes.get((counters.get(mark.boot, -1), int(mark.stream)))
                if lane is None or mark.next_seq <= lane.acked_seq:
                    continue
                acked_seq = min(mark.next_seq, lane.next_seq)
                released += acked_seq - lane.acked_seq
                moved = replace(lane, acked_seq=acked_seq, handed_seq=max(lane.handed_seq, acked_seq))
                lanes[lane.boot, lane.stream] = moved
                set_lane(db, moved)
        return released

    def rewind(self, boot: bytes, stream: Stream, next_seq: int) -> bool:
        """The coordinator went back to `next_seq`: what lies behind it waits again.

        Numbers whose items are no longer kept are declared by a gap SERVER_REGRESSED.

        Returns:
            Whether every number was still there.
        """
        counters = {id_: counter for counter, id_ in self._boots.items()}
        with self._file.write() as db:
            for lane in lanes_of(db):
                if lane.boot == counters.get(boot) and lane.stream == stream and next_seq < lane.acked_seq:
                    moved = replace(lane, acked_seq=next_seq)
                    set_lane(db, moved)
                    return fill_holes(db, moved, boot, "SERVER_REGRESSED", self._clock.wall_ns()) == 0
        return boot in counters

    def ranges(self) -> list[Range]:
        """What is held unacknowledged, by stream and then in the order of boots."""
        return self._file.steps(lambda db: outgoing.ranges_of(db, self._boots))

    def boots_since(self, confirmed: bytes | None = None) -> list[Boot]:
        """Boots from `confirmed` to the present one, oldest first; None: from the last one `confirm_boot` stored.

        All that are kept, when that boot is not among them.
        """
        boots = self._file.steps(boots_of)
        start = confirmed if confirmed is not None else self._file.steps(lambda db: setting(db, _CONFIRMED))
        places = [place for place, boot in enumerate(boots) if boot.id == start]
        return boots[places[0] :] if places else boots

    def confirm_boot(self) -> None:
        """Remembers that the coordinator has accepted the chain up to the present boot."""
        with self._file.write() as db:
            set_setting(db, _CONFIRMED, self.boot.id)

    def catalogue(self, digest: bytes) -> Catalogue | None:
        """A stored catalogue, None when it is not here."""
        return self._file.steps(lambda db: catalogue_of(db, digest))

    def schemas(self) -> list[bytes]:
        """Digests of the catalogues that stored blocks and the present configuration need."""
        return list(self._file.steps(digests_of).values())

    def recent(self) -> list[tuple[Catalogue, list[Batch]]]:
        """Samples stored last, by any boot, see `recall`."""
        return self._file.steps(recent_of)

    def backlog(self) -> Backlog:
        """What waits for the coordinator."""
        return self._file.steps(outgoing.backlog_of)

    def ledger(self) -> list[Loss]:
        """Everything this spool ever dropped; the sum of `samples` is the sum over all gaps it made."""
        return self._file.steps(losses_of)

    def disk_bytes(self) -> int:
        """Bytes of database and log."""
        return self._retention.disk_bytes()

    def put_directive(self, directive: Directive) -> None:
        """Stores a directive; one that is known keeps its state and is reported again."""
        with self._file.write() as db:
            directives.put_directive(db, directive)

    def finish_directive(self, state: DirectiveState) -> None:
        """Stores how a directive ended; the first outcome stands."""
        with self._file.write() as db:
            directives.finish_directive(db, state)

    def report_directive(self, directive_id: str) -> None:
        """Remembers that the coordinator was told the outcome."""
        with self._file.write() as db:
            directives.report_directive(db, directive_id)

    def desired(self) -> list[directives.Desired]:
        """All directives that are kept, by target and growing version."""
        return self._file.steps(directives.desired_of)

    def close(self) -> None:
        """Closes the file and lets the state directory go; the spool is of no use afterwards."""
        self._file.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _start(self, boot_id: bytes, quality: ClockQuality) -> None:
        """Writes the new boot and, when there was one before it, the outage between them."""
        now_ns = self._clock.wall_ns()
        with self._file.write() as db:
            boots = boots_of(db)
            last = boots[-1] if boots else None
            boot = Boot(boot_id, last.id if last else b"", last.counter + 1 if last else 1, now_ns, quality)
            insert_boot(db, boot)
            if last is not None:
                stored = [lane.at_ns for lane in lanes_of(db) if lane.boot == last.counter]
                outage = Outage(last.id, min(max([last.started_ns, *stored]), now_ns), now_ns)
                insert(db, boot.counter, Stream.STATE, 0, 0, outage, 0, now_ns)
                set_lane(db, Lane(boot.counter, Stream.STATE, 1, 0, 0, now_ns))
            forget_boots(db)
            forget_unused(db)
            boots = boots_of(db)
        self._next = {Stream.STATE: 1} if last else {}
        self.boot = boot
        self._boots = {one.counter: one.id for one in boots}
        try:
            write_chain(self._state_dir, boots)
        except OSError as error:
            raise storage_error(error, self._path) from error

    def _reopen(self) -> apsw.Connection:
        """Opens the file and, when it is opened anew, makes it agree with what was promised before."""
        db, salvage = open_sound(self._path, read_chain(self._state_dir), self._clock.wall_ns(), vfs=self._vfs)
        self.salvage = salvage or self.salvage
        if self.boot.id:
            try:
                with db:
                    reconcile(db, self.boot, self._next, self._clock.wall_ns())
            except BaseException:
                db.close(True)
                raise
        return db

    def _admitted(self, db: apsw.Connection, packed: Sequence[tuple[Stream, int, Content]]) -> list[bool]:
        """Which of these fit, after making room for them; raises STORE_FULL under `reject`."""
        kept: list[bool] = []
        sizes: list[int] = []
        now_ns = self._clock.wall_ns()
        for stream, _, content in packed:
            size = len(content.payload) if isinstance(content, Block) else 0
            fits = self._retention.make_room(db, stream, [*sizes, size], self._boots, now_ns)
            kept.append(fits)
            if fits:
                sizes.append(size)
        alarms = any(stream is Stream.ALARM for stream, _, _ in packed)
        if self._retention.when_full == "reject" and not all(kept) and not alarms:
            raise StorageError("STORE_FULL", f"{self._path}: the budget of the spool is used up", path=str(self._path))
        return kept

    def _store(
        self, db: apsw.Connection, lane: Lane, count: int, content: Content, catalogue: int, *, keep: bool
    ) -> Lane:
        """Adds what comes next in a lane, or the gap in its place; returns the lane's new numbers."""
        now_ns = self._clock.wall_ns()
        first_seq, last_seq = lane.next_seq, lane.next_seq + count - 1
        if isinstance(content, Block) and not keep:
            content = Gap("STORE_FULL", count, content.t_min_ns, content.t_max_ns)
        if isinstance(content, Gap):
            put_gap(db, lane, first_seq, last_seq, content, now_ns)
            count_loss(db, self.boot.id, lane.stream, content, now_ns)
        else:
            insert(db, lane.boot, lane.stream, first_seq, last_seq, content, catalogue, now_ns)
        return replace(lane, next_seq=last_seq + 1, at_ns=now_ns)

    def _fresh_lane(self, stream: Stream) -> Lane:
        return fresh_lane(self.boot, stream, self._clock.wall_ns())

    def _note_handed(self, found: Outgoing) -> None:
        """Remembers, far ahead and so rarely, which numbers may have left this machine."""
        moved = outgoing.handed_lanes(found, self._boots)
        if moved:
            with self._file.write() as db:
                for lane in moved:
                    set_lane(db, lane)

    def _declare_damaged(self, damaged: Iterable[tuple[Lane, Row]]) -> None:
        now_ns = self._clock.wall_ns()
        with self._file.write() as db:
            for lane, row in damaged:
                run(db, "DELETE FROM items WHERE row = ?", (row.row,))
                lost = fill_holes(db, lane, self._boots[lane.boot], "STORE_CORRUPT", now_ns)
                log.warning("spool.damaged_item", path=str(self._path), row=row.row, lost=lost)

    def _tidy(self) -> None:
        """Checkpoints, prunes and gives pages back; a failure here is met again by the next call that matters."""
        try:
            self._file.steps(self._tidy_steps)
        except StorageError as error:
            log.debug("spool.tidy_failed", path=str(self._path), reason=error.reason)

    def _tidy_steps(self, db: apsw.Connection) -> None:
        self._retention.checkpoint(db)
        if self.commits % _PRUNE_EVERY == 0:
            while self._retention.prune(db, self._clock.wall_ns()):
                self._retention.checkpoint(db)
            self._retention.vacuum(db)
