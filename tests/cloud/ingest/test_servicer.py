"""Sessions between the real sender and the real servicer over mTLS: items, acknowledgements, restarts, trouble."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import replace

from structlog.testing import capture_logs

from tests.cloud.ingest.link import (
    AUTHORITY,
    CLIENT,
    Coordinator,
    dialling,
    stop,
    uplink,
)
from tests.cloud.ingest.memory import (
    CATALOGUE,
    GATEWAY,
    MemorySpool,
    running,
    until,
)
from twincloud.ingest.limits import IngestLimits
from twincloud.storage.contract import GatewayKey
from twinmodel.clock import SECOND_NS, ClockQuality
from twinmodel.errors import StorageError
from twinmodel.signal import Catalogue, Signal, Stream
from twinsync.channel import open_channel
from twinsync.envelope import down_from_proto, up_to_proto
from twinsync.item import Boot
from twinsync.session import ServerLimits
from twinsync.session.messages import PROTOCOL, Hello, Reject
from twinsync.v1.sync_pb2_grpc import SyncStub


async def test_items_travel_once_and_are_acknowledged_after_the_commit():
    spool = MemorySpool().boot()
    for _ in range(20):
        spool.append()
    async with Coordinator().up() as coordinator:
        sender = uplink(coordinator, spool)
        async with running(sender.run()):
            await until(lambda: not spool.unacked)
            assert sender.status().connected
            spool.append()
            sender.wake()
            await until(lambda: not spool.unacked)
            assert sender.status().items_acked == 21
    store = coordinator.store
    assert len(store.history) == len(set(store.history)) == 63
    assert set(store.history) == spool.ids()
    assert coordinator.committed[0][0] == GATEWAY


async def test_new_items_arrive_far_below_two_seconds():
    spool = MemorySpool().boot()
    async with Coordinator().up() as coordinator, dialling(coordinator, spool) as sender:
        await until(lambda: sender.status().connected)
        for _ in range(5):
            spool.append()
            sender.wake()
            await until(lambda: not spool.unacked, 2.0)
            assert 0 < sender.status().ack_ns < SECOND_NS


async def test_exactly_once_while_coordinator_and_agent_restart():
    spool = MemorySpool()
    coordinator = Coordinator()
    for _ in range(4):
        spool.boot()
        for stream in Stream:
            for _ in range(15):
                spool.append(stream=stream)
        async with coordinator.up(), dialling(coordinator, spool):
            committed = coordinator.store.commits
            await until(lambda c=committed: coordinator.store.commits > c)
    async with coordinator.up(), dialling(coordinator, spool):
        await until(lambda: not spool.unacked)
    history = coordinator.store.history
    assert len(history) == len(set(history))
    assert set(history) == spool.ids()
    for key in spool.next_seq:
        numbers = [n for b, s, n in history if (b, s) == key]
        assert numbers == sorted(numbers)


async def test_a_coordinator_that_stops_tells_each_gateway_a_time_of_its_own_to_come_back():
    keys = [replace(GATEWAY, gateway=f"gw-{n}") for n in range(3)]
    boot = Boot(b"b" * 16, b"", 1, 0, ClockQuality.SYNCED)
    hello = up_to_proto(Hello(PROTOCOL, PROTOCOL, "test", (boot,), (), 0, 0, ClockQuality.SYNCED, (), ()))
    async with (
        Coordinator(limits=IngestLimits(returns_per_s=1)).up() as coordinator,
        contextlib.AsyncExitStack() as stack,
        asyncio.timeout(100),
    ):
        calls = []
        for key in keys:
            credentials = AUTHORITY.gateway(key)
            channel = await stack.enter_async_context(open_channel(f"localhost:{coordinator.port}", credentials))
            calls.append(SyncStub(channel).Session())
            await calls[-1].write(hello)
        await until(lambda: coordinator.servicer.connected == set(keys))
        await coordinator.servicer.drain()
        assert sorted([await wait_ns_of(call) for call in calls]) == [0, SECOND_NS, 2 * SECOND_NS]


async def wait_ns_of(call) -> int:
    """When the coordinator asks the peer of a call to come back."""
    while not isinstance(told := down_from_proto(await call.read()), Reject):
        pass
    assert told.reason == "RETRY_AFTER"
    return told.retry_after_ns


async def test_alarms_overtake_the_backlog():
    spool = MemorySpool().boot()
    for _ in range(50):
        spool.append(stream=Stream.BULK)
    spool.append(stream=Stream.ALARM)
    async with Coordinator().up() as coordinator, dialling(coordinator, spool):
        await until(lambda: not spool.unacked)
    assert coordinator.store.items[0].stream is Stream.ALARM


async def test_the_sender_comes_back_within_its_backoff_after_a_restart_of_the_coordinator():
    spool, coordinator = MemorySpool().boot(), Coordinator()
    with capture_logs() as logs:
        async with coordinator.up():
            sender = uplink(coordinator, spool)
            task = asyncio.create_task(sender.run())
            await until(lambda: sender.status().connected)
        await until(lambda: not sender.status().connected)
        await asyncio.sleep(1.0)
        async with coordinator.up():
            spool.append()
            await until(lambda: sender.status().connected)
            await until(lambda: not spool.unacked)
            assert sender.status().reconnects == 1
            await stop(task)
    told = [(e["event"], e.get("reason")) for e in logs if e["event"].startswith("coordinator")]
    assert told == [
        ("coordinator reached", None),
        ("coordinator lost", "RETRY_AFTER"),
        ("coordinator lost", "COORDINATOR_UNREACHABLE"),
        ("coordinator reached", None),
    ]


async def test_a_new_catalogue_goes_up_before_its_first_block():
    spool = MemorySpool().boot()
    spool.append()
    wider = Catalogue((*CATALOGUE.signals, Signal(2, "press.flow")))
    async with Coordinator().up() as coordinator, dialling(coordinator, spool) as sender:
        await until(lambda: not spool.unacked)
        spool.append(catalogue=wider)
        sender.wake()
        await until(lambda: not spool.unacked)
    assert set(coordinator.store.catalogues) == {CATALOGUE.digest, wider.digest}
    assert coordinator.store.dead == []


async def test_credit_bounds_what_waits_here_and_its_exhaustion_pauses_the_sender():
    limits = IngestLimits(window_bytes=4 * 1024, window_items=8, pending_bytes_max=2 * 1024)
    spool = MemorySpool().boot()
    for _ in range(40):
        spool.append()
    async with Coordinator(limits=limits).up() as coordinator, dialling(coordinator, spool) as sender:
        coordinator.store.gate.clear()
        try:
            await until(lambda: sender.status().items_sent >= 8)
            await asyncio.sleep(0.2)
            assert sender.status().items_sent == 8
            assert coordinator.servicer.pending_bytes <= 4 * 1024
            spool.append()  # sampling goes on
        finally:
            coordinator.store.gate.set()
        await until(lambda: not spool.unacked)
    assert set(coordinator.store.history) == spool.ids()
    assert coordinator.servicer.pending_bytes == 0


async def test_a_full_disk_of_the_coordinator_acknowledges_nothing_and_heals_by_itself():
    spool, coordinator = MemorySpool().boot(), Coordinator(limits=IngestLimits(retry_after_ns=SECOND_NS // 10))
    async with coordinator.up(), dialling(coordinator, spool) as sender:
        await until(lambda: sender.status().connected)
        coordinator.store.failure = StorageError("STORE_FULL", "no space left")
        spool.append()
        sender.wake()
        await until(lambda: sender.status().reason == "RETRY_AFTER")
        assert "STORE_FULL" in sender.status().last_error
        assert spool.unacked
        coordinator.store.failure = None
        await until(lambda: not spool.unacked)
    assert set(coordinator.store.history) == spool.ids()


async def test_a_bug_in_the_store_ends_one_session_and_not_the_service():
    other = GatewayKey("acme", "plant-a", "gw-2")
    spool, neighbour, coordinator = MemorySpool().boot(), MemorySpool(seed=2).boot(), Coordinator()
    commit_many = coordinator.store.commit_many

    def broken(requests, received_ns):
        if GATEWAY in [gateway for gateway, _, _ in requests]:
            raise RuntimeError("bug")
        return commit_many(requests, received_ns)

    coordinator.store.commit_many = broken
    spool.append()
    neighbour.append()
    async with coordinator.up(), dialling(coordinator, spool) as sender:
        await until(lambda: sender.status().reason == "RETRY_AFTER")
        async with dialling(coordinator, neighbour, AUTHORITY.gateway(other)):
            await until(lambda: not neighbour.unacked)


async def test_a_restored_coordinator_gets_the_acknowledged_tail_again():
    spool, coordinator = MemorySpool().boot(), Coordinator()
    for _ in range(10):
        spool.append()
    async with coordinator.up(), dialling(coordinator, spool):
        await until(lambda: not spool.unacked)
    store = coordinator.store
    key = (spool.boots[0].id, Stream.TELEMETRY)
    store.marks[(GATEWAY, *key)] = 12
    store.history = [entry for entry in store.history if entry[2] < 12]
    async with coordinator.up(), dialling(coordinator, spool):
        await until(lambda: len(store.history) == 30)
    assert spool.rewound == 1
    assert set(store.history) == spool.ids()


async def test_heartbeats_tell_the_backlog_and_an_away_gateway_is_noted():
    coordinator = Coordinator(limits=IngestLimits(session=ServerLimits(heartbeat_ns=SECOND_NS // 2), beat_s=0.05))
    async with coordinator.up():
        async with dialling(coordinator, MemorySpool().boot()) as sender:
            await until(lambda: coordinator.store.beats >= 3)
            assert coordinator.servicer.connected == {GATEWAY}
            assert sender.status().connected
        await until(lambda: coordinator.store.closed == [1])
        assert coordinator.servicer.connected == frozenset()


async def test_a_gateway_that_is_gone_before_its_session_is_open_is_noted_as_away():
    coordinator, asked, answered = Coordinator(), threading.Event(), threading.Event()
    open_sessions = coordinator.store.open_sessions

    def slowly(hellos, now_ns):
        asked.set()
        answered.wait(30)
        return open_sessions(hellos, now_ns)

    coordinator.store.open_sessions = slowly
    async with coordinator.up(), open_channel(f"localhost:{coordinator.port}", CLIENT) as channel:
        call = SyncStub(channel).Session()
        boot = Boot(bytes(16), b"", 1, 0, ClockQuality.SYNCED)
        await call.write(up_to_proto(Hello(PROTOCOL, PROTOCOL, "test", (boot,), (), 0, 0, ClockQuality.SYNCED, (), ())))
        await until(asked.is_set)
        call.cancel()
        await until(lambda: not coordinator.servicer._open)
        answered.set()
        await until(lambda: coordinator.store.closed == [1])
        assert coordinator.servicer.connected == frozenset()
