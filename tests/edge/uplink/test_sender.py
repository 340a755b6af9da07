"""What the sender does without a coordinator; sessions with one are tested in tests/cloud/ingest."""

from __future__ import annotations

import itertools
import socket
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.cloud.ingest.memory import CLOCK, Authority, MemorySpool, SilentDownlink, running, until
from twinedge.uplink.closing import BOOTS_MAX, chain_of
from twinedge.uplink.sender import Uplink
from twinedge.uplink.status import Tally
from twinmodel.clock import MILLISECOND_NS, ClockQuality
from twinmodel.errors import ConflictError, StorageError
from twinsync.backoff import Backoff
from twinsync.channel import valid_until_ns
from twinsync.item import Boot
from twinsync.session import EdgeSession
from twinsync.session.edge import Close

AUTHORITY = Authority()
CLIENT = AUTHORITY.gateway()


def boot(number: int, previous: int | None = None) -> Boot:
    before = number - 1 if previous is None else previous
    return Boot(number.to_bytes(16, "big"), before.to_bytes(16, "big"), number, 0, ClockQuality.FREE)


def uplink(address: str, credentials=lambda: CLIENT, spool=None) -> Uplink:
    backoff = Backoff(Random(1), base_ns=20 * MILLISECOND_NS, cap_ns=40 * MILLISECOND_NS)
    spool = spool or MemorySpool().boot()
    return Uplink(
        address, credentials, spool, SilentDownlink(), clock=CLOCK, random=Random(1), agent_version="t", backoff=backoff
    )


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@given(st.integers(1, 400), st.sets(st.integers(1, 400), max_size=5))
def test_the_chain_told_has_no_hole_and_ends_with_the_present_boot(count, forgotten):
    boots = [boot(n) for n in range(1, count + 1) if n not in forgotten or n == count]
    chain = chain_of(boots)
    assert chain[-1].counter == count
    assert len(chain) <= BOOTS_MAX
    for older, newer in itertools.pairwise(chain):
        assert newer.previous == older.id


def test_a_gateway_that_started_a_thousand_times_without_a_link_still_names_the_boot_before():
    assert [b.counter for b in chain_of([boot(n) for n in range(1, 1001)])] == list(range(1, 1001))


async def test_a_coordinator_that_is_away_is_told_once_and_tried_again_for_ever():
    with capture_logs() as logs:
        sender = uplink(f"127.0.0.1:{closed_port()}")
        async with running(sender.run()):
            await until(lambda: sender._backoff.failures >= 4)
    assert [entry["event"] for entry in logs] == ["coordinator lost"]
    assert sender.status().reason == "COORDINATOR_UNREACHABLE"
    assert not sender.status().connected


async def test_a_gateway_that_has_not_joined_says_so_and_goes_on_trying():
    def missing():
        raise ConflictError("NOT_JOINED", "identity/cert.pem does not exist")

    sender = uplink("127.0.0.1:1", missing)
    async with running(sender.run()):
        await until(lambda: sender._backoff.failures >= 2)
    assert sender.status().reason == "NOT_JOINED"


async def test_a_spool_that_refuses_ends_the_session_and_it_is_tried_again():
    class Broken(MemorySpool):
        async def hello_facts(self):
            raise StorageError("STORE_READ_ONLY", "spool.db")

    sender = uplink(f"127.0.0.1:{closed_port()}", spool=Broken().boot())
    async with running(sender.run()):
        await until(lambda: sender._backoff.failures >= 2)
    assert sender.status().reason == "STORE_READ_ONLY"


def test_session_that_outlived_its_renewed_certificate_is_no_case_for_an_operator():
    chain = [AUTHORITY.gateway(days=-1)]
    sender = uplink("127.0.0.1:1", lambda: chain[0])
    sender._tally.certificate_until_ns = valid_until_ns(chain[0].chain)
    cut = Close("CERT_EXPIRED", "the certificate has expired", 60, needs_operator=True)
    assert sender._named(cut) == cut
    chain[0] = CLIENT
    assert not sender._named(cut).needs_operator
    assert sender._named(cut).wait_ns == 0


def test_waking_and_reporting_while_nothing_listens_costs_nothing():
    sender = uplink("127.0.0.1:1")
    for _ in range(10_000):
        sender.wake()
    assert sender._inbox.qsize() == 1


def test_another_reason_is_told_again_and_the_same_one_is_not():
    tally = Tally(0)
    with capture_logs() as logs:
        for reason in ("COORDINATOR_UNREACHABLE", "COORDINATOR_UNREACHABLE", "CERT_EXPIRED"):
            tally.lost(Close(reason, "", 0, needs_operator=False), 1, 2)
        tally.found(3, "host:1")
        tally.lost(Close("CERT_EXPIRED", "", 0, needs_operator=True), 4, 5)
    assert [e.get("reason") for e in logs] == ["COORDINATOR_UNREACHABLE", "CERT_EXPIRED", None, "CERT_EXPIRED"]
    status = tally.status(EdgeSession())
    assert (status.connected, status.since_ns, status.wait_ns, status.needs_operator) == (False, 4, 5, True)
