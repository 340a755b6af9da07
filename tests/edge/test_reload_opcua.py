"""Tags of an OPC UA server change while it is read: the new session reads before the old one ends."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from asyncua import Server, ua

from tests.edge.running_agent import running, stored
from tests.ports import free_port

URI = "urn:test:press"
PROFILE = """\
profile: acme/press
protocol: opcua
namespace: "urn:test:press"
defaults: {{every: 20ms}}
points:
  flow: {{at: Flow, as: int64, queue: 500}}
{more}"""


class Press:
    """A server whose one value counts."""

    async def start(self):
        self.port = free_port()
        self.server = Server()
        await self.server.init()
        self.server.set_endpoint(f"opc.tcp://127.0.0.1:{self.port}/")
        idx = await self.server.register_namespace(URI)
        press = await self.server.nodes.objects.add_object(idx, "Press")
        self.flow = await press.add_variable(idx, "Flow", 0, ua.VariantType.Int64)
        await press.add_variable(idx, "Name", "press 1")
        await self.server.start()
        self.count = 0
        return self

    async def run(self):
        while True:
            self.count += 1
            now = datetime.now(UTC)
            value = ua.Variant(self.count, ua.VariantType.Int64)
            await self.flow.write_attribute(ua.AttributeIds.Value, ua.DataValue(value, ua.StatusCode(0), now, now))
            await asyncio.sleep(0.02)


@pytest.fixture
async def press():
    made = await Press().start()
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await made.server.stop()


async def test_no_value_of_a_server_is_missed_or_doubled_when_its_tags_change(tmp_path, press):
    profile = tmp_path / "profiles/acme/press/1.0.yaml"
    profile.parent.mkdir(parents=True)
    profile.write_text(PROFILE.format(more=""))
    config = tmp_path / "site.yaml"
    config.write_text(
        "site: here\nprofiles: profiles\nstatus: {port: 0}\ndevices:\n"
        f'  d: {{opcua: "opc.tcp://127.0.0.1:{press.port}/", root: Press, profile: acme/press}}\n'
    )
    async with running(config, tmp_path / "state") as asked:
        await read_on(asked)
        for more in ("  name: {at: Name, as: string}\n", "", "  name: {at: Name, as: string}\n"):
            profile.write_text(PROFILE.format(more=more))
            done = await asked("config.reload", who="test", why="a tag")
            assert len(done["restarted"]) == 1
            await read_on(asked)
    rows = stored(tmp_path / "state", tmp_path)
    values = [int(float(row["value"])) for row in rows["d.flow"] if row["value"] not in ("", "nan")]
    assert sorted(values) == list(range(min(values), max(values) + 1))
    assert {row["value"] for row in rows["d.name"]} == {"press 1"}


async def read_on(asked, samples=20):
    """Waits until the device has told some more values."""
    async with asyncio.timeout(120):
        start = None
        while True:
            ((health,),) = [driver.health() for driver in asked.agent.stages.connections.drivers]
            start = health.samples if start is None else start
            if health.samples >= start + samples:
                return
            await asyncio.sleep(0.05)
