"""A device that is updated while it is read: the profile of its new firmware takes over, or it is set aside."""

from __future__ import annotations

import asyncio

import pytest

from tests.edge.counting import CountingServer
from tests.edge.running_agent import running, stored
from twinedge.drivers import modbus

PROFILE = """\
profile: acme/m
firmware: "{firmware}"
protocol: modbus
base: 0
defaults: {{every: 20ms}}
identify: {{at: holding 10, as: uint16, match: "7", firmware: {{at: holding 11, as: uint16}}}}
points:
  a: {{at: holding 0, as: uint16}}
  {new}: {{at: holding {register}, as: uint16}}
"""


@pytest.fixture
async def server():
    made = await CountingServer().start()
    made.fixed = {10: 7, 11: 1}
    yield made
    await made.stop()


@pytest.fixture
def site(tmp_path, server, monkeypatch):
    monkeypatch.setattr(modbus, "STRANGER_RETRY_NS", 100_000_000)
    for version, new, register in (("1", "old", 1), ("2", "new", 2)):
        path = tmp_path / f"profiles/acme/m/{version}.0.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PROFILE.format(firmware=version, new=new, register=register))
    config = tmp_path / "site.yaml"
    config.write_text(
        "site: here\nprofiles: profiles\nstatus: {port: 0}\ndevices:\n"
        f'  d: {{modbus: "tcp://127.0.0.1:{server.port}", profile: acme/m}}\n'
    )
    return config


async def quarantined(asked, reason):
    """Waits until the device is set aside, and returns what the status says of it."""
    async with asyncio.timeout(60):
        while True:
            (device,) = (await asked.agent.stages.telling.status())["devices"]
            if device["quarantine"] == reason:
                return device
            await asyncio.sleep(0.05)


async def looked_for(asked):
    """Waits until the agent looks for a profile that fits."""
    async with asyncio.timeout(60):
        while True:
            if asked.agent.stages._rematch._tried:
                return
            await asyncio.sleep(0.05)


async def test_the_profile_of_the_firmware_takes_over_and_one_that_nobody_knows_sets_the_device_aside(
    tmp_path, server, site
):
    state = tmp_path / "state"
    async with running(site, state) as asked:
        await server.until(lambda: server.reads[1] > 3)  # the newest profile is not the one of this device
        server.fixed[11] = 2
        server.drop()
        await server.until(lambda: server.reads[2] > 3)
        # A reload does not forget whom it reads by what.
        site.write_text(site.read_text() + "# edited\n")
        done = await asked("config.reload", who="test", why="something else")
        assert (len(done["kept"]), done["changed"], done["restarted"]) == (1, [], [])

        server.fixed[11] = 3
        server.drop()
        device = await quarantined(asked, "FIRMWARE_UNKNOWN")
        assert (device["connected"], device["firmware"]) == (False, "3")
        assert "firmware '3'" in device["last_error"]
        reads = server.reads[0]
        server.fixed[11] = 1
        server.drop()
        await server.until(lambda: server.reads[0] > reads + 3)
        await quarantined(asked, "")
        assert (await asked.agent.stages.telling.status())["configuration"]["profiles"] == {"d": "acme/m/1.0"}
    rows = stored(state, tmp_path)
    assert {"d.a", "d.old", "d.new"} <= rows.keys()
    assert "bad(DEVICE_FAULT)" in {row["quality"] for row in rows["d.a"]}


async def test_a_profile_that_takes_the_inputs_of_a_twin_leaves_the_device_aside(tmp_path, server, site):
    site.write_text(site.read_text() + "twins:\n  t: {definition: any, properties: {x: d.new}}\n")
    server.fixed[11] = 2
    async with running(site, tmp_path / "state") as asked:
        await server.until(lambda: server.reads[2] > 3)
        server.fixed[11] = 1
        server.drop()
        device = await quarantined(asked, "FIRMWARE_UNKNOWN")
        assert "firmware '1'" in device["last_error"]
        assert not server.reads[1]


async def test_a_profile_that_is_named_with_its_version_is_not_exchanged(tmp_path, server, site):
    site.write_text(site.read_text().replace("acme/m}", "acme/m/2.0}"))
    async with running(site, tmp_path / "state") as asked:
        await quarantined(asked, "FIRMWARE_UNKNOWN")
        server.fixed[11] = 2
        server.drop()
        await server.until(lambda: server.reads[2] > 3)
        assert not server.reads[1]


async def test_profile_of_an_older_firmware_that_is_added_later_takes_over_with_the_next_reload(tmp_path, server, site):
    server.fixed[11] = 0
    async with running(site, tmp_path / "state") as asked:
        await quarantined(asked, "FIRMWARE_UNKNOWN")
        await looked_for(asked)
        path = tmp_path / "profiles/acme/m/0.5.yaml"
        path.write_text(PROFILE.format(firmware="0", new="oldest", register=3))
        await asked("config.reload", who="test", why="a profile was added")
        await server.until(lambda: server.reads[3] > 3)
