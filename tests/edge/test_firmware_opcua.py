"""An OPC UA device that is updated while it is read: another profile takes over, or it is set aside alone."""

from __future__ import annotations

import asyncio

import pytest
from asyncua import Server, ua

from tests.edge.running_agent import running, stored
from tests.ports import free_port
from twinedge.drivers import opcua

PROFILE = """\
profile: acme/press
firmware: "{firmware}"
protocol: opcua
namespace: urn:acme
defaults: {{every: 50ms}}
identify: {{at: Model, match: "ACME*", firmware: {{at: Firmware}}}}
points:
  flow: {{at: Flow}}
  {new}: {{at: Flow}}
"""
# The server's BuildInfo tells its own version: SoftwareVersion.
NEIGHBOUR = """\
profile: acme/hall
firmware: "7.*"
protocol: opcua
namespace: urn:acme
defaults: {every: 50ms}
identify: {at: ns=0;i=2261, match: "*", firmware: {at: ns=0;i=2264}}
points:
  warm: {at: Flow}
"""


class Press:
    """A server with two devices that tell who they are."""

    async def start(self):
        self.port = free_port()
        self.server = Server()
        await self.server.init()
        self.server.set_endpoint(f"opc.tcp://127.0.0.1:{self.port}/")
        self.server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        index = await self.server.register_namespace("urn:acme")
        self.nodes = {}
        for device in ("Press", "Hall"):
            top = await self.server.nodes.objects.add_object(index, device)
            for name, value in (("Flow", 1.5), ("Model", "ACME 3000"), ("Firmware", "1.4")):
                self.nodes[device, name] = await top.add_variable(index, name, value)
        await self.server.get_node("ns=0;i=2264").write_value("7.2")
        await self.server.start()
        return self

    async def tell(self, name, value):
        await self.nodes["Press", name].write_value(value)


@pytest.fixture
async def press():
    made = await Press().start()
    yield made
    await made.server.stop()


@pytest.fixture
def site(tmp_path, press, monkeypatch):
    monkeypatch.setattr(opcua, "IDENTIFY_AGAIN_S", 0.05)
    monkeypatch.setattr(opcua, "WATCHDOG_S", 0.05)
    for version, new in (("1", "old"), ("2", "new")):
        path = tmp_path / f"profiles/acme/press/{version}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PROFILE.format(firmware=f"{version}.*", new=new))
    path = tmp_path / "profiles/acme/hall/7.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(NEIGHBOUR)
    config = tmp_path / "site.yaml"
    url = f"opc.tcp://127.0.0.1:{press.port}/"
    config.write_text(
        "site: here\nprofiles: profiles\nstatus: {port: 0}\ndevices:\n"
        f'  d: {{opcua: "{url}", root: Press, profile: acme/press}}\n'
        f'  hall: {{opcua: "{url}", root: Hall, profile: acme/hall}}\n'
    )
    return config


def read_by(version, firmware):
    """Whether the press is read by this version of its profile, and something of it came."""
    return lambda d, by: (
        by == f"acme/press/{version}" and d["connected"] and d["firmware"] == firmware and d["samples"] >= 2
    )


async def status_of(asked, wanted):
    """Waits until the status of the press, and what it is read by, is so."""
    async with asyncio.timeout(60):
        while True:
            status = await asked.agent.stages.telling.status()
            device, hall = status["devices"]
            if wanted(device, status["configuration"]["profiles"].get("d", "")):
                return device, hall
            await asyncio.sleep(0.05)


async def test_another_profile_takes_over_at_the_connect_and_mid_run_and_an_unknown_firmware_is_set_aside(
    tmp_path, press, site
):
    state = tmp_path / "state"
    async with running(site, state) as asked:
        await status_of(asked, read_by("1", "1.4"))
        await press.tell("Firmware", "2.0")
        await status_of(asked, read_by("2", "2.0"))
        await press.tell("Firmware", "3.0")
        device, hall = await status_of(asked, lambda d, _: d["quarantine"] == "FIRMWARE_UNKNOWN")
        assert (device["connected"], device["firmware"]) == (False, "3.0")
        assert "firmware '3.0'" in device["last_error"]
        assert (hall["quarantine"], hall["firmware"]) == ("", "7.2")
        await press.tell("Firmware", "2.1")
        await status_of(asked, lambda d, _: d["connected"] and not d["quarantine"])
        await press.tell("Model", "Other 1")
        await status_of(asked, lambda d, _: d["quarantine"] == "DEVICE_MISMATCH")
    rows = stored(state, tmp_path)
    assert {"d.flow", "d.old", "d.new", "hall.warm"} <= rows.keys()
    assert "bad(DEVICE_FAULT)" in {row["quality"] for row in rows["d.flow"]}
    assert "bad(DEVICE_FAULT)" not in {row["quality"] for row in rows["hall.warm"]}
