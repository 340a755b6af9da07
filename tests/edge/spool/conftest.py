"""A spool on a fresh folder, batches with recognisable values, and checks every spool test shares."""

import os
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest

from twinedge.spool.store import Spool
from twinmodel.clock import ManualClock
from twinmodel.signal import Batch, Catalogue, Kind, Signal, Stream
from twinsync import block
from twinsync.item import Block, Gap, Item, Mark, NotAcquired, Outage
from twinsync.kept import numbers_of, samples_of

CATALOGUE = Catalogue(tuple(Signal(i, f"press.s{i}", Kind.FLOAT) for i in range(4)))


class Bench:
    """Opens spools of one folder.

    Attributes:
        stored: (boot, stream, seq) -> the value appended there.
        appended_ns: (boot, stream, first seq) -> last seq and time of what was appended at once.
    """

    catalogue = CATALOGUE

    def __init__(self, folder):
        self.folder = folder
        self.clock = ManualClock()
        self.rng = random.Random(7)
        self.noise = np.random.default_rng(7)
        self.values = 0
        self.stored = {}
        self.appended_ns = {}

    def open(self, disk_max_bytes=1 << 22, when_full="drop_oldest", **options):
        self.clock.advance(10**9)
        return Spool.open(
            self.folder,
            clock=self.clock,
            rng_bytes=self.rng.randbytes,
            disk_max_bytes=disk_max_bytes,
            when_full=when_full,
            **options,
        )

    def batch(self, count, noisy=False):
        """`count` samples of growing values; noisy ones do not compress."""
        value = np.arange(self.values, self.values + count, dtype=np.float64)
        self.values += count
        if noisy:
            value += self.noise.random(count)
        signal = np.sort(self.noise.integers(4, size=count, dtype=np.uint32))
        t_ns = self.clock.wall_ns() + np.arange(count) * 1_000_000
        return Batch(Kind.FLOAT, signal, value, np.zeros(count, np.uint16), t_ns)

    def append(self, spool, stream=Stream.TELEMETRY, count=10, noisy=False):
        batch = self.batch(count, noisy)
        self.clock.advance(10**9)
        first, last = spool.append(stream, [batch], CATALOGUE)
        assert last - first + 1 == count
        boot = spool.boot.id
        self.stored.update(((boot, stream, n), v) for n, v in enumerate(batch.value.tolist(), first))
        self.appended_ns[boot, stream, first] = last, self.clock.wall_ns()
        return first, last

    def everything(self, spool):
        """All unsent items, read in small steps, after checking order, continuity and every value."""
        items: list[Item] = []
        marks = {}
        while step := spool.unsent(marks.values(), bytes_max=20_000, items_max=7):
            items += step
            for item in step:
                marks[item.boot, item.stream] = Mark(item.boot, item.stream, item.last_seq + 1)
        held = {(r.boot, r.stream): (r.first_unacked, r.next_seq) for r in spool.ranges()}
        reached = {}
        for item in items:
            key = (item.boot, item.stream)
            start = reached.get(key, held[key][0])
            assert item.first_seq <= start if key not in reached else item.first_seq == start
            assert item.last_seq >= item.first_seq
            reached[key] = item.last_seq + 1
            self.check(item)
        assert reached == {key: end for key, (_, end) in held.items()}
        assert [i.stream for i in items] == sorted(i.stream for i in items)
        return items

    def check(self, item):
        if isinstance(item.content, Block):
            block.verify(item.content.payload, item.content.crc32c)
            assert item.content.schema == CATALOGUE.digest
            values = [v for b in block.decode(item.content.payload, CATALOGUE) for v in b.value.tolist()]
            assert len(values) == samples_of(item)
            boot, stream, stored = item.boot, item.stream, self.stored
            pairs = zip(numbers_of(item).tolist(), values, strict=True)
            assert not [n for n, value in pairs if value != stored.get((boot, stream, n), value)]
        elif isinstance(item.content, Gap):
            assert item.content.count == item.count

    def undeclared(self, items, acknowledged=()):
        """Samples that are neither there nor acknowledged nor declared, by number or by time."""
        there = {(i.boot, i.stream, n) for i in items for n in range(i.first_seq, i.last_seq + 1)}
        outages = [(i.content.from_ns, i.content.to_ns) for i in items if isinstance(i.content, Outage | NotAcquired)]
        below = {(mark.boot, mark.stream): mark.next_seq for mark in acknowledged}
        return [
            (boot, stream, n)
            for (boot, stream, first), (last, at_ns) in self.appended_ns.items()
            if not any(from_ns <= at_ns <= to_ns for from_ns, to_ns in outages)
            for n in range(max(first, below.get((boot, stream), 0)), last + 1)
            if (boot, stream, n) not in there
        ]

    @staticmethod
    def gaps(items):
        """Numbers that items declare lost: those of gaps, and those thinned out of blocks."""
        return sum(i.count - samples_of(i) for i in items if isinstance(i.content, Gap | Block))


@pytest.fixture
def memory_path():
    """A folder in memory where there is one: these tests commit thousands of times, and simulate their disks."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def bench(memory_path):
    return Bench(memory_path / "state")
