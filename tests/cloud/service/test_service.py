"""The service as it runs: real ports, enrolment over real TLS, a clean stop, and typed refusals to start."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import stat

import httpx
import pytest

from tests.cloud.plant import template
from twincloud.config import Settings
from twincloud.identity.ledger import Ledger
from twincloud.identity.tokens import issue
from twincloud.service import run_service
from twincloud.storage import open_store
from twincloud.storage.contract import GatewayKey, Hello
from twinedge import enrol
from twinmodel.clock import SECOND_NS, ClockQuality, SystemClock
from twinmodel.errors import TwinError
from twinmodel.package import signing
from twinsync.channel import Credentials, open_channel
from twinsync.item import Boot
from twinsync.v1 import sync_pb2, sync_pb2_grpc


class Running:
    """A service on free ports and an admin's client of it."""

    def __init__(self, state, addresses, client):
        self.state, self.addresses, self.client = state, addresses, client

    async def invite(self, gateway: str = "gw-1", **more) -> dict:
        body = {"site": "north", "gateway": gateway, **more}
        answer = await self.client.post("/api/v1/tenants/acme/gateways:invite", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def join(self, invite: dict, state, **changed):
        given = {"url": invite["url"], "token": invite["token"], "ca_sha256": invite["ca_sha256"]} | changed
        return await asyncio.to_thread(enrol.join, **given, state_dir=state, clock=SystemClock())


def make_state(folder, clock=None):
    """A state of the present: the template's clock stands in 2023."""
    from twincloud.identity.ca import Authority

    state = folder / "coordinator"
    shutil.copytree(template(), state)
    shutil.rmtree(state / "identity")
    Authority.create(state, clock or SystemClock())
    return state


@contextlib.asynccontextmanager
async def serving(state, **settings):
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    given = Settings(state=state, port=0, sync_port=0, enrol_port=0, **settings)
    token = issue(Ledger(state), SystemClock(), name=f"admin-{os.urandom(4).hex()}", tenant="acme", role="admin")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(
            run_service(given, SystemClock(), stop=stop, on_ready=ready.set_result), name="service"
        )
        done, _ = await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
        assert done
        if task in done:
            task.result()
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=ready.result().rest, headers=headers, timeout=60) as client:
            yield Running(state, ready.result(), client)
        stop.set()
        await asyncio.wait_for(task, 60)


@pytest.fixture
def state(tmp_path):
    return make_state(tmp_path)


async def test_gateway_joins_and_opens_a_stream_over_mutual_tls_until_it_is_revoked(state, tmp_path):
    async with serving(state) as running:
        pem = signing.public_pem(signing.generate_key().public_key()).decode()
        added = await running.client.post("/api/v1/tenants/acme/signers", json={"name": "desk", "public_key_pem": pem})
        invite = await running.invite()
        joined = await running.join(invite, tmp_path / "edge")
        assert (joined.tenant, joined.site, joined.gateway) == ("acme", "north", "gw-1")
        assert joined.sync_address == running.addresses.sync
        identity = enrol.load_identity(tmp_path / "edge", SystemClock())
        assert dict(identity.signers) == {added.json()["key_id"]: pem.encode()}
        files = [p for p in (tmp_path / "edge" / "identity").rglob("*") if p.is_file()]
        assert {stat.S_IMODE(p.stat().st_mode) for p in files} == {0o600}
        assert not list((tmp_path / "edge").glob(".identity*"))

        credentials = Credentials(identity.ca_pem, identity.cert_pem, identity.key_pem)

        async def first_answer():
            async with open_channel(identity.sync_address, credentials) as channel:
                call = sync_pb2_grpc.SyncStub(channel).Session()
                await call.write(sync_pb2.Up(heartbeat=sync_pb2.Heartbeat(session=1)))
                return await asyncio.wait_for(call.read(), 60)

        refused = await first_answer()
        assert refused.WhichOneof("body") == "reject"
        assert refused.reject.reason != "CERT_INVALID"
        Ledger(state).revoke_certificate(identity.serial, 1)
        assert (await first_answer()).reject.reason == "CERT_INVALID"


