"""Sessions between the real sender and the real servicer over mTLS, with store and spool in memory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from dataclasses import replace
from random import Random

import crc32c
import grpc
import grpc.aio
import pytest
from cryptography import x509
from structlog.testing import capture_logs

from tests.cloud.ingest.memory import (
    CATALOGUE,
    CLOCK,
    GATEWAY,
    Authority,
    MemorySpool,
    MemoryStore,
    SilentDownlink,
    running,
    until,
)
from twincloud.downlink.mailbox import Mailbox
from twincloud.ingest.limits import IngestLimits
from twincloud.ingest.servicer import SyncServicer, serve
from twincloud.storage.contract import Directive, GatewayKey, Wish
from twinedge.uplink.sender import Uplink
from twinmodel.clock import MILLISECOND_NS, SECOND_NS
from twinmodel.errors import MissingError, StorageError, UnreachableError
from twinmodel.signal import Catalogue, Signal, Stream
from twinsync.backoff import Backoff
from twinsync.channel import open_channel, peer_identity
from twinsync.directive import DirectiveState, Outcome
from twinsync.envelope import down_from_proto
from twinsync.session import ServerLimits
from twinsync.session.messages import Coarsen
from twinsync.v1 import sync_pb2
from twinsync.v1.sync_pb2_grpc import SyncStub

AUTHORITY = Authority()
SERVER = AUTHORITY.server()
CLIENT = AUTHORITY.gateway()


class Coordinator:
    def __init__(self, store=None, limits=None) -> None:
        self.store = store or MemoryStore()
        self.limits = limits or IngestLimits()
        self.revoked: set[str] = set()
        self.committed: list = []
        self.port = 0
        self.servicer: SyncServicer | None = None

    @contextlib.asynccontextmanager
    async def up(self, credentials=SERVER):
        self.servicer = SyncServicer(
            self.store,
            Mailbox(self.store, CLOCK),
            clock=CLOCK,
            on_commit=lambda gateway, commit: self.committed.append((gateway, commit)),
            is_revoked=self.revoked.__contains__,
            limits=self.limits,
        )
        async with serve(self.servicer, f"localhost:{self.port}", credentials) as port:
            self.port = port
            yield self


def uplink(coordinator, spool, credentials=CLIENT, downlink=None):
    return Uplink(
        f"localhost:{coordinator.port}",
        credentials if callable(credentials) else lambda: credentials,
        spool,
        downlink or SilentDownlink(),
        clock=CLOCK,
        random=Random(1),
        agent_version="test",
        backoff=Backoff(Random(1), base_ns=50 * MILLISECOND_NS, cap_ns=400 * MILLISECOND_NS),
    )


@contextlib.asynccontextmanager
async def dialling(*args, **kwargs):
    sender = uplink(*args, **kwargs)
    async with running(sender.run()):
        yield sender


async def stop(task) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def raw_channel(coordinator, options):
    ours = grpc.ssl_channel_credentials(CLIENT.roots, CLIENT.key, CLIENT.chain)
    return grpc.aio.secure_channel(f"localhost:{coordinator.port}", ours, options=options)


async def code_of(call):
    with contextlib.suppress(grpc.aio.AioRpcError):
        while await call.read() is not grpc.aio.EOF:
            pass
    return await call.code()


async def gather(chunks) -> bytes:
    return b"".join([content async for _, _, content in chunks])


def directive(name: str, version: int) -> Directive:
    return Directive(name, GATEWAY, "MODEL", "tank", version, "m@1", "00" * 32, 10, 0, "me", 0)


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
            await until(lambda: sender.status().connected, 3.0)
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


async def test_of_two_agents_with_one_identity_the_newer_session_fences_the_older():
    spool, clone = MemorySpool().boot(), MemorySpool().boot()
    async with Coordinator().up() as coordinator:
        first, second = uplink(coordinator, spool), uplink(coordinator, clone)
        async with running(first.run()):
            await until(lambda: first.status().connected)
            async with running(second.run()):
                await until(lambda: first.status().reason == "FENCED")
                assert not first.status().connected
                assert first.status().wait_ns >= 60 * SECOND_NS
                clone.append()
                second.wake()
                await until(lambda: not clone.unacked)


async def test_a_session_fenced_in_the_store_is_told_at_its_next_commit():
    spool = MemorySpool().boot()
    async with Coordinator().up() as coordinator, dialling(coordinator, spool) as sender:
        await until(lambda: sender.status().connected)
        coordinator.store.sessions[GATEWAY] += 1
        spool.append()
        sender.wake()
        await until(lambda: sender.status().reason == "FENCED")
    assert coordinator.store.history == []


async def test_a_disk_that_never_had_the_last_boot_is_a_fork_and_keeps_its_items():
    spool = MemorySpool().boot()
    async with Coordinator().up() as coordinator:
        async with dialling(coordinator, spool) as sender:
            await until(lambda: sender.status().connected)
        stranger = MemorySpool(seed=2).boot()
        stranger.append()
        async with dialling(coordinator, stranger) as sender:
            await until(lambda: sender.status().reason == "IDENTITY_FORK")
            assert sender.status().needs_operator
            assert len(stranger.unacked) == 1


async def test_an_expired_certificate_is_told_by_its_name():
    expired = AUTHORITY.gateway(days=-1)
    async with Coordinator().up() as coordinator, dialling(coordinator, MemorySpool().boot(), expired) as sender:
        await until(lambda: sender.status().last_error != "")
        assert sender.status().last_error == (
            "CERT_EXPIRED: this gateway's certificate has expired, the coordinator does not answer to it"
        )
        assert sender.status().needs_operator


async def test_a_renewed_certificate_is_used_at_once_when_the_agent_says_so():
    chain = [AUTHORITY.gateway(days=-1)]
    async with Coordinator().up() as coordinator:
        sender = uplink(coordinator, MemorySpool().boot(), lambda: chain[0])
        async with running(sender.run()):
            await until(lambda: sender.status().reason == "CERT_EXPIRED")
            chain[0] = CLIENT
            sender.retry_now()
            await until(lambda: sender.status().connected)


async def test_a_certificate_of_a_foreign_authority_does_not_get_in():
    foreign = Authority("foreign").gateway(roots=AUTHORITY.pem)
    async with Coordinator().up() as coordinator, dialling(coordinator, MemorySpool().boot(), foreign) as sender:
        await until(lambda: sender.status().reason == "COORDINATOR_UNREACHABLE")
        assert not coordinator.store.sessions


async def test_a_coordinator_of_a_foreign_authority_is_not_believed():
    coordinator = Coordinator()
    other = Authority("foreign").issue([x509.DNSName("localhost")], roots=AUTHORITY.pem)
    async with coordinator.up(other), dialling(coordinator, MemorySpool().boot()) as sender:
        await until(lambda: sender.status().reason == "COORDINATOR_UNREACHABLE")
        assert "CERTIFICATE_VERIFY_FAILED" in sender.status().last_error


@pytest.mark.parametrize(
    "names",
    [
        [x509.DNSName("gw-1")],
        [x509.UniformResourceIdentifier("spiffe://elsewhere/t/acme/s/plant-a/gw/gw-1")],
        [x509.UniformResourceIdentifier("spiffe://hybridtwin/t/acme/gw/gw-1")],
        [
            x509.UniformResourceIdentifier("spiffe://hybridtwin/t/acme/s/a/gw/gw-1"),
            x509.UniformResourceIdentifier("spiffe://hybridtwin/t/acme/s/b/gw/gw-2"),
        ],
    ],
)
async def test_a_certificate_without_exactly_one_gateway_name_is_refused(names):
    odd = AUTHORITY.issue(names)
    async with Coordinator().up() as coordinator, dialling(coordinator, MemorySpool().boot(), odd) as sender:
        await until(lambda: sender.status().reason == "CERT_INVALID")
        assert not coordinator.store.sessions


async def test_revocation_cuts_a_live_stream_and_keeps_it_out():
    async with Coordinator().up() as coordinator, dialling(coordinator, MemorySpool().boot()) as sender:
        await until(lambda: sender.status().connected)
        coordinator.revoked.add(peer_identity(CLIENT.chain).serial)
        coordinator.servicer.recheck()
        await until(lambda: sender.status().reason == "CERT_INVALID")
        sender.retry_now()
        await until(lambda: sender.status().reason == "CERT_INVALID" and not coordinator.servicer.connected)


class Unreadable(set):
    """Revocations that nobody can read now."""

    broken = False

    def __contains__(self, serial):
        if self.broken:
            raise StorageError("STORE_CORRUPT", "ledger.json: it is no ledger")
        return super().__contains__(serial)


async def test_revocations_that_cannot_be_read_cut_streams_and_not_the_service():
    coordinator = Coordinator(limits=IngestLimits(recheck_ns=MILLISECOND_NS, watch_s=0.01))
    coordinator.revoked = Unreadable()
    async with coordinator.up(), dialling(coordinator, MemorySpool().boot()) as sender:
        await until(lambda: sender.status().connected)
        coordinator.revoked.broken = True
        await until(lambda: not coordinator.servicer.connected)
        coordinator.revoked.broken = False
        sender.retry_now()
        await until(lambda: sender.status().connected)


async def test_a_suspended_gateway_is_cut_by_name():
    async with Coordinator().up() as coordinator, dialling(coordinator, MemorySpool().boot()) as sender:
        await until(lambda: sender.status().connected)
        coordinator.servicer.cut(GATEWAY, "SUSPENDED", "by its operator")
        await until(lambda: sender.status().last_error == "SUSPENDED: by its operator")


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


async def test_a_stream_that_says_nothing_is_cut_and_others_are_served():
    limits = IngestLimits(session=ServerLimits(hello_timeout_ns=SECOND_NS // 5))
    spool, coordinator = MemorySpool().boot(), Coordinator(limits=limits)
    spool.append()
    async with coordinator.up(), open_channel(f"localhost:{coordinator.port}", CLIENT) as channel:
        calls = [SyncStub(channel).Session() for _ in range(5)]
        async with dialling(coordinator, spool):
            await until(lambda: not spool.unacked)
        for call in calls:
            answer = down_from_proto(await asyncio.wait_for(call.read(), 5))
            assert answer.reason == "PROTOCOL_VIOLATION"


async def test_forty_sockets_that_never_speak_tls_are_cut_within_six_seconds_while_others_are_served():
    spool = MemorySpool().boot()
    spool.append()
    async with Coordinator().up() as coordinator, asyncio.timeout(20):
        silent = [await asyncio.open_connection("localhost", coordinator.port) for _ in range(40)]
        opened_ns = CLOCK.boot_ns()
        async with dialling(coordinator, spool) as sender:
            await until(lambda: not spool.unacked)
            served_ns = CLOCK.boot_ns()
            ends = asyncio.gather(*(reader.read() for reader, _ in silent))
            await asyncio.wait_for(ends, 6)
            assert sender.status().connected
        for _, writer in silent:
            writer.close()
        assert served_ns - opened_ns < 4 * SECOND_NS


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


async def test_directives_are_delivered_once_a_session_and_at_once_when_notified():
    coordinator, downlink = Coordinator(), SilentDownlink()
    coordinator.store.directives["d1"] = directive("d1", 1)
    async with (
        coordinator.up(),
        dialling(coordinator, MemorySpool().boot(), downlink=downlink) as sender,
    ):
        await until(lambda: len(downlink.offered) == 1)
        coordinator.store.directives["d2"] = directive("d2", 2)
        coordinator.servicer.notify_directive(GATEWAY)
        await until(lambda: len(downlink.offered) == 2)
        assert [d.id for d in downlink.offered] == ["d1", "d2"]
        sender.report(DirectiveState("d2", Outcome.APPLIED, "", "", b"r" * 32, 5))
        await until(lambda: "d2" in coordinator.store.outcomes)
        assert coordinator.store.outcomes["d2"] == ("APPLIED", "", (b"r" * 32).hex())
        sender.report(DirectiveState("gone", Outcome.APPLIED, "", "", b"", 5))
        coordinator.servicer.notify_directive(GATEWAY)
        await asyncio.sleep(0.1)
        assert sender.status().connected


async def test_a_model_assigned_when_the_catalogue_comes_is_delivered_in_the_same_session():
    coordinator, downlink, spool = Coordinator(), SilentDownlink(), MemorySpool().boot()
    coordinator.store.defaults = (directive("d1", 1),)
    spool.append()
    async with coordinator.up(), dialling(coordinator, spool, downlink=downlink):
        await until(lambda: downlink.offered)
    assert [d.id for d in downlink.offered] == ["d1"]
    assert coordinator.store.sessions == {GATEWAY: 1}


async def test_a_model_assigned_when_a_known_gateway_comes_back_is_delivered_in_that_session():
    coordinator, downlink, spool = Coordinator(), SilentDownlink(), MemorySpool().boot()
    coordinator.store.catalogues[CATALOGUE.digest] = CATALOGUE
    coordinator.store.defaults = (directive("d1", 1),)
    async with coordinator.up(), dialling(coordinator, spool, downlink=downlink):
        await until(lambda: downlink.offered)
    assert coordinator.store.sessions == {GATEWAY: 1}


async def test_outcomes_are_told_at_the_start_of_a_session():
    coordinator, downlink = Coordinator(), SilentDownlink()
    coordinator.store.directives["d1"] = directive("d1", 1)
    downlink.kept = [DirectiveState("d1", Outcome.REJECTED, "UNKNOWN_TWIN", "no such twin", b"", 5)]
    async with coordinator.up(), dialling(coordinator, MemorySpool().boot(), downlink=downlink):
        await until(lambda: coordinator.store.outcomes.get("d1") == ("REJECTED", "UNKNOWN_TWIN", ""))


async def test_artifacts_come_from_any_offset_and_only_to_their_tenant():
    blob = bytes(range(256)) * 4000
    digest = hashlib.sha256(blob).digest()
    coordinator = Coordinator()
    coordinator.store.artifacts["acme", digest.hex()] = blob
    async with coordinator.up():
        sender = uplink(coordinator, MemorySpool().boot())
        with pytest.raises(UnreachableError):
            await gather(sender.fetch(digest, 0))
        async with running(sender.run()):
            await until(lambda: sender.status().connected)
            assert await gather(sender.fetch(digest, 0)) == blob
            assert await gather(sender.fetch(digest, 700_001)) == blob[700_001:]
            with pytest.raises(MissingError):
                await gather(sender.fetch(b"?" * 32, 0))
        stranger = uplink(coordinator, MemorySpool().boot(), AUTHORITY.gateway(GatewayKey("other", "s", "gw-1")))
        async with running(stranger.run()):
            await until(lambda: stranger.status().connected)
            with pytest.raises(MissingError):
                await gather(stranger.fetch(digest, 0))


async def test_a_wish_for_a_coarser_period_reaches_the_spool_at_once_in_the_next_session_and_when_it_ends():
    spool = MemorySpool().boot()
    whole = Wish(Stream.BULK, "", 60 * SECOND_NS, 0, 1, "t")
    one = Wish(Stream.BULK, "press.p", 5 * SECOND_NS, 99, 2, "t")
    told = [Coarsen(Stream.BULK, 60 * SECOND_NS, 0), Coarsen(Stream.BULK, 5 * SECOND_NS, 99, "press.p")]
    async with Coordinator().up() as coordinator:
        async with dialling(coordinator, spool) as sender:
            await until(lambda: sender.status().connected)
            coordinator.store.wanted = [whole]
            coordinator.servicer.notify_directive(GATEWAY)
            await until(lambda: spool.wishes == told[:1])
            coordinator.store.wanted = [whole, one]
            coordinator.servicer.notify_directive(GATEWAY)
            await until(lambda: spool.wishes == told)
        spool.wishes.clear()
        async with dialling(coordinator, spool):
            await until(lambda: spool.wishes == told)
            coordinator.store.wanted = [one]
            coordinator.servicer.notify_directive(GATEWAY)
            await until(lambda: spool.wishes == [*told, Coarsen(Stream.BULK, 0, 0)])
