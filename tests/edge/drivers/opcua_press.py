"""A press behind OPC UA for tests of the driver: one server with a pump, and a cable to it that can be pulled."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

from asyncua import Server, ua
from asyncua.crypto.permission_rules import SimpleRoleRuleset, User, UserRole
from asyncua.server.user_managers import UserManager

from tests.ports import free_port
from twinedge.drivers.opcua_units import UNECE_URI, unit_id

URI = "urn:test:press"


class Users(UserManager):
    def get_user(self, iserver, username=None, password=None, certificate=None):
        known = username is None or (username, password) == ("operator", "secret")
        return User(role=UserRole.User) if known else None


class Plant:
    """One server with a pump, open and encrypted, restartable on its port."""

    async def start(self, certificate, key):
        self.port = free_port()
        self.certificate = certificate
        self.server = Server(user_manager=Users())
        await self.server.init()
        self.server.set_endpoint(f"opc.tcp://127.0.0.1:{self.port}/")
        kinds = ua.SecurityPolicyType
        policies = [kinds.NoSecurity, kinds.Basic256Sha256_SignAndEncrypt, kinds.Aes128Sha256RsaOaep_Sign]
        policies += [kinds.Aes128Sha256RsaOaep_SignAndEncrypt, kinds.Aes256Sha256RsaPss_SignAndEncrypt]
        policies += [kinds.Basic256Sha256_Sign]
        self.server.set_security_policy(policies, SimpleRoleRuleset())
        await self.server.load_certificate(str(certificate))
        await self.server.load_private_key(str(key))
        await self.build(await self.server.register_namespace(URI))
        await self.server.start()
        return self

    async def build(self, idx):
        self.press = await self.server.nodes.objects.add_object(idx, "Press")
        pump = await self.press.add_object(idx, "Pump")
        self.flow = await pump.add_variable(idx, "Flow", 1.5)
        await self.press.add_variable(idx, "Count", 7, ua.VariantType.Int64)
        await self.press.add_variable(idx, "Name", "press 1")
        self.levels = await self.press.add_variable(idx, "Levels", [1.0, 2.0, 3.0])
        heat = await self.press.add_variable(ua.NodeId("heat;1", idx), ua.QualifiedName("Heat", idx), 68.0)
        unit = ua.EUInformation(UNECE_URI, unit_id("FAH"), ua.LocalizedText("°F"), ua.LocalizedText("Fahrenheit"))
        await heat.add_property(0, "EngineeringUnits", unit)
        await heat.add_property(0, "EURange", ua.Range(0.0, 200.0))
        await self.press.add_variable(idx, "Window", ua.Range(0.0, 1.0))

    async def renumber(self):
        """Puts two foreign namespaces in front of ours, as an update of the server's software does."""
        uris = await self.server.get_namespace_array()
        await self.server.nodes.namespace_array.write_value([*uris[:-1], "urn:a", "urn:b", uris[-1]])
        await self.build(len(uris) + 1)

    async def write(self, value, *, status=0, source=None):
        stamp = source or datetime.now(UTC)
        stamped = ua.DataValue(ua.Variant(value), ua.StatusCode(status), stamp, datetime.now(UTC))
        await self.flow.write_attribute(ua.AttributeIds.Value, stamped)


class Cable:
    """A TCP relay that can be pulled: bytes stop both ways, connections stay open."""

    def __init__(self, target):
        self.target = target
        self.whole = asyncio.Event()
        self.whole.set()
        self.tasks = set()
        self.writers = []

    async def start(self):
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def accept(self, reader, writer):
        self.writers.append(writer)
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self.writers.append(far_writer)
            for pair in ((reader, far_writer), (far_reader, writer)):
                task = asyncio.create_task(self.relay(*pair))
                self.tasks.add(task)

    async def relay(self, reader, writer):
        with contextlib.suppress(OSError):
            while received := await reader.read(65536):
                await self.whole.wait()
                writer.write(received)
                await writer.drain()
        writer.close()

    async def stop(self):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.gather(*self.tasks, return_exceptions=True)
