"""PostgreSQL goes away, or its disk is full, under live gateways: they wait, and all goes on by itself."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from tests.cloud.ingest.commanded import Plant, catalogue
from tests.cloud.ingest.link import AUTHORITY, Coordinator, dialling
from tests.cloud.ingest.memory import GATEWAY, MemorySpool, until
from tests.cloud.plant import template
from tests.contract.conftest import Postgres
from tests.contract.plant import KEY, NOW, TWIN, Edge, invite
from tests.services import Cluster
from twincloud.api.app import create_app
from twincloud.config import Settings
from twincloud.downlink.commands import CommandDesk
from twincloud.events.bus import Bus
from twincloud.identity.ca import Authority
from twincloud.identity.ledger import Ledger
from twincloud.identity.tokens import issue
from twincloud.ingest.limits import IngestLimits
from twincloud.storage.command_rows import broken_links
from twincloud.storage.contract import GatewayKey, TwinKey
from twincloud.storage.records_commands import Order
from twinmodel.clock import MILLISECOND_NS, SECOND_NS, ManualClock
from twinmodel.errors import StorageError
from twinsync.command import CommandKind

pytestmark = [pytest.mark.service("postgresql"), pytest.mark.timeout(180)]

GATEWAYS = [GATEWAY, GatewayKey("acme", "plant-a", "gw-2")]
LIMITS = IngestLimits(retry_after_ns=200 * MILLISECOND_NS)
AT_LAST_S = 90.0
FULL = """
CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE disk_full USING MESSAGE = 'could not extend file: No space left on device'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION full_disk()
"""
"""The server itself refuses rows of a table with the error it has for a disk that is full."""


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


async def test_a_command_whose_end_comes_while_the_server_is_away_has_that_end_once_it_is_back(place, cluster, thread):
    store, plant, spool, key = place.open(), Plant(busy=True), MemorySpool().boot(), GATEWAY
    invite(store, key)
    coordinator = Coordinator(store, LIMITS, CommandDesk(store, place.clock))
    twin = TwinKey(key.tenant, key.site, "press-0")

    def issue(value: float) -> str:
        order = Order(CommandKind.WRITE, "level", "", value, "", 3_600 * SECOND_NS, 0, "test")
        made = store.issue_command(twin, order, by="ann", now_ns=place.clock.wall_ns()).id
        coordinator.servicer.notify_directive(key)
        return made

    async with coordinator.up(), dialling(coordinator, spool, AUTHORITY.gateway(key), commands=plant) as sender:
        plant.uplink = sender
        spool.append(catalogue=catalogue())
        sender.wake()
        await until(lambda: not spool.unacked, AT_LAST_S)
        sent = await asyncio.to_thread(issue, 1.0)
        await until(lambda: plant.ordered == [sent], AT_LAST_S)
        await asyncio.to_thread(cluster.stop)
        try:
            plant.end(sent, 1.0)
            await until(lambda: sender.status().reason == "RETRY_AFTER", AT_LAST_S)
            with pytest.raises(StorageError):
                await asyncio.to_thread(issue, 2.0)
            assert list(plant.untold) == [sent]
        finally:
            await asyncio.get_running_loop().run_in_executor(thread, cluster.start)
        await until(lambda: not plant.untold, AT_LAST_S)
        found = await asyncio.to_thread(store.command, twin, sent)
        assert (found.state, found.read_back, found.reason) == ("SUCCEEDED", 1.0, "")
        assert len((await asyncio.to_thread(store.commands_of, key.tenant)).items) == 1
        plant.busy = False
        await until(lambda: sender.status().connected, AT_LAST_S)
        again = await asyncio.to_thread(issue, 3.0)
        await until(lambda: plant.ordered == [sent, again] and not plant.untold, AT_LAST_S)
    with store._database.read() as connection:
        assert list(broken_links(connection)) == []


async def test_a_full_disk_of_the_server_makes_gateways_wait_and_loses_nothing(place, cluster):
    async with Fleet(place.open()).up() as fleet:
        fleet.measure(2)
        await fleet.sent()
        held = [len(numbers(fleet.store, key)) for key in GATEWAYS]
        with psycopg.connect(place.url, autocommit=True) as server:
            await asyncio.to_thread(server.execute, FULL.format(table="blocks"))
            fleet.measure(3)
            await fleet.told_to_wait()
            assert all("STORE_FULL" in sender.status().last_error for sender in fleet.senders)
            assert [len(numbers(fleet.store, key)) for key in GATEWAYS] == held
            await asyncio.to_thread(server.execute, "DROP TRIGGER full_disk ON blocks")
        await fleet.sent()
    fleet.assert_whole()


async def test_rest_says_what_is_wrong_while_the_database_is_full_or_away_and_answers_again(
    tmp_path, place, cluster, thread
):
    shutil.copytree(template(), tmp_path / "plant")
    clock, ledger = ManualClock(NOW), Ledger(tmp_path / "plant")
    store = place.open()
    invite(store)
    edge = Edge(1)
    edge.connect(store)
    edge.send(store, [edge.tick(NOW)])
    app = create_app(
        store, clock=clock, bus=Bus(), ca=Authority.load(tmp_path / "plant", clock),
        settings=Settings(state=tmp_path / "plant"), on_directive=lambda _: None,
    )  # fmt: skip
    token = issue(ledger, clock, name="t", tenant="acme", role="admin", ttl_s=0)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://twins", headers=headers) as client:
        base = "/api/v1/tenants/acme"

        async def asked() -> list[httpx.Response]:
            body = {"site": "mill", "gateway": "gw-2"}
            return [
                await client.get(f"{base}/sites/mill/twins/{TWIN.twin}"),
                await client.get(f"{base}/sites/mill/gateways/{KEY.gateway}"),
                await client.post(f"{base}/gateways:invite", json=body),
            ]

        with psycopg.connect(place.url, autocommit=True) as server:
            server.execute(FULL.format(table="invites"))
        *read, written = await asked()
        assert [answer.status_code for answer in read] == [200, 200]
        assert_problem(written, 507, "STORE_FULL")
        with psycopg.connect(place.url, autocommit=True) as server:
            server.execute("DROP TRIGGER full_disk ON invites")
        await asyncio.to_thread(cluster.stop)
        try:
            assert (await client.get("/healthz")).status_code == 200
            for answer in (*await asked(), await client.get("/readyz")):
                assert_problem(answer, 503, "STORE_UNAVAILABLE")
        finally:
            await asyncio.get_running_loop().run_in_executor(thread, cluster.start)
        assert [answer.status_code for answer in await asked()] == [200, 200, 201]
    app.state.threads.close()


def assert_problem(answer: httpx.Response, status: int, reason: str) -> None:
    assert (answer.status_code, answer.json()["status"], answer.json()["reason"]) == (status, status, reason)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["hint"]
