"""Who may hold a session: fencing, forks, certificates, revocation, suspension."""

from __future__ import annotations

import pytest
from cryptography import x509

from tests.cloud.ingest.link import (
    AUTHORITY,
    CLIENT,
    Coordinator,
    dialling,
    uplink,
)
from tests.cloud.ingest.memory import (
    GATEWAY,
    Authority,
    MemorySpool,
    running,
    until,
)
from twincloud.ingest.limits import IngestLimits
from twinmodel.clock import MILLISECOND_NS, SECOND_NS
from twinmodel.errors import StorageError
from twinsync.channel import peer_identity


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
