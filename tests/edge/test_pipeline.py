"""The pipeline from driver to disk: what is committed, who is told, and that a refusing disk stops nothing."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest

from twinedge.config.numbers import Numbered
from twinedge.gate.gate import Gate
from twinedge.gate.rules import Rules
from twinedge.lanes import Lanes
from twinedge.pipeline import Pipeline
from twinedge.ports import Delivery, NotAcquired
from twinedge.replays import Replays
from twinedge.spool.store import Spool
from twinmodel.clock import ManualClock
from twinmodel.errors import StorageError
from twinmodel.signal import Batch, Catalogue, Kind, Signal, Stream
from twinsync import item
from twinsync.block import decode

S = 1_000_000_000
CATALOGUE = Catalogue((Signal(0, "d.state", stream=Stream.STATE), Signal(1, "d.slow", stream=Stream.TELEMETRY)))
WINDOWS = {Stream.ALARM: 0, Stream.STATE: S, Stream.TELEMETRY: 10 * S, Stream.BULK: 10 * S}


class Disk:
    """Stands for the spool: keeps what is committed, refuses while told to."""

    def __init__(self):
        self.rows = []
        self.records = []
        self.catalogues = []
        self.written = asyncio.Event()
        self.refused = asyncio.Event()
        self.full = False

    async def commit(self, flush, catalogue):
        await asyncio.sleep(0)
        if self.full:
            self.refused.set()
            raise StorageError("STORE_FULL", "no space")
        self.rows += [
            (catalogue.signals[s].name, t)
            for _, batches in flush.parts
            for b in batches
            for s, t in zip(b.signal.tolist(), b.t_ns.tolist(), strict=True)
        ]
        self.records += flush.records
        self.catalogues.append(catalogue)
        self.written.set()


@pytest.fixture
def clock():
    return ManualClock(boot_ns=100 * S)


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
async def pipeline(clock, disk):
    gate = Gate(Rules.none(2), clock)
    made = Pipeline(Replays([0]), gate, Lanes(WINDOWS), [], disk.commit, clock)
    await made.use(CATALOGUE)
    return made


def delivery(clock, *signals, told=None, t_ns=None, urgent=False):
    t_ns = clock.wall_ns() if t_ns is None else t_ns
    n = len(signals)
    batch = Batch.of(Kind.FLOAT, signals, [1.0] * n, [0] * n, [t_ns] * n)
    return Delivery("d", (batch,), None if told is None else lambda: told.append(1), urgent=urgent)


async def test_a_state_is_committed_after_its_window_and_its_delivery_told(pipeline, clock, disk):
    told = []
    await pipeline.put(delivery(clock, 0, told=told))
    assert await pipeline.commit(everything=False)
    assert disk.rows == []
    clock.advance(S)
    await pipeline.commit(everything=False)
    assert [name for name, _ in disk.rows] == ["d.state"]
    assert told == [1]


async def test_an_urgent_delivery_is_committed_at_once(pipeline, clock, disk):
    told = []
    await pipeline.put(delivery(clock, 1, told=told, urgent=True))
    await pipeline.commit(everything=False)
    assert told == [1]


async def test_a_repeated_sample_is_acknowledged_and_not_stored_again(pipeline, clock, disk):
    told = []
    first, again = delivery(clock, 0, told=told), delivery(clock, 0, told=told)
    await pipeline.put(first)
    await pipeline.put(again)
    await pipeline.commit(everything=True)
    assert len(disk.rows) == 1
    assert told == [1, 1]


async def test_a_refusing_disk_keeps_samples_and_acknowledges_none_until_it_heals(pipeline, clock, disk):
    told = []
    disk.full = True
    await pipeline.put(delivery(clock, 0, told=told))
    assert not await pipeline.commit(everything=True)
    assert pipeline.trouble is not None
    assert pipeline.trouble.reason == "STORE_FULL"
    await pipeline.put(delivery(clock, 1, told=told))
    assert told == []
    disk.full = False
    assert await pipeline.commit(everything=True)
    assert pipeline.trouble is None
    assert sorted(name for name, _ in disk.rows) == ["d.slow", "d.state"]
    assert told == [1, 1]


async def test_a_spool_that_refuses_by_policy_declares_all_but_what_a_broker_still_holds(clock):
    told, declared = [], []

    async def commit(flush, _):
        if not flush.declare:
            raise StorageError("STORE_FULL", "no budget", refused=len(flush))
        declared.extend(s for _, batches in flush.parts for b in batches for s in b.signal.tolist())
        raise StorageError("STORE_FULL", "no budget", declared=len(flush))

    held = Lanes(WINDOWS)
    made = Pipeline(Replays(), Gate(Rules.none(2), clock), held, [], commit, clock)
    await made.use(CATALOGUE)
    await made.put(delivery(clock, 0, told=told))
    await made.put(delivery(clock, 1))
    assert not await made.commit(everything=True)
    assert (declared, told, len(held)) == ([1], [], 1)
    assert not await made.commit(everything=True)
    assert (declared, told, len(held)) == ([1], [], 1)
    assert made.trouble.reason == "STORE_FULL"


async def test_a_declared_hole_goes_with_the_next_commit(pipeline, disk):
    await pipeline.put(NotAcquired("d", "DEVICE_UNREACHABLE", 5, 9))
    await pipeline.commit(everything=False)
    assert [(r.device, r.reason, r.from_ns, r.to_ns) for r in disk.records] == [("d", "DEVICE_UNREACHABLE", 5, 9)]


async def test_what_was_buffered_is_stored_under_the_catalogue_it_came_with(pipeline, clock, disk):
    await pipeline.put(delivery(clock, 0, t_ns=clock.wall_ns()))
    grown = Catalogue((*CATALOGUE.signals, Signal(2, "twin/x#estimate", stream=Stream.STATE)))
    await pipeline.use(grown)
    await pipeline.put(delivery(clock, 1))
    while await pipeline.commit(everything=True) and len(pipeline._lanes):
        continue
    assert [name for name, _ in disk.rows] == ["d.state", "d.slow"]
    assert disk.catalogues == [CATALOGUE, grown]


async def test_a_new_catalogue_waits_for_no_disk(pipeline, clock, disk):
    disk.full = True
    await pipeline.put(delivery(clock, 0))
    grown = Catalogue((*CATALOGUE.signals, Signal(2, "twin/x#estimate", stream=Stream.STATE)))
    await pipeline.use(grown)
    await pipeline.put(delivery(clock, 1))
    assert not await pipeline.commit(everything=True)
    disk.full = False
    while await pipeline.commit(everything=True) and len(pipeline._lanes):
        continue
    assert (disk.catalogues, len(disk.rows)) == ([CATALOGUE, grown], 2)


async def test_a_signal_that_moves_in_the_catalogue_keeps_its_number_and_one_that_goes_its_last_samples(
    pipeline, clock, disk
):
    first = Numbered.first(CATALOGUE)
    await pipeline.use(CATALOGUE, first)
    moved = Catalogue((replace(CATALOGUE.signals[1], id=0), Signal(1, "d.new")))
    second = first.next(moved)
    assert {name: s.id for name, s in second.signals.items()} == {CATALOGUE.signals[1].name: 1, "d.new": 2}
    pipeline._gate.use(Rules.none(len(second)), second.begun)
    await pipeline.use(moved, second)
    for number in (1, 0, 2):
        await pipeline.put(delivery(clock, number))
    while await pipeline.commit(everything=True) and len(pipeline._lanes):
        continue
    assert sorted(name for name, _ in disk.rows) == sorted([*(s.name for s in CATALOGUE.signals), "d.new"])
    assert pipeline.strays == 0


async def test_flush_commits_by_itself_and_ends_after_the_commit_that_runs(clock, disk):
    gate = Gate(Rules.none(2), clock)
    eager = Pipeline(Replays(), gate, Lanes(dict.fromkeys(Stream, 0)), [], disk.commit, clock)
    await eager.use(CATALOGUE)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        flushing = group.create_task(eager.flush())
        await eager.put(delivery(clock, 0))
        await disk.written.wait()
        eager.end()
        await flushing
    assert eager.commits == 1


class Runner:
    """Stands for a twin whose model fails while told to."""

    def __init__(self, twin):
        self.wiring = SimpleNamespace(twin=twin, inputs={}, outputs={"level": 0})
        self.fails = False
        self.runs = 0
        self.begun = 0

    def publish_as(self, catalogue): ...

    def push(self, batch, now_ns): ...

    def meet(self, batch, now_ns, *, resting):
        return None

    def withdraw(self, now_ns):
        return []

    def start_over(self):
        self.begun += 1

    def close(self, watermark_ns):
        if self.fails:
            raise ValueError("a defect")
        self.runs += 1

    def due(self):
        return []


async def test_a_model_that_fails_rests_and_stops_neither_samples_nor_other_models(clock, disk):
    broken, sound = Runner("a"), Runner("b")
    made = Pipeline(Replays(), Gate(Rules.none(2), clock), Lanes(WINDOWS), [broken, sound], disk.commit, clock)
    await made.use(CATALOGUE)
    broken.fails = True
    await made.put(delivery(clock, 0, urgent=True))
    broken.fails = False
    await made.put(delivery(clock, 0, urgent=True))
    assert (broken.runs, broken.begun, sound.runs) == (0, 1, 2)
    clock.advance(61 * S)
    await made.put(delivery(clock, 0, urgent=True))
    assert broken.runs == 1
    await made.commit(everything=True)
    assert len(disk.rows) == 3


async def test_small_deliveries_go_through_the_gate_together_and_each_is_told(clock, disk):
    passed, told = [], []

    class Counting(Gate):
        def apply(self, batch):
            passed.append(len(batch))
            return super().apply(batch)

    made = Pipeline(Replays(), Counting(Rules.none(2), clock), Lanes(WINDOWS), [], disk.commit, clock)
    await made.use(CATALOGUE)
    for _ in range(3):
        await made.put(delivery(clock, 0, 1))
    for _ in range(2):
        await made.put(delivery(clock, 0, told=told))
    assert passed == []
    await made.commit(everything=True)
    assert passed == [6, 2]
    assert len(disk.rows) == 8
    assert told == [1, 1]


async def test_samples_that_trip_a_defect_are_declared_and_the_rest_is_stored(clock, tmp_path):
    told = []
    spool = Spool.open(tmp_path, clock=clock, rng_bytes=os.urandom, disk_max_bytes=1 << 24, when_full="thin")

    async def commit(flush, catalogue):
        spool.append_many(flush.parts, catalogue, flush.records, declare=flush.declare)

    made = Pipeline(Replays(), Gate(Rules.none(2), clock), Lanes(WINDOWS), [], commit, clock)
    await made.use(CATALOGUE)
    word = Batch.of(Kind.STRING, [0], ["a number was announced"], [0], [clock.wall_ns()])
    await made.put(Delivery("d", (word,), lambda: told.append("word")))
    await made.put(delivery(clock, 0, 1, told=told))
    assert await made.commit(everything=True)
    assert told == ["word", 1]
    contents = [one.content for one in spool.unsent(bytes_max=1 << 20, items_max=10)]
    assert sorted(type(content).__name__ for content in contents) == ["Block", "Block", "NotAcquired"]
    (record,) = [content for content in contents if isinstance(content, item.NotAcquired)]
    assert (record.device, record.reason, record.from_ns) == ("*", "VALUE_INVALID", word.t_ns[0])
    samples = [
        one for content in contents if isinstance(content, item.Block) for one in decode(content.payload, CATALOGUE)
    ]
    assert sorted(s for batch in samples for s in batch.signal.tolist()) == [0, 1]
    spool.close()


async def test_a_defect_of_the_spool_costs_one_flush_and_is_declared(clock, disk):
    told = []

    async def commit(flush, catalogue):
        if flush.parts and not told:
            raise ZeroDivisionError("a defect")
        await disk.commit(flush, catalogue)

    made = Pipeline(Replays(), Gate(Rules.none(2), clock), Lanes(WINDOWS), [], commit, clock)
    await made.use(CATALOGUE)
    await made.put(delivery(clock, 0, told=told))
    assert await made.commit(everything=True)
    assert (disk.rows, told) == ([], [1])
    assert [(one.device, one.reason) for one in disk.records] == [("*", "INTERNAL")]
    await made.put(delivery(clock, 1))
    assert await made.commit(everything=True)
    assert [name for name, _ in disk.rows] == ["d.slow"]


async def test_a_defect_that_even_records_trip_ends_the_flush_loudly(clock):
    async def commit(flush, catalogue):
        raise ZeroDivisionError("a defect")

    made = Pipeline(Replays(), Gate(Rules.none(2), clock), Lanes(WINDOWS), [], commit, clock)
    await made.use(CATALOGUE)
    await made.put(delivery(clock, 0, urgent=True))
    with pytest.raises(ZeroDivisionError):
        await made.flush()


async def test_a_defect_in_the_gate_is_declared_and_its_deliveries_told(clock, disk):
    told = []

    class Broken(Gate):
        def apply(self, batch):
            raise ZeroDivisionError("a defect")

    made = Pipeline(Replays(), Broken(Rules.none(2), clock), Lanes(WINDOWS), [], disk.commit, clock)
    await made.use(CATALOGUE)
    await made.put(delivery(clock, 0, told=told))
    await made.commit(everything=True)
    assert told == [1]
    assert [(one.device, one.reason) for one in disk.records] == [("*", "INTERNAL")]


async def test_whatever_becomes_of_the_models_all_that_was_gathered_is_stored_and_told(
    clock, disk, pipeline, monkeypatch
):
    told = []

    def trips(arrived=()):
        raise ZeroDivisionError("a defect")

    await pipeline.put(delivery(clock, 1))
    await pipeline.put(delivery(clock, 0, told=told, t_ns=clock.wall_ns() + 1))
    await pipeline.put(delivery(clock, 1))
    monkeypatch.setattr(pipeline, "_estimate", trips)
    with pytest.raises(ZeroDivisionError):
        await pipeline.commit(everything=True)
    assert await pipeline.commit(everything=True)
    assert sorted(name for name, _ in disk.rows) == ["d.slow", "d.slow", "d.state"]
    assert told == [1]


async def test_watchers_see_gated_samples_and_a_defect_in_one_stops_nothing(pipeline, clock, disk):
    class Watcher:
        def __init__(self):
            self.seen, self.catalogues = [], []

        def use(self, catalogue):
            self.catalogues.append(catalogue)

        def see(self, batches):
            self.seen += [s for b in batches for s in b.signal.tolist()]

    class Broken(Watcher):
        def use(self, catalogue):
            raise KeyError("defect")

        see = use

    watcher = Watcher()
    pipeline.watchers += [Broken(), watcher]
    await pipeline.use(CATALOGUE)
    await pipeline.put(delivery(clock, 0, 1))
    await pipeline.commit(everything=True)
    assert (watcher.seen, watcher.catalogues, len(disk.rows)) == ([0, 1], [CATALOGUE], 2)


async def test_records_of_the_agent_itself_go_past_the_gate_to_the_disk(pipeline, clock, disk):
    pipeline.record([Batch.of(Kind.FLOAT, [0], [1.0], [0], [7])])
    await pipeline.commit(everything=True)
    assert disk.rows == [("d.state", 7)]
