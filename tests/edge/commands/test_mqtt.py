"""Commands to simulated MQTT devices: what their own topic proves, and what only the broker says."""

from __future__ import annotations

import contextlib
import json

import pytest

from tests.cloud.ingest.memory import until
from tests.edge.commands.conftest import ticking
from twinedge.ports import BROKER_ONLY
from twinmodel.clock import SystemClock
from twinsim.image.device import ProfileDevice
from twinsim.serve.mqtt_profile import serve_messages
from twinsync.command import CommandStep

PROFILE = """
profile: test/valve
firmware: "*"
protocol: mqtt
source: none
defaults: {topic: "{root}/telemetry", every: 200ms}
points:
  opening:
    at: $.opening
    unit: "%"
    scale: 0.1
    write: {range: [0, 100], class: A, settle: 5s, publish: {topic: "{root}/set", payload: {v: "{value}", id: "{id}"}}}
  mode: {at: $.mode, as: string, write: {class: A, settle: 100ms, publish: {topic: "{root}/mode"}}}
  quiet:
    at: $.nowhere
    optional: true
    as: int16
    write: {range: [0, 9], class: A, settle: 100ms, publish: {topic: "{root}/quiet"}}
methods:
  home:
    class: A
    inputs: {speed: {as: int16, range: [1, 9]}}
    publish: {topic: "{root}/home", payload: {s: "{speed}", by: "{id}"}}
"""
ALLOW = "commands: {allow: [valve.opening, valve.mode, valve.quiet, valve.home]}\n"


@pytest.fixture
def valve(plant, site, source, tmp_path):
    @contextlib.asynccontextmanager
    async def run():
        clock = SystemClock()
        simulated = source(PROFILE)
        del simulated.profile.points["quiet"]  # a point that the device never tells anything of
        device = ProfileDevice("valve", 1, simulated, 1, {"opening": "20", "mode": "auto"})
        device.tick(0.1, clock.wall_ns())

        async with serve_messages([device], None, state=tmp_path) as fleet:
            keys = {"valve": f'mqtt: "{device.address}", root: {device.root}'}
            async with ticking(device, fleet, clock, 0.1), plant(site(PROFILE, keys, ALLOW)) as made:
                await made.good("valve.opening")
                yield made, device

    return run


@pytest.mark.service("mosquitto")
async def test_a_publish_counts_as_done_when_the_device_shows_it_and_else_says_what_nobody_proved(valve):
    async with valve() as (plant, device):
        done = await plant.end("valve.opening", 42.5, name="cmd-1")
        assert (done.step, done.read_back) == (CommandStep.SUCCEEDED, 42.5), done
        assert "the device shows it" in done.detail
        assert [(w.point, w.value) for w in device.writes] == [("opening", 42.5)]
        unproven = await plant.end("valve.quiet", 5)
        assert (unproven.step, unproven.read_back, unproven.detail) == (CommandStep.SUCCEEDED, None, BROKER_ONLY)
        called = await plant.end("valve.home", 3, name="cmd-3")
        assert (called.step, called.detail) == (CommandStep.SUCCEEDED, BROKER_ONLY)
        await until(lambda: device.writes[-1].point == "home")
        assert json.loads(device.writes[-1].value) == {"s": 3, "by": "cmd-3"}
        assert (await plant.end("valve.home", 10)).reason == "COMMAND_OUT_OF_RANGE"
