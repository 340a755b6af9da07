"""A gateway without a battery behind its clock: it boots in 1970, NTP comes ten minutes later, every time is right."""

from __future__ import annotations

import itertools
import random
from types import SimpleNamespace

import pytest

from twinedge.gate.gate import Gate
from twinedge.gate.rules import Rules
from twinedge.health.clock import ClockWatch
from twinedge.lanes import Lanes, windows_of
from twinedge.pipeline import Pipeline
from twinedge.ports import Delivery, NotAcquired
from twinedge.replays import Replays
from twinedge.spool.store import Spool
from twinedge.storage import Storage
from twinedge.telling import Telling
from twinmodel.clock import BUILD_NS, SECOND_NS, ClockQuality, ManualClock, round_to_step
from twinmodel.quality import GOOD, QualityReason, uncertain
from twinmodel.signal import Batch, Catalogue, Kind, Signal, Stream
from twinsync import block
from twinsync.item import Block, Mark
from twinsync.item import NotAcquired as Hole

START_NS = 20 * SECOND_NS
NTP_NS = BUILD_NS + 500 * 86_400 * SECOND_NS + 123_456_789
CATALOGUE = Catalogue((Signal(0, "d.level", stream=Stream.STATE), Signal(1, "d.slow", stream=Stream.TELEMETRY)))
CLOCK = uncertain(QualityReason.CLOCK)


