"""A scenario of profiles runs whole: the agent's own driver reads it, feels its faults, and finds it back."""

import asyncio
import contextlib
import random

import pytest

from tests.edge.drivers.conftest import ListSink
from twinedge.config.catalogue import signals_of
from twinedge.config.schema import Device
from twinedge.drivers.link import Assignment
from twinedge.drivers.modbus import ModbusDriver
from twinmodel.clock import MILLISECOND_NS
from twinmodel.errors import ConfigError, InputError
from twinmodel.profile.schema import kind_of
from twinmodel.quality import GOOD
from twinmodel.signal import Catalogue, Signal
from twinsim.image.source import find_source
from twinsim.scenario import Scenario, profile_scenario, read_scenario
from twinsim.simulation import simulation

NAMES = ("sunspec/inverter-three-phase", "thies/clima-sensor-us", "heidelberg/energy-control", "abb/b23")


def assigned(made, device, tmp_path):
    profile = find_source(device.profile).profile
    signals = [Signal(i, f"{device.name}.{n}", kind_of(p), p.unit) for i, (n, p) in enumerate(profile.points.items())]
    site = {"modbus": device.address, "unit_id": device.unit_id, "profile": profile.name}
    points = signals_of(Catalogue(tuple(signals)), device.name, profile)
    return Assignment(device.name, Device.model_validate(site), profile, points, MILLISECOND_NS, tmp_path)


@pytest.mark.parametrize("profile", NAMES)
async def test_the_agent_knows_a_simulated_device_and_reads_every_point_good(tmp_path, system_clock, profile):
    async with simulation(profile_scenario("d", 1, profile=profile), tmp_path / "sim", system_clock) as made:
        (device,) = made.devices.values()
        assignment, sink = assigned(made, device, tmp_path), ListSink()
        driver = ModbusDriver([assignment], clock=system_clock, rng=random.Random(1))
        task = asyncio.create_task(driver.run(sink), name="driver")
        try:
            await sink.until(lambda: {r[0] for r in sink.samples()} == set(range(len(assignment.profile.points))), 30)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert {r[2] for r in sink.samples()} == {GOOD}
        listed = made.describe()["devices"][0]
        assert listed["address"] == device.address
        assert listed["sample_no"] >= 1


def test_scenarios_with_profiles_are_checked(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("profiles:\n  meter: {profile: abb/b23, devices: 2, set: {power: 5, alarm: true}}\n")
    assert read_scenario(path).profiles["meter"].settings == {"power": "5", "alarm": "true"}
    for text in ("profiles: {modbus: {profile: a/b}}\n", "profiles: {m: {profil: a/b}}\n"):
        path.write_text(text)
        with pytest.raises(ConfigError):
            read_scenario(path)
    with pytest.raises(InputError):
        profile_scenario("m", 1, profile="abb/b23", devices=0)


async def test_faults_of_a_scenario_reach_devices_of_profiles(tmp_path, system_clock, eventually):
    content = {"profiles": {"m": {"profile": "kostal/ksem/2.5", "rate": 50}}}
    content |= {"faults": [{"at": 0, "target": "m-1", "fault": "firmware_update", "to": "2.6", "size": 0.1}]}
    async with simulation(Scenario.model_validate(content), tmp_path, system_clock) as made:
        await eventually(lambda: made.devices["m-1"].profile == "kostal/ksem/2.6")
        with pytest.raises(InputError):
            made.fault("m-1", "renumber")
