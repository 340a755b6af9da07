"""Sessions between the real sender and the real servicer over mTLS, with store and spool in memory."""

from __future__ import annotations

import contextlib
from random import Random

import pytest

from tests.cloud.ingest.memory import CLOCK, GATEWAY, Authority, MemorySpool, MemoryStore, SilentDownlink, running, until
from twincloud.downlink.mailbox import Mailbox
from twincloud.ingest.limits import IngestLimits
from twincloud.ingest.servicer import SyncServicer, serve
from twinedge.uplink.sender import Uplink
from twinmodel.clock import MILLISECOND_NS
from twinsync.backoff import Backoff

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
        lambda: credentials,
        spool,
        downlink or SilentDownlink(),
        clock=CLOCK,
        random=Random(1),
        agent_version="test",
        backoff=Backoff(Random(1), base_ns=50 * MILLISECOND_NS, cap_ns=400 * MILLISECOND_NS),
    )


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
