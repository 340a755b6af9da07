"""Any order of appends, reads, acknowledgements, restarts and rewinds agrees with a model in three dictionaries."""

import os
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from twinedge.spool.inspect import verify
from twinmodel.errors import StorageError
from twinmodel.signal import Stream
from twinsync.item import Gap, Mark, NotAcquired, Outage
from twinsync.kept import samples_of

from .conftest import Bench

STREAMS = st.sampled_from(Stream)
DISK = 1 << 20


class SpoolModel(RuleBasedStateMachine):
    """`next` and `acked` mirror what was given and acknowledged by (boot, stream); `handed` what was once read."""

    when_full = "drop_oldest"

    def __init__(self):
        super().__init__()
        shm = Path("/dev/shm")
        self.folder = tempfile.TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None)
        self.bench = Bench(Path(self.folder.name) / "state")
        self.next, self.acked, self.handed = {}, {}, {}
        self.acked_samples = 0
        self.spool = None

    @initialize()
    def start(self):
        self.spool = self.bench.open(DISK, self.when_full)

    @rule(stream=STREAMS, count=st.sampled_from([1, 5, 40]))
    def append_little(self, stream, count):
        self.grow(stream, count)

    @rule(stream=STREAMS, rounds=st.integers(1, 12))
    def append_much(self, stream, rounds):
        for _ in range(rounds):
            self.grow(stream, 6000)

    def grow(self, stream, count):
        key = self.spool.boot.id, stream
        try:
            first, last = self.bench.append(self.spool, stream, count, noisy=True)
        except StorageError as error:
            if (self.when_full, error.reason, error.facts["declared"]) != ("reject", "STORE_FULL", count):
                raise
            first, last = self.next.get(key, 0), self.next.get(key, 0) + count - 1
        assert first == self.next.get(key, 0)
        self.next[key] = last + 1

    @rule()
    def declare(self):
        self.spool.append_many([], self.bench.catalogue, [NotAcquired("press", "DEVICE_UNREACHABLE", 1, 2)])
        key = self.spool.boot.id, Stream.STATE
        self.next[key] = self.next.get(key, 0) + 1

    @rule(items_max=st.integers(1, 20))
    def read(self, items_max):
        for item in self.spool.unsent(bytes_max=1 << 20, items_max=items_max):
            self.handed[item.boot, item.stream, item.first_seq] = item.last_seq

    @rule(part=st.integers(0, 4))
    def acknowledge(self, part):
        """The first items of every lane, and for luck a mark inside the next one."""
        items = self.bench.everything(self.spool)
        for key in {(i.boot, i.stream) for i in items}:
            lane = [i for i in items if (i.boot, i.stream) == key][:part]
            if lane:
                self.acked_samples += sum(samples_or_record(i) for i in lane)
                mark = Mark(*key, lane[-1].last_seq + 1)
                self.spool.acknowledge([mark])
                self.acked[key] = mark.next_seq

    @rule()
    def restart(self):
        if self.spool.boot.counter > 20:
            return
        self.spool.close()
        self.spool = self.bench.open(DISK, self.when_full)
        assert self.spool.salvage is None
        self.next[self.spool.boot.id, Stream.STATE] = 1

    @invariant()
    def ranges_are_those_of_the_model(self):
        if self.spool is not None:
            held = {(r.boot, r.stream): (r.first_unacked, r.next_seq) for r in self.spool.ranges()}
            expected = {k: (self.acked.get(k, 0), n) for k, n in self.next.items() if self.acked.get(k, 0) < n}
            assert held == expected
            assert self.spool.disk_bytes() <= DISK

    def teardown(self):
        if self.spool is not None:
            items = self.bench.everything(self.spool)
            held = sum(samples_or_record(i) for i in items)
            lost = sum(line.samples for line in self.spool.ledger())
            assert sum(self.next.values()) == held + self.acked_samples + lost, "appended = held + acked + lost"
            assert {line.reason for line in self.spool.ledger()} <= {"STORE_FULL", "THINNED"}
            verify(self.bench.folder)
            for item in items:
                known = self.handed.get((item.boot, item.stream, item.first_seq))
                assert known in {None, item.last_seq}, "what was handed out keeps its extent"
                assert not isinstance(item.content, Outage | NotAcquired) or item.count == 1
                assert not isinstance(item.content, Gap) or item.content.reason in {"STORE_FULL", "THINNED"}
            assert self.spool.backlog().items == len(items)
            self.spool.close()
        self.folder.cleanup()


def samples_or_record(item):
    return 1 if isinstance(item.content, Outage | NotAcquired) else samples_of(item)


class ThinModel(SpoolModel):
    when_full = "thin"


class DropNewestModel(SpoolModel):
    when_full = "drop_newest"


class RejectModel(SpoolModel):
    when_full = "reject"


SETTINGS = settings(max_examples=6, stateful_step_count=10, deadline=None)
TestDropOldest = SpoolModel.TestCase
TestDropOldest.settings = SETTINGS
TestThin = ThinModel.TestCase
TestThin.settings = SETTINGS
TestDropNewest = DropNewestModel.TestCase
TestDropNewest.settings = SETTINGS
TestReject = RejectModel.TestCase
TestReject.settings = SETTINGS
