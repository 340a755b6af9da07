"""A full spool becomes coarser over the whole outage: alarms whole, a point a minute of every signal, all declared."""

import numpy as np
import pytest

from twinedge.spool.inspect import verify
from twinmodel.signal import Batch, Kind, Stream
from twinsync import block
from twinsync.item import Block, Gap, Mark
from twinsync.kept import numbers_of, samples_of

DISK = 1 << 20
SIGNALS, SECONDS = 4, 60
MINUTE_NS = 60 * 10**9


class Outage:
    """Appends one noisy block a minute, 10 Hz, and an alarm each tenth; remembers every value by its number."""

    def __init__(self, bench):
        self.bench = bench
        self.minutes = set()
        self.peak = 0

    def minute(self, spool, stream=Stream.TELEMETRY):
        count = SIGNALS * SECONDS * 10
        self.bench.clock.advance(MINUTE_NS - self.bench.clock.wall_ns() % MINUTE_NS)
        start_ns = self.bench.clock.wall_ns()
        signal = np.repeat(np.arange(SIGNALS, dtype=np.uint32), count // SIGNALS)
        t_ns = start_ns + np.tile(np.arange(count // SIGNALS) * 100_000_000, SIGNALS)
        value = np.random.default_rng(len(self.minutes)).random(count)
        first, _ = spool.append(
            stream, [Batch(Kind.FLOAT, signal, value, np.zeros(count, np.uint16), t_ns)], self.bench.catalogue
        )
        self.bench.stored |= {(spool.boot.id, stream, first + k): v for k, v in enumerate(value.tolist())}
        self.minutes |= {(s, start_ns // MINUTE_NS) for s in range(SIGNALS)}
        if len(self.minutes) % 10 == 0:
            self.bench.append(spool, Stream.ALARM, 5)
        self.peak = max(self.peak, spool.disk_bytes())


def minutes_held(bench, items):
    found = set()
    for item in items:
        if isinstance(item.content, Block) and item.stream is Stream.TELEMETRY:
            for batch in block.decode(item.content.payload, bench.catalogue):
                found |= set(zip(batch.signal.tolist(), (batch.t_ns // MINUTE_NS).tolist(), strict=True))
    return found


def test_whole_outage_keeps_a_point_a_minute_and_alarms_whole(bench):
    spool = bench.open(DISK, "thin")
    outage = Outage(bench)
    for _ in range(250):
        outage.minute(spool)
    items = bench.everything(spool)
    assert outage.peak <= DISK
    assert minutes_held(bench, items) == outage.minutes
    telemetry = [i for i in items if i.stream is Stream.TELEMETRY]
    assert len(telemetry) == 250
    assert all(isinstance(i.content, Block) for i in telemetry)
    assert not telemetry[0].content.kept == telemetry[-1].content.kept == b""
    alarms = [i for i in items if i.stream is Stream.ALARM]
    assert alarms
    assert all(i.content.kept == b"" for i in alarms)
    (line,) = spool.ledger()
    assert (line.reason, line.stream, line.samples) == ("THINNED", Stream.TELEMETRY, bench.gaps(items))
    assert spool.backlog().samples == sum(samples_of(i) for i in items)
    verify(bench.folder)
    spool.close()


def test_thinned_block_keeps_its_numbers_its_times_and_the_extremes_over_a_restart(bench):
    spool = bench.open(DISK, "thin")
    outage = Outage(bench)
    for _ in range(60):
        outage.minute(spool)
    before = [(i.first_seq, i.last_seq, i.content.t_min_ns) for i in spool.unsent(bytes_max=1 << 30, items_max=999)]
    old = spool.boot.id
    spool.close()
    spool = bench.open(DISK, "thin")
    for _ in range(60):
        outage.minute(spool)
    items = [i for i in bench.everything(spool) if i.boot == old]
    assert [(i.first_seq, i.last_seq, i.content.t_min_ns) for i in items] == before
    thinned = next(i for i in items if i.stream is Stream.TELEMETRY and i.content.kept)
    kept = set(numbers_of(thinned).tolist())
    for signal in range(SIGNALS):
        count = thinned.count // SIGNALS
        numbers = range(thinned.first_seq + signal * count, thinned.first_seq + (signal + 1) * count)
        values = [bench.stored[old, Stream.TELEMETRY, n] for n in numbers]
        assert {numbers[int(np.argmin(values))], numbers[int(np.argmax(values))]} <= kept
    spool.close()


def test_blocks_shorter_than_a_minute_share_its_extremes_and_the_rest_of_them_become_gaps(bench):
    spool = bench.open(DISK, "thin")
    for _ in range(90):
        bench.append(spool, Stream.TELEMETRY, 2000, noisy=True)
        assert spool.disk_bytes() <= DISK
    items = bench.everything(spool)
    assert {i.content.reason for i in items if isinstance(i.content, Gap)} == {"THINNED"}
    assert any(isinstance(i.content, Block) and i.content.kept for i in items)
    (line,) = spool.ledger()
    assert (line.reason, line.samples) == ("THINNED", bench.gaps(items))
    verify(bench.folder)
    spool.close()


def test_what_cannot_get_thinner_is_dropped_last_the_oldest_first_and_the_ledger_moves_with_it(bench):
    spool = bench.open(DISK, "thin")
    outage = Outage(bench)
    for _ in range(90):
        outage.minute(spool)
    assert {line.reason for line in spool.ledger()} == {"THINNED"}
    for _ in range(40):
        # Each sample in a minute of its own: nothing can go but whole blocks.
        value = np.random.default_rng(3).random(4000)
        t_ns = bench.clock.wall_ns() + np.arange(4000) * MINUTE_NS
        bench.clock.advance(4000 * MINUTE_NS)
        spool.append(
            Stream.TELEMETRY,
            [Batch(Kind.FLOAT, np.zeros(4000, np.uint32), value, np.zeros(4000, np.uint16), t_ns)],
            bench.catalogue,
        )
        assert spool.disk_bytes() <= DISK
    items = spool.unsent(bytes_max=1 << 30, items_max=9999)
    telemetry = [i for i in items if i.stream is Stream.TELEMETRY]
    assert isinstance(telemetry[0].content, Gap)
    assert isinstance(telemetry[-1].content, Block)
    assert {line.reason: line.samples for line in spool.ledger()}["STORE_FULL"] == sum(
        i.count for i in telemetry if isinstance(i.content, Gap)
    )
    assert sum(line.samples for line in spool.ledger()) == bench.gaps(items)
    verify(bench.folder)
    spool.close()


@pytest.mark.parametrize("when_full", ["thin", "drop_oldest", "drop_newest"])
def test_file_log_and_index_stay_below_the_cap_after_every_commit_also_of_acknowledgements(bench, when_full):
    spool = bench.open(DISK, when_full)
    sizes = []

    def after_commit(db, name, pages):
        sizes.append(spool.disk_bytes())
        return 0

    spool._file.read(lambda db: db.set_wal_hook(after_commit))
    outage = Outage(bench)
    for number in range(110):
        outage.minute(spool)
        for part in range(5 if number > 85 else 0):
            held = spool.ranges()[-1]
            spool.acknowledge([Mark(held.boot, held.stream, held.first_unacked + part)])
    assert len(sizes) > 150
    assert max(sizes) <= DISK
    spool.close()


def test_pruned_losses_stay_in_the_ledger_as_settled(bench):
    spool = bench.open(DISK, "thin")
    outage = Outage(bench)
    for _ in range(80):
        outage.minute(spool)
    lost = sum(line.samples for line in spool.ledger())
    spool.acknowledge([Mark(r.boot, r.stream, r.next_seq) for r in spool.ranges()])
    bench.clock.advance(25 * 3600 * 10**9)
    for _ in range(64):
        bench.append(spool, Stream.STATE, 1)
    (line,) = spool.ledger()
    assert line.samples == line.settled == lost > 0
    verify(bench.folder)
    spool.close()