async def test_wrong_fingerprint_used_and_unknown_token_are_refused_by_their_reasons(state, tmp_path):
    async with serving(state) as running:
        invite = await running.invite()
        with pytest.raises(TwinError, match="FINGERPRINT_MISMATCH"):
            await running.join(invite, tmp_path / "edge", ca_sha256="0" * 64)
        with pytest.raises(TwinError, match="INVITE_INVALID"):
            await running.join(invite, tmp_path / "edge", token="twi_wrong")
        assert not (tmp_path / "edge").exists()
        await running.join(invite, tmp_path / "edge")
        before = (tmp_path / "edge" / "identity" / "key.pem").read_bytes()
        with pytest.raises(TwinError, match="INVITE_INVALID"):
            await running.join(invite, tmp_path / "edge")
        assert (tmp_path / "edge" / "identity" / "key.pem").read_bytes() == before
        again = await running.join(await running.invite(), tmp_path / "edge")
        assert again.gateway == "gw-1"
        assert (tmp_path / "edge" / "identity" / "key.pem").read_bytes() != before


async def test_event_stream_over_http_resumes_and_ends_when_the_service_stops(state):
    async with serving(state) as running:
        path = "/api/v1/tenants/acme/events"
        async with running.client.stream("GET", path) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert "content-length" not in answer.headers
            lines = answer.aiter_lines()
            assert await anext(lines) == "retry: 2000"
            await running.invite("gw-5")
            async with asyncio.timeout(60):
                async for line in lines:
                    if line.startswith("data: "):
                        assert json.loads(line[6:])["gateway"] == "gw-5"
                        break
        async with running.client.stream("GET", path, headers={"Last-Event-ID": "999999"}) as answer:
            lines = answer.aiter_lines()
            async with asyncio.timeout(60):
                async for line in lines:
                    if line.startswith("data: "):
                        break
            facts = json.loads((state / "service.json").read_text())
            assert facts["rest"] == running.addresses.rest
    assert not (state / "service.json").exists()


async def test_port_in_use_is_named_with_the_setting(state):
    for setting in ("port", "enrol_port", "sync_port"):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            given = {"port": 0, "sync_port": 0, "enrol_port": 0} | {setting: other.getsockname()[1]}
            with pytest.raises(TwinError, match="PORT_IN_USE"):
                await asyncio.wait_for(
                    run_service(Settings(state=state, **given), SystemClock(), stop=asyncio.Event()), 60
                )


async def test_second_service_on_the_same_state_is_refused(state):
    async with serving(state):
        with pytest.raises(TwinError, match="STATE_LOCKED"):
            await run_service(Settings(state=state), SystemClock(), stop=asyncio.Event())


async def test_state_without_an_authority_is_not_initialised(tmp_path):
    with pytest.raises(TwinError, match="NOT_INITIALISED"):
        await run_service(Settings(state=tmp_path), SystemClock(), stop=asyncio.Event())


async def test_supervisor_hears_ready_watchdog_and_stopping(state, tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        heard = []
        loop = asyncio.get_running_loop()
        async with serving(state):
            async with asyncio.timeout(60):
                while "WATCHDOG=1" not in heard:
                    heard.append((await loop.sock_recv(supervisor, 100)).decode())
        async with asyncio.timeout(60):
            while "STOPPING=1" not in heard:
                heard.append((await loop.sock_recv(supervisor, 100)).decode())
        assert heard[0] == "READY=1"
        assert heard[-1] == "STOPPING=1"


async def test_gateways_of_a_service_that_was_killed_are_away_until_they_come_back(state):
    store = open_store(state, clock=SystemClock())
    now_ns, key = SystemClock().wall_ns(), GatewayKey("acme", "north", "gw-1")
    store.create_tenant("acme", now_ns)
    store.create_invite(key, b"t" * 32, now_ns, now_ns + SECOND_NS)
    store.redeem_invite(b"t" * 32, now_ns)
    boot = Boot(b"b" * 16, b"", 1, now_ns, ClockQuality.SYNCED)
    store.open_session(key, Hello((boot,), "0.1.0", ClockQuality.SYNCED, (), ()), now_ns)
    assert store.gateway(key).connected
    store.close()
    async with serving(state) as service:
        answer = await service.client.get("/api/v1/tenants/acme/sites/north/gateways/gw-1")
    assert (answer.json()["connected"], answer.json()["state"]) == (False, "active")
    assert answer.json()["last_seen"] is not None
