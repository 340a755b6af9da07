"""PostgreSQL goes away, or its disk is full, under live gateways: they wait, and all goes on by itself."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cloud.ingest.link import AUTHORITY, Coordinator, dialling
from tests.cloud.ingest.memory import GATEWAY, MemorySpool, until
from tests.contract.conftest import Postgres
from tests.contract.plant import invite
from tests.services import Cluster
from twincloud.ingest.limits import IngestLimits
from twincloud.storage.contract import GatewayKey
from twinmodel.clock import MILLISECOND_NS

pytestmark = [pytest.mark.service("postgresql"), pytest.mark.timeout(180)]

GATEWAYS = [GATEWAY, GatewayKey("acme", "plant-a", "gw-2")]
LIMITS = IngestLimits(retry_after_ns=200 * MILLISECOND_NS)
AT_LAST_S = 90.0


@pytest.fixture(scope="module")
def thread():
    """Who starts the server again: it ends with the thread that has started it, so not one of a test's event loop."""
    with ThreadPoolExecutor(1, thread_name_prefix="server") as made:
        yield made


@pytest.fixture(scope="module")
def cluster(thread):
    """A server of its own that may be stopped, before the thread; its log goes to the disk as that of a real one."""
    made = Cluster(fsync=True)
    yield made
    made.close()


@pytest.fixture
def place(tmp_path, cluster):
    made = Postgres.over(tmp_path, cluster.url(cluster.database()))
    yield made
    made.close()


class Fleet:
    """Two gateways with the real sender, and the spools they send from."""

    def __init__(self, store) -> None:
        for key in GATEWAYS:
            invite(store, key)
        self.store = store
        self.coordinator = Coordinator(store, LIMITS)
        self.spools = [MemorySpool(seed=seed).boot() for seed, _ in enumerate(GATEWAYS)]
        self.senders = []

    @contextlib.asynccontextmanager
    async def up(self):
        async with contextlib.AsyncExitStack() as links:
            await links.enter_async_context(self.coordinator.up())
            for key, spool in zip(GATEWAYS, self.spools, strict=True):
                credentials = AUTHORITY.gateway(key)
                self.senders.append(await links.enter_async_context(dialling(self.coordinator, spool, credentials)))
            yield self

    def measure(self, blocks: int) -> None:
        """Every gateway has something new to send."""
        for spool, sender in zip(self.spools, self.senders, strict=True):
            for _ in range(blocks):
                spool.append()
            sender.wake()

    async def sent(self) -> None:
        await until(lambda: not any(spool.unacked for spool in self.spools), AT_LAST_S)

    async def told_to_wait(self) -> None:
        await until(lambda: all(s.status().reason == "RETRY_AFTER" for s in self.senders), AT_LAST_S)

    def assert_whole(self) -> None:
        """Each sample is stored once, and no acknowledgement was ever taken back."""
        for key, spool in zip(GATEWAYS, self.spools, strict=True):
            found = numbers(self.store, key)
            assert len(found) == len(set(found))
            assert set(found) == spool.ids()
            assert spool.rewound == 0


def numbers(store, key: GatewayKey) -> list[tuple[bytes, int, int]]:
    """Every sample of a gateway that is stored, as often as it is."""
    with store._database.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT b.boot, k.stream, k.first_seq, k.last_seq FROM blocks k JOIN boots b ON b.id = k.boot_id"
            " JOIN gateways g ON g.id = k.gateway_id WHERE g.gateway = %(gateway)s",
            {"gateway": key.gateway},
        ).all()
    return [(bytes(boot), stream, n) for boot, stream, first, last in rows for n in range(first, last + 1)]


@pytest.mark.parametrize("how", ["stop", "crash"])
async def test_gateways_wait_while_the_server_restarts_and_go_on_by_themselves(place, cluster, thread, how):
    async with Fleet(place.open()).up() as fleet:
        fleet.measure(5)
        await fleet.sent()
        fleet.measure(300)  # some of it is on its way when the server ends
        await until(lambda: any(len(spool.unacked) < 300 for spool in fleet.spools), AT_LAST_S)
        await asyncio.to_thread(getattr(cluster, how))
        try:
            fleet.measure(5)
            await fleet.told_to_wait()
            acknowledged = [
                {(boot, stream, n) for (boot, stream), following in spool.acked.items() for n in range(following)}
                for spool in fleet.spools
            ]
            assert all(spool.unacked for spool in fleet.spools)
        finally:
            await asyncio.get_running_loop().run_in_executor(thread, cluster.start)
        for key, held in zip(GATEWAYS, acknowledged, strict=True):
            assert held <= set(await asyncio.to_thread(numbers, fleet.store, key))
        await fleet.sent()
        fleet.measure(1)
        await fleet.sent()
        assert all(sender.status().connected for sender in fleet.senders)
    fleet.assert_whole()
