"""The writer over a store in memory: what waits goes into one transaction, and each gateway gets its own answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from tests.cloud.ingest.memory import CLOCK, MemorySpool, MemoryStore, running, until
from twincloud.ingest.limits import IngestLimits
from twincloud.ingest.writer import Ticket, Writer
from twincloud.storage.contract import Beat, GatewayKey
from twinmodel.clock import SECOND_NS
from twinmodel.errors import StorageError
from twinsync.command import Commandable
from twinsync.session.server import Refused, Stored


class Stream:
    """A stream that keeps what it is told."""

    def __init__(self, store: MemoryStore, name: str) -> None:
        self.gateway = GatewayKey("acme", "plant-a", name)
        self.alive = True
        self.told: list[Stored | Refused] = []
        self.spool = MemorySpool(seed=int(name.rpartition("-")[2])).boot()
        store.sessions[self.gateway] = 1
        store.catalogues |= self.spool.catalogues

    def feed(self, event) -> None:
        self.told.append(event)

    def ticket(self, blocks: int = 1, session: int = 1) -> Ticket:
        items = tuple(self.spool.append() for _ in range(blocks))
        return Ticket(self, session, items, 100 * blocks, 5)

    def beat(self, backlog: int = 0, session: int = 1) -> Beat:
        return Beat(self.gateway, session, 0, backlog, 0, (), 5)


class Bench:
    """A writer whose store waits at a gate."""

    def __init__(self, count: int, **limits) -> None:
        self.store = MemoryStore()
        self.streams = [Stream(self.store, f"gw-{n}") for n in range(count)]
        self.committed: list[GatewayKey] = []
        told = self.committed.append
        self.writer = Writer(self.store, CLOCK, lambda gateway, _: told(gateway), IngestLimits(**limits))

    async def gather(self, submit) -> None:
        """Has all that `submit` brings wait behind one commit, then lets that go."""
        first = Stream(self.store, "gw-1000")
        self.store.gate.clear()
        try:
            self.writer.submit(first.ticket())
            await until(lambda: not self.writer._decoded and not self.writer._waiting)
            before = self.writer.pending_bytes
            submit()
            await until(lambda: not self.writer._waiting and self.writer.pending_bytes > before)
            await asyncio.sleep(0.05)
        finally:
            self.store.gate.set()
        await until(lambda: self.writer.pending_bytes == 0)


@pytest.fixture
def bench():
    return Bench(8, beat_s=0.05)


async def test_what_waits_of_all_gateways_goes_into_one_transaction(bench):
    async with running(bench.writer.run()):
        await bench.gather(lambda: [bench.writer.submit(s.ticket(2)) for s in bench.streams for _ in range(3)])
    assert [len(group) for group in bench.store.groups] == [1, 8]
    for stream in bench.streams:
        (stored,) = stream.told
        assert (stored.items, stored.bytes, stored.nack) == (6, 600, None)
        assert stored.marks[0].next_seq == 18
    assert len(bench.store.history) == len(set(bench.store.history))
    assert sorted(bench.committed[1:]) == [s.gateway for s in bench.streams]


async def test_a_transaction_is_bounded_and_a_stream_keeps_its_order(bench, monkeypatch):
    monkeypatch.setattr("twincloud.ingest.writer._ITEMS_PER_COMMIT_MAX", 10)
    async with running(bench.writer.run()):
        await bench.gather(lambda: [bench.writer.submit(s.ticket(4)) for _ in range(3) for s in bench.streams])
    assert len(bench.store.groups) == 1 + 12
    for stream in bench.streams:
        assert [stored.marks[0].next_seq for stored in stream.told] == [12, 24, 36]


async def test_a_superseded_gateway_among_others_is_told_alone(bench):
    fenced = bench.streams[3]
    bench.store.sessions[fenced.gateway] = 2
    async with running(bench.writer.run()):
        await bench.gather(lambda: [bench.writer.submit(s.ticket()) for s in bench.streams])
    assert [len(group) for group in bench.store.groups] == [1, 8]
    (refused,) = fenced.told
    assert (type(refused), refused.reason) == (Refused, "FENCED")
    assert fenced.gateway not in bench.committed
    assert all(isinstance(s.told[0], Stored) for s in bench.streams if s is not fenced)


async def test_a_store_that_fails_acknowledges_nobody_and_says_so_once(bench):
    def fail() -> None:
        bench.store.failure = StorageError("STORE_FULL", "no space left")
        for stream in bench.streams:
            bench.writer.submit(stream.ticket())

    with capture_logs() as logs:
        async with running(bench.writer.run()):
            await bench.gather(fail)
            assert all([r.reason for r in s.told] == ["RETRY_AFTER"] for s in bench.streams)
            assert bench.store.history == []
            assert bench.committed == []
            bench.store.failure = None
            bench.writer.submit(Stream(bench.store, "gw-99").ticket())
            await until(lambda: bench.committed)
    assert [entry["event"] for entry in logs] == ["store refuses commits", "store takes commits again"]


async def test_a_gateway_that_trips_a_bug_is_refused_and_those_beside_it_are_committed(bench):
    commit_many, broken = bench.store.commit_many, bench.streams[2]

    def trip(requests, received_ns):
        if broken.gateway in [gateway for gateway, _, _ in requests]:
            raise RuntimeError("bug")
        return commit_many(requests, received_ns)

    bench.store.commit_many = trip
    with capture_logs() as logs:
        async with running(bench.writer.run()):
            await bench.gather(lambda: [bench.writer.submit(s.ticket()) for s in bench.streams])
    assert [r.reason for r in broken.told] == ["RETRY_AFTER"]
    assert all(isinstance(s.told[0], Stored) for s in bench.streams if s is not broken)
    assert [(e["event"], e["gateway"]) for e in logs] == [("ingest failed", "gw-2")]


async def test_what_a_stream_that_ended_left_behind_is_let_go(bench):
    def submit() -> None:
        for stream in bench.streams:
            bench.writer.submit(stream.ticket())
        bench.streams[0].alive = False

    async with running(bench.writer.run()):
        await bench.gather(submit)
    assert bench.streams[0].told == []
    assert bench.writer.pending_bytes == 0
    assert [len(group) for group in bench.store.groups] == [1, 7]


async def test_heartbeats_of_a_while_are_written_together_and_only_the_newest_of_each_gateway(bench):
    async with running(bench.writer.run()):
        for backlog in range(5):
            for stream in bench.streams:
                bench.writer.note(stream, stream.beat(backlog))
        await until(lambda: bench.store.beats)
        assert (bench.store.beats, bench.store.beat_writes, bench.store.backlog_samples) == (8, 1, 4)
        bench.writer.note(bench.streams[0], bench.streams[0].beat(9))
        await until(lambda: bench.store.backlog_samples == 9)
    assert bench.store.beat_writes == 2
    assert bench.store.groups == []


async def test_what_only_an_earlier_heartbeat_of_the_session_said_is_written_with_the_newest(bench):
    stream, said = bench.streams[0], (Commandable("d.x", True),)
    bench.store.failure = StorageError("STORE_FULL", "no space left")
    with capture_logs() as logs:
        async with running(bench.writer.run()):
            bench.writer.note(stream, replace(stream.beat(1), commandables=said, offset_ns=5))
            bench.writer.note(stream, stream.beat(2))
            await until(lambda: logs)
            bench.writer.note(stream, stream.beat(3))
            bench.store.failure = None
            await until(lambda: bench.store.backlog_samples == 3)
    assert bench.store.commandables == [said]


async def test_a_superseded_writer_finds_out_by_its_heartbeat(bench):
    bench.store.sessions[bench.streams[1].gateway] = 2
    async with running(bench.writer.run()):
        for stream in bench.streams:
            bench.writer.note(stream, stream.beat())
        await until(lambda: bench.streams[1].told)
    assert [len(s.told) for s in bench.streams] == [0, 1, 0, 0, 0, 0, 0, 0]
    assert bench.streams[1].told[0].reason == "FENCED"


async def test_heartbeats_a_full_disk_refuses_are_written_when_it_has_room_again(bench):
    bench.store.failure = StorageError("STORE_FULL", "no space left")
    with capture_logs() as logs:
        async with running(bench.writer.run()):
            bench.writer.note(bench.streams[0], bench.streams[0].beat(3))
            bench.writer.note(bench.streams[1], bench.streams[1].beat(4))
            await until(lambda: logs)
            bench.store.failure = None
            bench.writer.note(bench.streams[1], bench.streams[1].beat(5))
            await until(lambda: bench.store.beats == 2)
    assert all(stream.told == [] for stream in bench.streams)
    assert [entry["event"] for entry in logs] == ["store refuses commits", "store takes commits again"]


async def test_default_limits_write_heartbeats_well_within_what_people_are_promised():
    assert IngestLimits().beat_s * SECOND_NS < 2 * SECOND_NS
