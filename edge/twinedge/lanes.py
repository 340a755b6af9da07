"""Samples on their way to the spool: one bounded buffer a stream, flushed when its window has passed.

The window is the length of a block and what a power cut may cost (`sync` in site.yaml): alarms go at once, states
after a second, telemetry after ten. While the spool refuses, the newest samples stay here; what the bound pushes out
is declared, never silently dropped. A delivery that its sender wants acknowledged is never pushed out: a broker stops
at a few of them, and it would wait for ever for one that is gone.

Samples of several catalogues may lie here: a new configuration never waits for the disk to take what came before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from twinmodel.signal import Batch, Catalogue, Kind, Stream, concat
from twinsync.item import NotAcquired

SAMPLES_MAX = 200_000
BLOCK_SAMPLES_MAX = 50_000
UNACKNOWLEDGED_MAX = 64
"""Deliveries that may wait for their commit, whether or not their driver says it is urgent."""
ENTRIES_LOOSE = 1000
"""Entries of a lane beyond which small ones are joined: 200,000 batches of one sample take 150 MB, joined 5."""
JOINED_SAMPLES_MAX = 1000
RECORDS_MAX = 1024
"""Declared holes that are kept apart; beyond it those of one device become one."""


def windows_of(sync_ns: int, sync_telemetry_ns: int) -> dict[Stream, int]:
    """Longest time a sample waits for its commit, by stream, from the two windows of site.yaml."""
    return {
        Stream.ALARM: 0,
        Stream.STATE: sync_ns,
        Stream.TELEMETRY: sync_telemetry_ns,
        Stream.BULK: sync_telemetry_ns,
    }


class _Receipt:
    """Counts the lanes that still hold samples of what came together in one or several deliveries."""

    __slots__ = ("deliveries", "done", "lanes")

    def __init__(self, done: Callable[[], None], deliveries: int) -> None:
        self.done = done
        self.deliveries = deliveries
        self.lanes = 0

    def lane_committed(self) -> None:
        self.lanes -= 1
        if self.lanes == 0:
            self.done()


class Edition:
    """A catalogue and what its samples go by."""

    __slots__ = ("catalogue", "stream_of")

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.stream_of = np.array([s.stream for s in catalogue.signals], np.uint8)


@dataclass(frozen=True, slots=True)
class _Entry:
    batch: Batch
    receipt: _Receipt | None
    edition: Edition


@dataclass(frozen=True, slots=True)
class Flush:
    """What one commit shall hold.

    Attributes:
        parts: batches by stream, one per kind each.
        catalogue: what names their signals.
        records: declared holes.
        entries: where the parts came from, for `give_back` and `committed`.
        declare: whether a spool that refuses by policy is to declare what does not fit, see `Lanes.refused`.
    """

    parts: Sequence[tuple[Stream, list[Batch]]]
    catalogue: Catalogue
    records: tuple[NotAcquired, ...]
    entries: Mapping[Stream, tuple[_Entry, ...]]
    declare: bool = False

    def __len__(self) -> int:
        return sum(len(b) for _, batches in self.parts for b in batches)

    def committed(self) -> None:
        """Tells every delivery whose last sample is now durable."""
        for entries in self.entries.values():
            for entry in entries:
                if entry.receipt is not None:
                    entry.receipt.lane_committed()


class Lanes:
    """The buffers of one agent; all calls come from its event loop.

    Args:
        windows_ns: longest time a sample waits, by stream.
        samples_max: bound over all lanes.
    """

    def __init__(self, windows_ns: Mapping[Stream, int], samples_max: int = SAMPLES_MAX) -> None:
        self._windows_ns = dict(windows_ns)
        self._samples_max = samples_max
        self._entries: dict[Stream, deque[_Entry]] = {s: deque() for s in Stream}
        self._counts: dict[Stream, int] = dict.fromkeys(Stream, 0)
        self._since_ns: dict[Stream, int | None] = dict.fromkeys(Stream)
        self._records: list[NotAcquired] = []
        self._receipts = 0
        self._hurry = False
        self._edition = Edition(Catalogue(()))
        self.pushed_out = 0

    def __len__(self) -> int:
        return sum(self._counts.values())

    def use(self, catalogue: Catalogue) -> Edition:
        """Samples are of this catalogue from now on; those that are here keep theirs. Returns the edition before."""
        before, self._edition = self._edition, Edition(catalogue)
        return before

    def resize(self, windows_ns: Mapping[Stream, int]) -> None:
        """Other windows from now on, see `windows_of`."""
        self._windows_ns = dict(windows_ns)

    def add(
        self,
        batches: Iterable[Batch],
        boot_ns: int,
        done: Callable[[], None] | None = None,
        *,
        deliveries: int = 1,
        late: tuple[Edition, Sequence[Batch]] | None = None,
    ) -> None:
        """Sorts batches into their lanes; `done` is called once all of them are durable.

        Args:
            batches: samples of the present catalogue.
            boot_ns: when their windows begin.
            done: what their senders wait for.
            deliveries: how many wait for it.
            late: samples of an earlier catalogue that came with them.
        """
        receipt = _Receipt(done, deliveries) if done is not None else None
        for edition, sorted_ in ((self._edition, batches), *((late,) if late is not None else ())):
            for batch in sorted_:
                lane_of = edition.stream_of[batch.signal]
                for lane in np.unique(lane_of):
                    mine = lane_of == lane
                    entry = _Entry(batch if mine.all() else batch.take(mine), receipt, edition)
                    self._put(Stream(int(lane)), entry, boot_ns)
        if receipt is not None:
            if receipt.lanes:
                self._receipts += deliveries
            else:
                receipt.done()
        self._keep_bound()

    def _put(self, stream: Stream, entry: _Entry, boot_ns: int) -> None:
        if not self._joined(self._entries[stream], entry):
            self._entries[stream].append(entry)
        self._counts[stream] += len(entry.batch)
        if self._since_ns[stream] is None:
            self._since_ns[stream] = boot_ns
        if entry.receipt is not None:
            entry.receipt.lanes += 1

    @staticmethod
    def _joined(lane: deque[_Entry], entry: _Entry) -> bool:
        """Joins an entry to the newest one of its kind; the order of a signal's samples stays, it has one kind."""
        if len(lane) < ENTRIES_LOOSE or entry.receipt is not None:
            return False
        for back in range(1, len(Kind) + 1):
            last = lane[-back]
            if last.batch.kind is entry.batch.kind:
                fits = last.receipt is None and len(last.batch) + len(entry.batch) <= JOINED_SAMPLES_MAX
                if fits and last.edition is entry.edition:
                    lane[-back] = _Entry(concat((last.batch, entry.batch))[0], None, entry.edition)
                    return True
                return False
        return False

    def hurry(self) -> None:
        """Has everything that is there now committed at once: a broker waits for acknowledgements."""
        self._hurry = True

    def declare(self, record: NotAcquired) -> None:
        """Adds a declared hole to the next commit."""
        if len(self._records) >= RECORDS_MAX:
            for place, known in enumerate(self._records):
                if (known.device, known.reason) == (record.device, record.reason):
                    from_ns, to_ns = min(known.from_ns, record.from_ns), max(known.to_ns, record.to_ns)
                    self._records[place] = NotAcquired(record.device, record.reason, from_ns, to_ns)
                    return
        self._records.append(record)

    def put_right(self, span_ns: tuple[int, int], shift_ns: int) -> int:
        """Moves times inside `span_ns` by `shift_ns`: the clock that gave them was set. Returns how many samples."""
        moved = 0
        since_ns, until_ns = span_ns
        for lane in self._entries.values():
            for place, entry in enumerate(lane):
                wrong = (entry.batch.t_ns >= since_ns) & (entry.batch.t_ns <= until_ns)
                count = int(np.count_nonzero(wrong))
                if count:
                    t_ns = np.where(wrong, entry.batch.t_ns + shift_ns, entry.batch.t_ns)
                    lane[place] = replace(entry, batch=replace(entry.batch, t_ns=t_ns))
                    moved += count
        self._records = [
            replace(
                r,
                **{
                    name: t + shift_ns
                    for name in ("from_ns", "to_ns")
                    if since_ns <= (t := getattr(r, name)) <= until_ns
                },
            )
            for r in self._records
        ]
        return moved

    def due_ns(self) -> int | None:
        """Boot time at which the next lane must go, None while all are empty."""
        if self._records or self._hurry or self._receipts >= UNACKNOWLEDGED_MAX:
            return 0
        due = [
            0 if self._counts[s] >= BLOCK_SAMPLES_MAX else since + self._windows_ns[s]
            for s, since in self._since_ns.items()
            if since is not None
        ]
        return min(due, default=None)

    def take(self, boot_ns: int, *, everything: bool = False) -> Flush | None:
        """Takes the lanes whose window has passed, and with them every lane that holds an unacknowledged delivery.

        A flush is of one catalogue: where lanes begin with samples of different ones, the rest is taken next.
        """
        everything = everything or self._hurry or self._receipts >= UNACKNOWLEDGED_MAX
        self._hurry = False
        entries: dict[Stream, tuple[_Entry, ...]] = {}
        edition: Edition | None = None
        for stream, since in self._since_ns.items():
            full = self._counts[stream] >= BLOCK_SAMPLES_MAX
            if since is not None and (everything or full or since + self._windows_ns[stream] <= boot_ns):
                edition = edition or self._entries[stream][0].edition
                if self._entries[stream][0].edition is edition:
                    entries[stream] = self._pop(stream, edition)
                self._hurry |= (
                    everything and bool(self._entries[stream]) and self._entries[stream][0].edition != edition
                )
        if not entries and not self._records:
            return None
        self._count_receipts()
        records, self._records = tuple(self._records), []
        parts = [(stream, concat(e.batch for e in taken)) for stream, taken in entries.items()]
        return Flush(parts, (edition or self._edition).catalogue, records, entries)

    def _count_receipts(self) -> None:
        held = {id(e.receipt): e.receipt for lane in self._entries.values() for e in lane if e.receipt is not None}
        self._receipts = sum(receipt.deliveries for receipt in held.values())

    def _pop(self, stream: Stream, edition: Edition) -> tuple[_Entry, ...]:
        """The oldest entries of a lane, at most one block of them."""
        taken: list[_Entry] = []
        lane, count = self._entries[stream], 0
        while lane and lane[0].edition is edition and (not taken or count + len(lane[0].batch) <= BLOCK_SAMPLES_MAX):
            taken.append(lane.popleft())
            count += len(taken[-1].batch)
        self._counts[stream] -= count
        if not lane:
            self._since_ns[stream] = None
        return tuple(taken)

    def give_back(self, flush: Flush, boot_ns: int) -> None:
        """Puts back what the spool refused, in front of what came meanwhile."""
        for stream, entries in flush.entries.items():
            self._entries[stream].extendleft(reversed(entries))
            self._counts[stream] += sum(len(e.batch) for e in entries)
            self._since_ns[stream] = boot_ns
        self._records[:0] = flush.records
        self._count_receipts()
        self._keep_bound()

    def refused(self, flush: Flush, boot_ns: int) -> Flush | None:
        """Splits what a spool refuses by policy: a sender that waits for its acknowledgement goes on waiting.

        Returns:
            All the rest, alarms included, for a commit that declares what does not fit; None when there is none.
        """
        rest: dict[Stream, tuple[_Entry, ...]] = {}
        for stream, entries in flush.entries.items():
            waits = [e for e in entries if e.receipt is not None and stream is not Stream.ALARM]
            if waits:
                self._entries[stream].extendleft(reversed(waits))
                self._counts[stream] += sum(len(e.batch) for e in waits)
                self._since_ns[stream] = boot_ns
            if len(waits) < len(entries):
                rest[stream] = tuple(e for e in entries if e.receipt is None or stream is Stream.ALARM)
        self._count_receipts()
        if not rest and not flush.records:
            return None
        parts = [(stream, concat(e.batch for e in taken)) for stream, taken in rest.items()]
        return Flush(parts, flush.catalogue, flush.records, rest, declare=True)

    def _keep_bound(self) -> None:
        """Pushes out the oldest samples of the least important lane that has any to give, and declares them."""
        excess = len(self) - self._samples_max
        for stream in reversed(Stream):
            if excess <= 0:
                return
            lane, kept = self._entries[stream], deque[_Entry]()
            while lane and excess > 0:
                entry = lane.popleft()
                if entry.receipt is not None:
                    kept.append(entry)
                    continue
                excess -= len(entry.batch)
                self._counts[stream] -= len(entry.batch)
                self.pushed_out += len(entry.batch)
                self._declare_pushed_out(int(entry.batch.t_ns.min()), int(entry.batch.t_ns.max()))
            lane.extendleft(reversed(kept))
            if not lane:
                self._since_ns[stream] = None

    def _declare_pushed_out(self, from_ns: int, to_ns: int) -> None:
        last = self._records[-1] if self._records else None
        if last is not None and last.reason == "STORE_FULL" and last.device == "*":
            self._records[-1] = NotAcquired("*", "STORE_FULL", min(last.from_ns, from_ns), max(last.to_ns, to_ns))
        else:
            self.declare(NotAcquired("*", "STORE_FULL", from_ns, to_ns))
