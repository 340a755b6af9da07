"""The spool: appends blocks durably, hands them out in order, deletes only what the coordinator has committed.

    append ─▶ [ items of this boot ] ─▶ unsent ─▶ coordinator ─▶ acknowledge ─▶ acked tail ─▶ pruned
                     │ disk full                                     ▲
                     └─▶ gap + loss ledger                  rewind ──┘ a coordinator restored from a backup

One thread calls it. When the disk refuses, a write raises a StorageError and has changed nothing, and reads go on: what
is stored can still be sent. A transaction whose commit failed is undone before the next one: nothing of it was handed
out, so that the caller's second try gets the same numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import apsw
import structlog

from twinedge.spool.boots import Start, put_boot, undo_boots_after
from twinedge.spool.catalogues import catalogue_bytes, keep_catalogue
from twinedge.spool.chain import read_chain, read_held, write_chain
from twinedge.spool.coarser import thin_as_wished
from twinedge.spool.connection import Connection
from twinedge.spool.forecast import BUDGET, pack_budget
from twinedge.spool.gaps import put_gap
from twinedge.spool.ledger import count_loss
from twinedge.spool.lock import locked
from twinedge.spool.packing import pack
from twinedge.spool.recover import ASIDE, Salvage, open_sound, reconcile
from twinedge.spool.restamp import put_right
from twinedge.spool.retention import Retention, beside
from twinedge.spool.rows import Lane, boots_of, fresh_lane, insert, lanes_of, set_lane, set_setting
from twinedge.spool.schema import FILE
from twinedge.spool.sending import Sending
from twinedge.spool.wishes import Wishes
from twinmodel.clock import Clock, ClockQuality
from twinmodel.errors import StorageError
from twinmodel.signal import Batch, Catalogue, Stream
from twinsync import limits
from twinsync.item import Block, Boot, Content, Gap, NotAcquired, Outage

_PRUNE_EVERY = 64
_PASSES = ("STORE_FULL", "STORE_READ_ONLY", "STORE_SYNC_FAILED")
"""What a disk says that may be well again later."""
_RECORD_BYTES = 128

log = structlog.get_logger(__name__)


class Spool(Sending):
    """See the module; made by `open`.

    Attributes:
        boot: the boot that numbers what is appended; without an id while a disk that refuses has not taken it.
        salvage: what was saved from a damaged file when it was opened, None when it was sound.
        commits: appends that are durable, since the start.
        wishes: what the coordinator can do without.
    """

    def __init__(self, state_dir: Path, lock: int, clock: Clock, retention: Retention, vfs: str | None) -> None:
        path = state_dir / FILE
        file = Connection(path, self._open, self._settle)
        super().__init__(path, file, clock, Boot(b"", b"", 0, 0, ClockQuality.UNSET), retention)
        self._state_dir = state_dir
        self._lock = lock
        self._vfs = vfs
        self.salvage: Salvage | None = None
        self.commits = 0
        self.wishes = Wishes()
        self._planned = Start(b"", 0, ClockQuality.UNSET)
        self._chain: list[Boot] = []
        self._held = 0
        self._began = 0
        self._traceless: tuple[NotAcquired, ...] = ()

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
        patient: bool = False,
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
            patient: whether a disk that refuses now is waited for, see `begin`.

        Raises:
            ConflictError: STATE_LOCKED while another process has it.
            StorageError: when the disk refuses and `patient` is false, or the file is of a newer version. A damaged
                file is no reason: it is set aside.
        """
        retention = Retention(state_dir / FILE, beside(state_dir / FILE, ASIDE), disk_max_bytes, when_full)
        lock = locked(state_dir)
        spool = cls(state_dir, lock, clock, retention, vfs)
        spool._planned = Start(rng_bytes(limits.BOOT_BYTES), clock.wall_ns(), clock_quality)
        try:
            spool.begin()
        except BaseException as error:
            if not (patient and isinstance(error, StorageError) and error.reason in _PASSES):
                spool.close()
                raise
        return spool

    def begin(self) -> None:
        """Starts the boot `open` planned, unless the disk has taken it: every append tries, and nothing has a number.

        Until then this spool holds what older boots left, as far as the disk can be read: that can be sent.

        Raises:
            StorageError: while the disk refuses.
        """
        if self.boot.id:
            return
        try:
            self._start(self._planned, outage=True)
        except StorageError:
            with suppress(StorageError):
                self._boots = {boot.counter: boot.id for boot in self._file.read(boots_of)}
            raise

    @property
    def failures(self) -> int:
        """Calls the disk refused, since the start."""
        return self._file.failures

    def put_catalogue(self, catalogue: Catalogue) -> None:
        """Stores the catalogue of the present configuration; appends do it by themselves, too.

        Raises:
            StorageError: STORE_FULL when it is larger than the budget lets it be, and what `append` says.
        """
        self.begin()
        if not self._file.steps(lambda db: self._fits(db, Stream.ALARM, [catalogue_bytes(db, catalogue)])):
            raise self._full("a catalogue")
        with self._file.write() as db:
            keep_catalogue(db, catalogue)

    def append(self, stream: Stream, batches: Sequence[Batch], catalogue: Catalogue) -> tuple[int, int]:
        """Stores samples of one stream; returns their first and last sequence number once they are durable.

        A sample's number is the first one of its block plus its place in canonical order, see `twinsync.block`.

        Raises:
            InputError: when a sample does not fit the catalogue.
            StorageError: see `append_many`.
        """
        first_seq = self._next.get(stream, 0)
        self.append_many([(stream, batches)], catalogue)
        return first_seq, self._next.get(stream, 0) - 1

    def append_many(
        self,
        parts: Sequence[tuple[Stream, Sequence[Batch]]],
        catalogue: Catalogue,
        records: Sequence[Outage | NotAcquired] = (),
        *,
        declare: bool = True,
    ) -> None:
        """Stores samples of several streams and declared holes in one durable transaction.

        Under `reject`, what does not fit is refused: it becomes a gap, what fits beside it is stored, and then
        STORE_FULL is raised with the fact `declared`, the number of samples the gaps stand for. Without `declare`
        nothing is stored and nothing declared, and the fact is `refused`: the caller still has its samples.

        Raises:
            InputError: when a sample does not fit the catalogue.
            StorageError: STORE_FULL (see above, or another process filled the disk), STORE_SYNC_FAILED,
                STORE_READ_ONLY, STORE_CORRUPT; without the fact `declared` nothing was stored, try again.
        """
        records = (*records, *self._traceless)
        ordered = sorted(parts, key=lambda part: part[0])
        packed = [(stream, *one) for stream, batches in ordered for one in pack(batches, catalogue)]
        if not packed and not records:
            return
        self.begin()
        kept, records_fit = self._file.steps(lambda db: self._admitted(db, packed, catalogue, len(records)))
        refused = 0
        if self._retention.when_full == "reject":
            refused = sum(count for (_, count, _), keep in zip(packed, kept, strict=True) if not keep)
            if refused and not declare:
                raise self._full(f"{refused} samples", refused=refused)
        self.wishes.begin()
        with self._file.write() as db:
            lanes = {Stream(lane.stream): lane for lane in lanes_of(db) if lane.boot == self.boot.counter}
            number = keep_catalogue(db, catalogue) if any(kept) else 0
            for (stream, count, content), keep in zip(packed, kept, strict=True):
                lane = lanes.get(stream) or self._fresh_lane(stream)
                lanes[stream] = self._store(db, lane, count, content, number, keep=keep)
                if keep and isinstance(content, Block) and self.wishes.asks(stream):
                    item = (stream, lane.next_seq)
                    thin_as_wished(db, self.wishes, self.boot, item, catalogue, self._clock.wall_ns())
            for record in records:
                lane = lanes.get(Stream.STATE) or self._fresh_lane(Stream.STATE)
                lanes[Stream.STATE] = self._store(db, lane, 1, record, 0, keep=records_fit)
            for stream in {*(p[0] for p in packed), *([Stream.STATE] if records else [])}:
                set_lane(db, lanes[stream])
        self.wishes.settle()
        self._traceless = ()
        self._next.update({stream: lane.next_seq for stream, lane in lanes.items()})
        self.commits += 1
        self._write_chain()
        self._tidy()
        if refused:
            raise self._full(f"{refused} samples", declared=refused)

    def disk_bytes(self) -> int:
        """Bytes the budget counts: database, log, shared index, and a damaged file set aside."""
        return self._retention.disk_bytes()

    def close(self) -> None:
        """Closes the file and lets the state directory go; the spool is of no use afterwards."""
        self._file.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def begin_boot(self, boot_id: bytes, quality: ClockQuality) -> None:
        """Goes on under a new boot, in one durable transaction: what waits of the present one becomes history.

        Numbers of one boot are committed in their order, so that what is measured now would have to wait behind all
        that an outage of the link left. Nothing was missed between the two: no outage is declared.

        Args:
            boot_id: 128 random bits.
            quality: how far the wall clock can be trusted now.

        Raises:
            StorageError: when the disk refuses; then the present boot goes on.
        """
        self._start(Start(boot_id, self._clock.wall_ns(), quality), outage=False)

    def put_right(self, span_ns: tuple[int, int], shift_ns: int) -> int:
        """Moves times inside `span_ns` by `shift_ns`: of what was written since the start and is not committed yet.

        Returns:
            How many samples and records were moved.

        Raises:
            StorageError: when the disk refuses; what was moved by then stays so.
        """
        lanes = self._file.read(lambda db: [lane for lane in lanes_of(db) if lane.boot >= self._began])
        moved = 0
        for lane in lanes:
            start: int | None = lane.acked_seq
            while start is not None:
                with self._file.write() as db:
                    count, start = put_right(db, lane, start, span_ns, shift_ns)
                moved += count
        return moved

    def _start(self, start: Start, *, outage: bool) -> None:
        """Writes a new boot and, with `outage`, what was missed between the one before it and its start."""
        with self._file.write() as db:
            since_ns = None if self.salvage is None else self.salvage.since_ns
            boot, numbers = put_boot(db, start, outage=outage, since_ns=since_ns)
            set_setting(db, BUDGET, pack_budget(self._retention.disk_max_bytes, self._retention.when_full))
            boots = boots_of(db)
            held = [lane.boot for lane in lanes_of(db) if lane.acked_seq < lane.next_seq]
        self._next, self.boot = numbers, boot
        self._began = self._began or boot.counter
        self._boots = {one.counter: one.id for one in boots}
        self._chain, self._held = boots, min(held, default=boot.counter)
        self._write_chain()

    def _write_chain(self) -> None:
        """Keeps the chain beside the file, too; the boot is durable without it, so a refusal is only tried again."""
        if not self._chain:
            return
        try:
            write_chain(self._state_dir, self._chain, self._held)
        except StorageError as error:
            log.debug("spool.chain_waits", path=str(self._path), reason=error.reason)
        else:
            self._chain = []

    def _open(self, *, damaged: bool) -> apsw.Connection:
        """Opens the file; one that was damaged is replaced by what could be read of it."""
        now_ns = self._clock.wall_ns()
        chain, held = read_chain(self._state_dir), read_held(self._state_dir)
        db, salvage = open_sound(self._path, chain, now_ns, held=held, damaged=damaged, vfs=self._vfs)
        self.salvage = salvage or self.salvage
        if salvage is not None and salvage.since_ns is not None and self.boot.id:
            # No outage of a start will say it: the next append does.
            self._traceless = (NotAcquired("*", "STORE_CORRUPT", salvage.since_ns, now_ns),)
        self._retention.coarser.restart()
        return db

    def _settle(self, db: apsw.Connection) -> None:
        """Makes a file that was opened anew agree with what the running boot has promised, before it is written."""
        if self.boot.id:
            self._retention.checkpoint(db, above_bytes=0)
            with db:
                undo_boots_after(db, self.boot)
                reconcile(db, self.boot, self._next, self._clock.wall_ns())

    def _fits(self, db: apsw.Connection, stream: Stream, sizes: list[int]) -> bool:
        return self._retention.make_room(db, stream, sizes, self._boots, self._clock.wall_ns())

    def _full(self, what: str, **facts: int) -> StorageError:
        text = f"{self._path}: {what} do not fit, the budget of the spool is used up"
        return StorageError("STORE_FULL", text, hint=None, path=str(self._path), **facts)

    def _admitted(
        self, db: apsw.Connection, packed: Sequence[tuple[Stream, int, Content]], catalogue: Catalogue, records: int
    ) -> tuple[list[bool], bool]:
        """Which of these fit, after making room for them; and whether the records do, which may use the reserve."""
        kept: list[bool] = []
        sizes = [catalogue_bytes(db, catalogue)] if packed else []
        for stream, _, content in packed:
            size = len(content.payload) if isinstance(content, Block) else 0
            fits = self._fits(db, stream, [*sizes, size])
            kept.append(fits)
            if fits:
                sizes.append(size)
        return kept, not records or self._fits(db, Stream.ALARM, [*sizes, _RECORD_BYTES * records])

    def _store(
        self, db: apsw.Connection, lane: Lane, count: int, content: Content, catalogue: int, *, keep: bool
    ) -> Lane:
        """Adds what comes next in a lane, or the gap in its place; returns the lane's new numbers."""
        now_ns = self._clock.wall_ns()
        first_seq, last_seq = lane.next_seq, lane.next_seq + count - 1
        if not keep and not isinstance(content, Gap):
            if isinstance(content, Block):
                times = (content.t_min_ns, content.t_max_ns)
            else:
                times = (content.from_ns, content.to_ns)
            content = Gap("STORE_FULL", count, *times)
        if isinstance(content, Gap):
            put_gap(db, lane, first_seq, last_seq, content, now_ns)
            count_loss(db, self.boot.id, lane.stream, content, now_ns)
        else:
            insert(db, lane.boot, lane.stream, first_seq, last_seq, content, catalogue, now_ns)
        return replace(lane, next_seq=last_seq + 1, at_ns=now_ns)

    def _fresh_lane(self, stream: Stream) -> Lane:
        return fresh_lane(self.boot, stream, self._clock.wall_ns())

    def _tidy(self) -> None:
        """Checkpoints, prunes and gives pages back."""
        self._quietly(self._tidy_steps)

    def _tidy_steps(self, db: apsw.Connection) -> None:
        self._retention.checkpoint(db)
        if self.commits % _PRUNE_EVERY == 0:
            while self._retention.prune(db, self._boots, self._clock.wall_ns()):
                self._retention.checkpoint(db)
            self._retention.vacuum(db)