class Gateway:
    """The stages of an agent from driver to disk, on clocks that are turned."""

    def __init__(self, folder):
        self.clock = ManualClock(START_NS, 7 * SECOND_NS)
        self.synchronised = False
        self.watch = ClockWatch(self.clock, folder, synchronised=lambda: self.synchronised, awake=self.clock.awake_ns)
        rules = Rules.none(2)
        rules.frozen_ns[1] = 3600 * SECOND_NS
        gate = Gate(rules, self.clock, self.watch.is_unset)
        self.lanes = Lanes(windows_of(SECOND_NS, 10 * SECOND_NS))
        self.pipeline = Pipeline(Replays({}), gate, self.lanes, [], self._commit, self.clock)
        self.told = SimpleNamespace(watch=self.watch, pipeline=self.pipeline, uplink=None, loops={})
        self.telling = Telling(self.told, None)

    async def open(self, folder):
        self.storage = self.told.storage = await Storage.open(
            lambda: Spool.open(
                folder, clock=self.clock, rng_bytes=random.Random(1).randbytes, disk_max_bytes=1 << 22,
                when_full="thin", clock_quality=self.watch.quality(),
            )
        )  # fmt: skip
        await self.pipeline.use(CATALOGUE)

    async def _commit(self, flush, catalogue):
        await self.storage.call(Spool.append_many, flush.parts, catalogue, flush.records, declare=flush.declare)

    async def poll(self, number, *, everything=False):
        """One poll of both signals, stamped as drivers do; the number is the value of the first."""
        times = [self.clock.wall_ns() // 10**6 * 10**6] * 2
        await self.pipeline.put(Delivery("d", (Batch.of(Kind.FLOAT, [0, 1], [number, 5.0], [GOOD] * 2, times),)))
        self.clock.advance(SECOND_NS)
        if everything or not number % 10:
            await self.pipeline.commit(everything=everything)

    async def look(self):
        await self.telling._look_at_time()

    async def stored(self):
        """(signal, value, quality, time) of all that waits, and declared holes."""
        items = await self.storage.call(lambda spool: spool.unsent(bytes_max=1 << 24, items_max=10_000))
        rows, holes = [], []
        for item in items:
            if isinstance(item.content, Hole):
                holes.append(item.content)
                continue
            assert isinstance(item.content, Block)
            batches = block.decode(item.content.payload, CATALOGUE)
            assert item.content.t_min_ns == min(int(b.t_ns.min()) for b in batches)
            assert item.last_seq - item.first_seq + 1 == sum(map(len, batches))
            rows += [
                row
                for b in batches
                for row in zip(b.signal.tolist(), b.value.tolist(), b.quality.tolist(), b.t_ns.tolist(), strict=True)
            ]
        return rows, holes


@pytest.fixture
async def gateway(tmp_path):
    made = Gateway(tmp_path)
    await made.open(tmp_path)
    yield made
    await made.storage.close()


async def test_all_that_waits_gets_its_time_when_the_clock_is_set_ten_minutes_later(gateway):
    assert gateway.watch.quality() is ClockQuality.UNSET
    offline = NotAcquired("d", "DEVICE_UNREACHABLE", START_NS + SECOND_NS, START_NS + 3 * SECOND_NS)
    await gateway.pipeline.put(offline)
    for number in range(600):
        await gateway.poll(float(number))
        await gateway.look()
    true_ns = NTP_NS - 600 * SECOND_NS
    gateway.clock.jump_wall(NTP_NS - gateway.clock.wall_ns())
    gateway.synchronised = True
    await gateway.poll(600.0)  # after the step and before anybody looked
    await gateway.look()
    for number in range(601, 620):
        await gateway.poll(float(number))
        await gateway.look()
    await gateway.pipeline.commit(everything=True)
    rows, holes = await gateway.stored()
    assert len(rows) == 2 * 620
    level = sorted((value, t_ns, code) for signal, value, code, t_ns in rows if signal == 0)
    apart = [abs(t_ns - (true_ns + round(value) * SECOND_NS)) for value, t_ns, _ in level]
    assert max(apart) < SECOND_NS
    assert max(apart[:600]) <= 10**6
    assert [code for *_, code in level] == [CLOCK] * 600 + [GOOD] * 20
    # The unchanged signal did not freeze for fifty years.
    assert {code for signal, _, code, _ in rows if signal == 1} == {CLOCK, GOOD}
    assert holes[0].from_ns == pytest.approx(true_ns + SECOND_NS, abs=10**6)
    assert gateway.watch.quality() is ClockQuality.SYNCED


async def test_what_the_coordinator_has_keeps_its_times_and_numbers_stay(gateway):
    for number in range(30):
        await gateway.poll(float(number))
    await gateway.pipeline.commit(everything=True)
    boot = (await gateway.storage.call(lambda spool: spool.unsent(bytes_max=1 << 24, items_max=99)))[0].boot
    mark = Mark(boot, Stream.STATE, 11)
    await gateway.storage.call(lambda spool: spool.acknowledge([mark]))
    before, _ = await gateway.stored()
    gateway.clock.jump_wall(NTP_NS)
    await gateway.look()
    after, _ = await gateway.stored()
    assert [(s, v, q) for s, v, q, _ in after] == [(s, v, q) for s, v, q, _ in before]
    assert {b[3] - a[3] for a, b in zip(before, after, strict=True)} == {round_to_step(NTP_NS, 10**6)}
    assert await gateway.storage.call(lambda spool: spool.put_right((0, 0), 5)) == 0


async def test_a_clock_that_is_set_twice_puts_right_twice_and_one_that_was_never_unset_never(gateway):
    await gateway.poll(0.0, everything=True)
    gateway.clock.jump_wall(1000 * SECOND_NS)
    await gateway.look()
    await gateway.poll(1.0, everything=True)
    gateway.clock.jump_wall(NTP_NS)
    await gateway.look()
    await gateway.poll(2.0, everything=True)
    gateway.clock.jump_wall(60 * SECOND_NS)
    await gateway.look()
    rows, _ = await gateway.stored()
    times = sorted(t_ns for signal, _, _, t_ns in rows if signal == 0)
    assert [b - a for a, b in itertools.pairwise(times)] == pytest.approx([SECOND_NS] * 2, abs=10**6)


async def test_a_disk_that_refuses_keeps_the_times_it_has_and_stops_nothing(gateway, monkeypatch):
    from twinmodel.errors import StorageError

    def refuse(self, span_ns, shift_ns):
        raise StorageError("STORE_FULL", "no space")

    await gateway.poll(0.0, everything=True)
    await gateway.poll(1.0)
    monkeypatch.setattr(Spool, "put_right", refuse)
    gateway.clock.jump_wall(NTP_NS)
    await gateway.look()
    await gateway.poll(2.0, everything=True)
    rows, _ = await gateway.stored()
    assert len(rows) == 6
    assert sum(t_ns < BUILD_NS for *_, t_ns in rows) == 2
