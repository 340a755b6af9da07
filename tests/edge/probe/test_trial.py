"""`twinedge test`: every device once, failures by name; what an agent holds alone is left to it."""

from __future__ import annotations

import fcntl
import os

import pytest

from tests.ports import free_port
from twinedge.config.load import load_site
from twinedge.probe.trial import agent_runs, chosen, trial
from twinedge.probe.trial_text import summary, trial_text
from twinmodel.errors import MissingError
from twinsim.serve.modbus import serve_modbus

PROFILE = """profile: acme/tank
firmware: "*"
protocol: modbus
base: 0
limits: {connections: 4}
points:
  level: {at: input 0, as: float32, unit: m, range: [0, 1]}
  wrong: {at: input 2, as: uint16, range: [0, 10]}
  gone:  {at: holding 4000, as: uint16}
"""


@pytest.fixture
def site(tmp_path, profiles):
    def make(devices):
        profiles("acme/tank/1", PROFILE)
        profiles("acme/single/1", PROFILE.replace("acme/tank", "acme/single").replace("limits: {connections: 4}\n", ""))
        path = tmp_path / "site.yaml"
        lines = "".join(f"  {name}: {text}\n" for name, text in devices.items())
        path.write_text(f"site: s\nprofiles: profiles\ndevices:\n{lines}")
        return load_site(path)

    return make


async def test_points_are_read_judged_and_named_when_they_fail(site, simulated, clock, tmp_path):
    async with serve_modbus(*simulated("modbus", 1), clock) as port:
        loaded = site({"tank": f"{{modbus: 'tcp://127.0.0.1:{port}', profile: acme/tank}}"})
        document = await trial(loaded, [], state=tmp_path, clock=clock, within_s=50.0)
    (device,) = document["devices"]
    points = {p["point"]: p for p in device["points"]}
    assert points["level"]["quality"] == "good"
    assert 0 <= points["level"]["value"] <= 1
    assert points["wrong"]["quality"] == "bad(OUT_OF_RANGE)"
    assert "outside 0..10" in points["wrong"]["reason"]
    assert points["gone"]["quality"] == "bad(DEVICE_FAULT)"
    assert "exception 2" in points["gone"]["reason"]
    assert not document["ok"]
    assert "tank.wrong" in summary(document)
    assert "bad(OUT_OF_RANGE)" in trial_text(document)


async def test_a_device_that_is_away_fails_alone(site, simulated, clock, tmp_path):
    async with serve_modbus(*simulated("modbus", 1), clock) as port:
        loaded = site(
            {
                "tank": f"{{modbus: 'tcp://127.0.0.1:{port}', profile: hybridtwin/coupled-tanks}}",
                "away": f"{{modbus: 'tcp://127.0.0.1:{free_port()}', profile: acme/tank}}",
            }
        )
        document = await trial(loaded, [], state=tmp_path, clock=clock, within_s=50.0)
    assert [(d["device"], d["ok"]) for d in document["devices"]] == [("tank", True), ("away", False)]
    assert "no connection" in document["devices"][1]["error"]
    assert "all points" in trial_text(document)


async def test_a_device_of_one_connection_is_left_to_the_agent_that_runs(site, clock, tmp_path):
    loaded = site({"only": "{modbus: 'tcp://127.0.0.1:1', profile: acme/single}"})
    state = tmp_path / "state"
    state.mkdir()
    held = os.open(state, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert agent_runs(state)
        document = await trial(loaded, [], state=state, clock=clock, within_s=1.0)
    finally:
        os.close(held)
    assert not agent_runs(state)
    assert not document["ok"]
    assert not document["devices"][0]["read"]
    assert "one connection" in trial_text(document)
    assert "--anyway" in summary(document)


def test_devices_are_chosen_by_name_range_or_pattern(site):
    loaded = site(
        {
            "meters": "{modbus: 'tcp://10.0.0.{1..3}:502', profile: acme/tank}",
            "press": "{modbus: 'tcp://10.0.1.1:502', profile: acme/tank}",
        }
    )
    assert chosen(loaded, []) == ["meters-1", "meters-2", "meters-3", "press"]
    assert chosen(loaded, ["meters"]) == ["meters-1", "meters-2", "meters-3"]
    assert chosen(loaded, ["p*"]) == ["press"]
    with pytest.raises(MissingError) as told:
        chosen(loaded, ["pres"])
    assert "press" in told.value.hint
