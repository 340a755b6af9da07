"""A coarser period asked for over REST reaches a real gateway, holds over restarts of both sides, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
from random import Random

import numpy as np

from tests.cloud.ingest.memory import SilentDownlink, running, until
from tests.cloud.service.test_service import make_state, serving
from twinedge.enrol import load_identity
from twinedge.spool.store import Spool
from twinedge.storage import Storage
from twinedge.uplink.sender import Uplink
from twinedge.uplink.spooled import SpooledItems
from twinmodel.clock import MILLISECOND_NS, SECOND_NS, ClockQuality, SystemClock
from twinmodel.signal import Batch, Catalogue, Kind, Signal, Stream, TwinBinding
from twinsync.backoff import Backoff
from twinsync.channel import Credentials

CATALOGUE = Catalogue(
    (Signal(0, "press.free"), Signal(1, "press.bound"), Signal(2, "press.other")),
    (TwinBinding("press", "d@1", "", {"level": "press.bound"}, (), {}),),
)
GATEWAY = "/api/v1/tenants/acme/sites/north/gateways/gw-1"
MINUTE_S = 60


class Gateway:
    """Joined once; each `up` is a start of its agent."""

    def __init__(self, folder) -> None:
        self.folder, self.clock = folder, SystemClock()
        self.minute = self.clock.wall_ns() // (60 * SECOND_NS) - 100

    @contextlib.asynccontextmanager
    async def up(self, address: str):
        identity = load_identity(self.folder, self.clock)
        credentials = Credentials(identity.ca_pem, identity.cert_pem, identity.key_pem)
        options = {"disk_max_bytes": 1 << 22, "when_full": "thin", "rng_bytes": os.urandom}
        storage = await Storage.open(lambda: Spool.open(self.folder, clock=self.clock, **options))
        items = SpooledItems(storage, lambda: ClockQuality.SYNCED)
        await items.use(CATALOGUE)
        backoff = Backoff(Random(1), base_ns=20 * MILLISECOND_NS, cap_ns=40 * MILLISECOND_NS)
        rest = {"clock": self.clock, "random": Random(1), "agent_version": "t", "backoff": backoff}
        sender = Uplink(address, lambda: credentials, items, SilentDownlink(), **rest)
        try:
            async with running(sender.run()):
                await until(lambda: sender.status().connected)
                yield storage, sender
        finally:
            await storage.close()

    async def measures(self, storage, sender) -> list[int]:
        """A minute of three signals, one sample a second, sent; how many of each were kept."""
        start_ns = self.minute * 60 * SECOND_NS
        self.minute += 1
        signal = np.repeat(np.arange(3, dtype=np.uint32), MINUTE_S)
        t_ns = np.tile(start_ns + np.arange(MINUTE_S) * SECOND_NS, 3)
        value = np.random.default_rng(7).random(len(signal))
        batch = Batch.of(Kind.FLOAT, signal, value, np.zeros(len(signal)), t_ns)
        await storage.call(Spool.append, Stream.TELEMETRY, [batch], CATALOGUE)
        _, kept = (await storage.call(Spool.recent))[-1]
        sender.wake()
        found = np.concatenate([b.signal for b in kept])
        return np.bincount(found, minlength=3).tolist()


async def asks(client, **wish) -> None:
    answer = await client.post(f"{GATEWAY}:coarsen", json={"stream": "telemetry", **wish})
    assert answer.status_code == 200, answer.text


async def comes(ask, wanted) -> None:
    """Waits until an answer is the wanted one."""
    async with asyncio.timeout(30):
        while True:
            if await ask() == wanted:
                return
            await asyncio.sleep(0.02)


async def wished(storage, count: int) -> None:
    await comes(lambda: storage.call(lambda spool: len(spool.wishes)), count)


async def stored(client) -> list[int]:
    samples = (await client.get(f"{GATEWAY}/samples")).json()["items"]
    return [sum(one["signal"] == signal.name for one in samples) for signal in CATALOGUE.signals]


async def test_wish_over_rest_thins_what_is_measured_over_restarts_of_both_sides_until_it_is_ended(tmp_path):
    state = make_state(tmp_path)
    gateway = Gateway(tmp_path / "edge")
    async with serving(state) as service:
        await service.join(await service.invite(), gateway.folder)
        async with gateway.up(service.addresses.sync) as (storage, sender):
            assert await gateway.measures(storage, sender) == [60, 60, 60]
            await asks(service.client, period_s=20)
            await asks(service.client, period_s=5, signal="press.other")
            await wished(storage, 2)
            assert await gateway.measures(storage, sender) == [3, 60, 12]
        async with gateway.up(service.addresses.sync) as (storage, sender):
            await wished(storage, 2)
            assert await gateway.measures(storage, sender) == [3, 60, 12]
    async with serving(state) as service:
        listed = (await service.client.get(f"{GATEWAY}/wishes")).json()["items"]
        assert [(w["stream"], w["signal"], w["period_s"], w["until"]) for w in listed] == [
            ("telemetry", "", 20.0, None),
            ("telemetry", "press.other", 5.0, None),
        ]
        async with gateway.up(service.addresses.sync) as (storage, sender):
            await wished(storage, 2)
            assert await gateway.measures(storage, sender) == [3, 60, 12]
            await asks(service.client, period_s=0)
            await wished(storage, 1)
            assert await gateway.measures(storage, sender) == [60, 60, 12]
            await comes(lambda: stored(service.client), [129, 300, 108])
        losses = (await service.client.get(f"{GATEWAY}/losses")).json()["items"]
        thinned = sum(loss["count"] for loss in losses if loss["kind"] == "THINNED")
        # Every sample that was measured and is not here is declared.
        assert thinned + 129 + 300 + 108 == 5 * 3 * MINUTE_S
        bound = await service.client.post(
            f"{GATEWAY}:coarsen", json={"stream": "telemetry", "period_s": 5, "signal": "press.bound"}
        )
        assert (bound.status_code, bound.json()["reason"]) == (422, "REQUEST_INVALID")
