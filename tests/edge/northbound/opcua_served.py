"""A read-only OPC UA server whose users and certificates are known, and what a subscriber heard of it."""

from __future__ import annotations

import asyncio
import contextlib

from asyncua import Client, ua
from asyncua.crypto import security_policies

from tests.edge.northbound.conftest import Plant, catalogue_of, surroundings
from twinedge.certificates import ensure_certificate, uri_of
from twinedge.config.northbound import OpcuaServer
from twinedge.northbound.opcua import OpcuaNorthbound
from twinedge.northbound.store import Latest
from twinedge.northbound.users import hashed
from twinmodel.clock import SystemClock

POLICIES = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes256Sha256RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}


class Served:
    """A server whose clients' certificates are trusted by a folder, and two users."""

    def __init__(self, folder, settings=None, store=None):
        self.folder = folder
        self.store = store or Latest()
        self.plant = Plant(self.store)
        (folder / "trusted").mkdir(parents=True)
        (folder / "scada.pw").write_text("secret\n")
        (folder / "hashed.pw").write_text(hashed("other secret"))
        clock = SystemClock()
        self.client = ensure_certificate(folder / "client", clock)
        self.stranger = ensure_certificate(folder / "stranger", clock)
        (folder / "trusted" / "client.der").write_bytes(self.client[0].read_bytes())
        written = settings or {
            "users": {"scada": {"password_file": "scada.pw"}, "hmi": {"password_file": "hashed.pw"}},
            "user_certificates": "trusted",
            "certificates": "trusted",
            "publish": "50ms",
            "sessions": 4,
            "items": 50,
        }
        made = OpcuaServer.model_validate({"listen": "127.0.0.1:0"} | written)
        self.part = OpcuaNorthbound(made, surroundings(folder, self.store))
        self.plant.use(catalogue_of(), self.part)

    async def start(self):
        self.task = asyncio.create_task(self.part.run())
        async with asyncio.timeout(120):
            await self.part.listening.wait()
        return self

    async def stop(self):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    @property
    def url(self):
        return f"opc.tcp://127.0.0.1:{self.part.port}/"

    async def connect(self, user="scada", password="secret", policy="Basic256Sha256", who=None, token=None):
        certificate, key = who or self.client
        client = Client(self.url, timeout=30)
        client.session_timeout = 60_000
        client.application_uri = uri_of(certificate.read_bytes())
        if user is not None:
            client.set_user(user)
            client.set_password(password)
        if token is not None:
            await client.load_client_certificate(str(token[0]))
            await client.load_private_key(str(token[1]))
        await client.set_security(POLICIES[policy], str(certificate), str(key))
        return client


def node(client, name):
    return client.get_node(ua.NodeId(name, client.ours))


class Heard:
    def __init__(self):
        self.changes = []
        self.new = asyncio.Event()

    def datachange_notification(self, at, value, data):
        item = data.monitored_item.Value
        self.changes.append((at.nodeid.Identifier, value, item.StatusCode.value, item.SourceTimestamp))
        self.new.set()

    async def until(self, condition):
        async with asyncio.timeout(120):
            while not condition(self.changes):
                self.new.clear()
                await self.new.wait()
