"""Peers that send what nobody can read, too much of it, or nothing at all."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import crc32c
import grpc
import grpc.aio
import pytest

from tests.cloud.ingest.link import (
    CLIENT,
    Coordinator,
    code_of,
    dialling,
    impatient,
    raw_channel,
)
from tests.cloud.ingest.memory import (
    MemorySpool,
    until,
)
from twincloud.ingest.limits import IngestLimits
from twinmodel.clock import SECOND_NS
from twinsync.channel import open_channel
from twinsync.envelope import down_from_proto
from twinsync.session import ServerLimits
from twinsync.v1 import sync_pb2
from twinsync.v1.sync_pb2_grpc import SyncStub


async def test_blocks_that_cannot_be_read_become_dead_letters_and_the_stream_goes_on():
    spool = MemorySpool().boot()
    good = spool.append()
    spool.append_content(replace(good.content, crc32c=good.content.crc32c ^ 1), 3)
    damaged = good.content.payload[:-1] + bytes([good.content.payload[-1] ^ 0xFF])
    spool.append_content(replace(good.content, payload=damaged, crc32c=crc32c.crc32c(damaged)), 3)
    spool.append_content(good.content, 4)
    spool.append_content(replace(good.content, schema=b"?" * 32), 3)
    spool.append()
    async with Coordinator().up() as coordinator, dialling(coordinator, spool) as sender:
        await until(lambda: not spool.unacked)
        assert sender.status().items_rejected == len(coordinator.store.dead)
    assert {number for number, _ in coordinator.store.dead} >= {3, 9, 13}
    assert dict(coordinator.store.dead)[3] == "BLOCK_CORRUPT"
    assert dict(coordinator.store.dead)[13] == "SCHEMA_UNKNOWN"
    assert set(coordinator.store.history) == spool.ids()


async def test_a_stream_that_says_nothing_is_cut_and_others_are_served():
    limits = IngestLimits(session=ServerLimits(hello_timeout_ns=SECOND_NS // 5))
    spool, coordinator = MemorySpool().boot(), Coordinator(limits=limits)
    spool.append()
    async with coordinator.up(), open_channel(f"localhost:{coordinator.port}", CLIENT) as channel:
        calls = [SyncStub(channel).Session() for _ in range(5)]
        async with dialling(coordinator, spool):
            await until(lambda: not spool.unacked)
        for call in calls:
            answer = down_from_proto(await asyncio.wait_for(call.read(), 60))
            assert answer.reason == "PROTOCOL_VIOLATION"


async def test_forty_sockets_that_never_speak_tls_are_cut_while_others_are_served(monkeypatch):
    impatient(monkeypatch)
    spool = MemorySpool().boot()
    spool.append()
    async with Coordinator().up() as coordinator, asyncio.timeout(100):
        silent = [await asyncio.open_connection("localhost", coordinator.port) for _ in range(40)]
        async with dialling(coordinator, spool) as sender:
            await until(lambda: not spool.unacked)
            # gRPC itself would wait for two minutes; a busy machine takes longer than the limit.
            await asyncio.wait_for(asyncio.gather(*(reader.read() for reader, _ in silent)), 40)
            assert sender.status().connected
        for _, writer in silent:
            writer.close()


@pytest.mark.parametrize(
    "raw",
    [
        sync_pb2.Up(),
        sync_pb2.Up(hello=sync_pb2.Hello(boots=[{"id": b"short"}])),
        sync_pb2.Up(items=sync_pb2.Items(items=[{"boot": b"x" * 16, "stream": 3, "last_seq": 2**63}])),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(raw):
    async with Coordinator().up() as coordinator, open_channel(f"localhost:{coordinator.port}", CLIENT) as channel:
        call = SyncStub(channel).Session()
        await call.write(raw)
        assert down_from_proto(await call.read()).reason == "PROTOCOL_VIOLATION"


async def test_a_message_beyond_the_bound_is_refused():
    async with Coordinator().up() as coordinator:
        options = [("grpc.max_send_message_length", -1)]
        async with raw_channel(coordinator, options) as channel:
            call = SyncStub(channel).Session()
            with contextlib.suppress(grpc.aio.AioRpcError):
                await call.write(sync_pb2.Up(hello=sync_pb2.Hello(agent_version="x" * (5 << 20))))
            assert await code_of(call) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not coordinator.store.sessions


async def test_gzip_is_not_accepted():
    async with Coordinator().up() as coordinator, raw_channel(coordinator, []) as channel:
        call = SyncStub(channel).Session(compression=grpc.Compression.Gzip)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call.write(sync_pb2.Up(hello=sync_pb2.Hello(agent_version="x" * 5000)))
        assert await code_of(call) in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)
    assert not coordinator.store.sessions


async def test_too_many_sessions_are_asked_to_come_back():
    coordinator = Coordinator(limits=IngestLimits(streams_max=0))
    async with coordinator.up(), dialling(coordinator, MemorySpool().boot()) as sender:
        await until(lambda: sender.status().reason == "RETRY_AFTER")
