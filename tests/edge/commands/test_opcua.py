"""Commands to simulated OPC UA servers: values of the node's own type, methods, and what a server says no with."""

from __future__ import annotations

import contextlib

import pytest

from tests.cloud.ingest.memory import until
from tests.edge.commands.conftest import ticking
from tests.edge.drivers.conftest import ListSink
from twinmodel.clock import SystemClock
from twinsim.image.device import ProfileDevice
from twinsim.serve.opcua_profile import serve_nodes
from twinsync.command import CommandStep

PROFILE = """
profile: test/mixer
firmware: "*"
protocol: opcua
namespace: urn:test:mixer
source: none
defaults: {every: 100ms}
points:
  speed: {at: Drive/Speed, as: float32, unit: rpm, range: [0, 3000], write: {range: [0, 2000], class: A, settle: 2s}}
  gear: {at: Drive/Gear, as: int16, range: [0, 9], write: {range: [1, 5], class: A, settle: 2s}}
  on: {at: Drive/On, as: bool, write: {class: A, settle: 2s}}
  level: {at: Level, as: float64, unit: m, range: [0, 2], write: {range: [0, 1], class: A, settle: 500ms}}
methods:
  mix: {at: Drive/Mix, class: A, inputs: {seconds: {as: uint16, range: [1, 600]}, hard: {as: bool}}}
  drain: {at: Drive/Drain, class: B}
  gone: {at: Drive/Gone, class: A}
"""
ALLOW = "commands: {allow: [mixer.speed, mixer.gear, mixer.on, mixer.level, mixer.mix, mixer.drain, mixer.gone]}\n"


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("opcua")


@pytest.fixture
def mixer(plant, site, source, state):
    @contextlib.asynccontextmanager
    async def run():
        clock = SystemClock()
        device = ProfileDevice("MIXER-1", 1, source(PROFILE), 1, {"speed": "500", "gear": "1", "on": "0"})
        device.tick(0.1, clock.wall_ns())
        # The server lacks a method and a writable level the agent's profile has.
        served = device.source.profile
        del served.methods["gone"]
        served.points["level"] = served.points["level"].model_copy(update={"write": None})

        async with serve_nodes([device], None, clock, state=state) as fleet:
            keys = {"mixer": f'opcua: "{device.address}", root: MIXER-1'}
            async with ticking(device, fleet, clock, 0.05), plant(site(PROFILE, keys, ALLOW)) as made:
                assert isinstance(made.sink, ListSink)
                await made.good("mixer.speed")
                yield made, device

    return run


async def test_nodes_are_written_in_their_own_type_and_methods_called_once(mixer):
    async with mixer() as (plant, device):
        for point, value in (("speed", 1234.5), ("gear", 3), ("on", True)):
            state = await plant.end(f"mixer.{point}", value)
            assert (state.step, state.read_back) == (CommandStep.SUCCEEDED, value), state
        await until(lambda: len(device.writes) == 3)  # the simulation takes them with its next tick
        assert [(w.point, w.value, w.code) for w in device.writes] == [
            ("speed", 1234.5, 0), ("gear", 3, 0), ("on", True, 0),
        ]  # fmt: skip
        mixed = await plant.end("mixer.mix", [30, True])
        assert (mixed.step, mixed.read_back) == (CommandStep.SUCCEEDED, 1)
        assert (device.writes[-1].point, device.writes[-1].value) == ("mix", "[30, true]")
        refusals = [
            (await plant.end("mixer.mix", [0, True])).reason,
            (await plant.end("mixer.mix", [5])).reason,
            (await plant.end("mixer.drain")).reason,
            (await plant.end("mixer.gone")).reason,
            (await plant.end("mixer.level", 0.5)).reason,
        ]
        assert refusals == [
            "COMMAND_OUT_OF_RANGE", "COMMAND_INVALID", "COMMAND_UNAPPROVED", "DEVICE_UNREACHABLE",
            "COMMAND_REFUSED_BY_DEVICE",
        ]  # fmt: skip
        drained = await plant.end("mixer.drain", approved=["bob"])
        assert drained.step is CommandStep.SUCCEEDED
        assert sum(w.point in {"mix", "drain"} for w in device.writes) == 2
