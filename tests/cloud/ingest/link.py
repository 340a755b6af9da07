"""The real sender and the real servicer over mTLS, with store and spool in memory."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

import grpc
import grpc.aio

from tests.cloud.ingest.memory import (
    CLOCK,
    GATEWAY,
    Authority,
    MemoryStore,
    SilentDownlink,
    running,
)
from twincloud.downlink.mailbox import Mailbox
from twincloud.ingest import servicer
from twincloud.ingest.limits import IngestLimits
from twincloud.ingest.servicer import SyncServicer, serve
from twincloud.storage.contract import Directive
from twinedge.uplink.sender import Uplink
from twinmodel.clock import MILLISECOND_NS
from twinsync.backoff import Backoff

AUTHORITY = Authority()
SERVER = AUTHORITY.server()
CLIENT = AUTHORITY.gateway()


class Coordinator:
    def __init__(self, store=None, limits=None, commands=None) -> None:
        self.store = store or MemoryStore()
        self.limits = limits or IngestLimits()
        self.commands = commands
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
            commands=self.commands,
        )
        async with serve(self.servicer, f"localhost:{self.port}", credentials) as port:
            self.port = port
            yield self


def uplink(coordinator, spool, credentials=CLIENT, downlink=None, commands=None):
    return Uplink(
        f"localhost:{coordinator.port}",
        credentials if callable(credentials) else lambda: credentials,
        spool,
        downlink or SilentDownlink(),
        clock=CLOCK,
        random=Random(1),
        agent_version="test",
        backoff=Backoff(Random(1), base_ns=50 * MILLISECOND_NS, cap_ns=400 * MILLISECOND_NS),
        commands=commands,
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


def impatient(monkeypatch) -> None:
    """Servers begun from now on give a handshake two seconds: production's twenty would only be waited for."""
    short = {**dict(servicer.SERVER_OPTIONS), "grpc.server_handshake_timeout_ms": 2_000}
    assert short.keys() == dict(servicer.SERVER_OPTIONS).keys()
    monkeypatch.setattr(servicer, "SERVER_OPTIONS", tuple(short.items()))


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
