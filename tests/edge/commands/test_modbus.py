"""Commands to simulated Modbus devices: written once, read back, and what is told when that does not go well."""

from __future__ import annotations

import contextlib

import pytest

from tests.edge.commands.conftest import PRESS, START
from twinedge.commands import guard
from twinmodel.clock import SystemClock
from twinsim.image.device import ProfileDevice
from twinsim.serve.modbus_profile import serve_registers
from twinsync.command import CommandKind, CommandStep

ALLOW = (
    "commands: {allow: [press.setpoint, press.speed, press.mode, press.hand, press.held, press.name, press.running]}\n"
)


@pytest.fixture
def press(plant, site, source):
    """Context manager: a press with all its points allowed, and the device itself."""

    @contextlib.asynccontextmanager
    async def run(commands=ALLOW, framing="tcp"):
        device = ProfileDevice("press", 1, source(PRESS), 1, START)
        clock = SystemClock()
        device.tick(0.1, clock.wall_ns())
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(serve_registers([device], None, clock, framing=framing))
            loaded = site(PRESS, {"press": f'modbus: "{device.address}"'}, commands)
            made = await stack.enter_async_context(plant(loaded))
            if commands:
                await made.good("press.setpoint")
                await made.good("press.running")
            yield made, device

    return run


def written(device):
    return [(w.point, w.value) for w in device.writes if not w.code]


async def test_values_of_every_kind_are_written_once_and_read_back(press):
    async with press() as (plant, device):
        orders = [("setpoint", 33.3), ("mode", "auto"), ("hand", True), ("name", "PR-7"), ("running", True)]
        for point, value in orders:
            state = await plant.end(f"press.{point}", value)
            assert (state.step, state.reason) == (CommandStep.SUCCEEDED, ""), state
        shown = {point: device.image.value(point) for point, _ in orders}
        assert shown == {"setpoint": 33.3, "mode": 2, "hand": True, "name": "PR-7", "running": True}
        speed = await plant.end("press.speed", 1499.5, approved=["bob"])
        assert (speed.step, speed.read_back) == (CommandStep.SUCCEEDED, 1499.5)
        points = [point for point, _ in written(device)]
        assert points.count("setpoint") == points.count("speed") == 1
        assert [s.step.name for s in plant.told if s.id == speed.id] == ["ACCEPTED", "SUCCEEDED"]


async def test_a_bit_leaves_the_others_of_its_register_alone_in_serial_frames_too(press):
    async with press(framing="rtu") as (plant, device):
        for point, value in (("mode", 1), ("hand", True), ("mode", 2), ("hand", False), ("setpoint", 25)):
            assert (await plant.end(f"press.{point}", value)).step is CommandStep.SUCCEEDED
        assert (device.image.value("mode"), device.image.value("hand")) == (2, False)


@pytest.mark.parametrize(
    ("target", "value", "reason"),
    [
        ("press.level", 3, "COMMAND_NOT_ALLOWED"),
        ("press.setpoint", 61, "COMMAND_OUT_OF_RANGE"),
        ("press.setpoint", "hot", "COMMAND_INVALID"),
        ("press.setpoint", float("nan"), "COMMAND_INVALID"),
        ("press.setpoint", 45, "COMMAND_STEP_TOO_LARGE"),
        ("press.speed", 10, "COMMAND_UNAPPROVED"),
        ("press.mode", 7, "COMMAND_OUT_OF_RANGE"),
        ("press.name", "much too long", "COMMAND_INVALID"),
    ],
)
async def test_what_the_rules_forbid_never_reaches_the_device(press, target, value, reason):
    async with press() as (plant, device):
        state = await plant.end(target, value)
        assert (state.step, state.reason) == (CommandStep.FAILED, reason)
        assert device.writes == []


async def test_nothing_is_written_where_site_yaml_names_nothing(press):
    async with press(commands="") as (plant, device):
        state = await plant.end("press.setpoint", 30)
        assert (state.step, state.reason, device.writes) == (CommandStep.FAILED, "COMMAND_NOT_ALLOWED", [])


async def test_rate_and_interlock_are_judged_when_it_is_a_commands_turn(press):
    async with press() as (plant, device):
        ends = [await plant.end("press.speed", 100 * k, approved=["bob"], name=f"s{k}") for k in (1, 2, 3)]
        assert [e.reason for e in ends] == ["", "", "COMMAND_RATE_EXCEEDED"]
        await plant.end("press.running", value=False)
        await plant.good("press.running", value=False)
        late = await plant.end("press.speed", 5, approved=["bob"], name="s4")
        assert late.reason == "COMMAND_INTERLOCKED"
        assert len([1 for p, _ in written(device) if p == "speed"]) == 2


async def test_a_device_that_refuses_ignores_or_says_nothing_is_told_as_such(press):
    async with press() as (plant, device):
        device.inject("write_refused", size=3)
        refused = await plant.end("press.setpoint", 30, name="a")
        assert (refused.step, refused.reason) == (CommandStep.FAILED, "COMMAND_REFUSED_BY_DEVICE")
        assert "exception 3" in refused.detail
        device.faults.end("write_refused")
        device.inject("write_ignored")
        ignored = await plant.end("press.setpoint", 30, name="b")
        assert (ignored.step, ignored.reason, ignored.read_back) == (CommandStep.FAILED, "COMMAND_NOT_TAKEN", 20.0)
        device.faults.end("write_ignored")
        device.inject("write_unanswered")
        silent = await plant.end("press.setpoint", 31, name="c")
        steps = [s.step.name for s in plant.told if s.id == "c"]
        assert steps == ["ACCEPTED", "UNKNOWN", "SUCCEEDED"]
        assert (silent.read_back, "shows the value" in silent.detail) == (31.0, True)
        assert written(device) == [("setpoint", 31.0)]


async def test_an_id_that_was_met_is_answered_and_not_done_again(press):
    async with press() as (plant, device):
        first = await plant.end("press.setpoint", 30, name="once")
        plant.order("press.setpoint", 35, name="once")
        assert plant.told[-1] == first
        plant.order("press.setpoint", 99, name="wrong")
        plant.order("press.setpoint", 30, name="wrong")
        assert plant.told[-1].reason == "COMMAND_OUT_OF_RANGE"
        assert written(device) == [("setpoint", 30.0)]


async def test_a_held_value_is_fed_until_its_deadline_its_session_or_the_next_command(press):
    async with press() as (plant, device):
        fed = device.registers.tables["holding"]
        at = 31

        def beats():
            return int.from_bytes(fed.read(at, 1), "big")

        done = await plant.end("press.held", 50, kind=CommandKind.HOLD, left_s=1.5, name="h1")
        assert (done.step, done.read_back) == (CommandStep.SUCCEEDED, 50)
        assert "until its deadline" in done.detail
        assert beats() >= 3
        plant.order("press.held", 60, kind=CommandKind.HOLD, name="h2")
        await plant.until(lambda: any(s.id == "h2" and s.detail.startswith("held") for s in plant.told))
        plant.order("press.held", 70, name="w3")
        await plant.until(lambda: plant.last("h2") is not None and plant.last("w3") is not None)
        assert plant.last("h2").reason == "COMMAND_SUPERSEDED"
        assert plant.last("w3").step is CommandStep.SUCCEEDED
        plant.order("press.held", 40, kind=CommandKind.HOLD, name="h4")
        await plant.until(lambda: any(s.id == "h4" and s.detail.startswith("held") for s in plant.told))
        plant.desk.session_ended()
        await plant.until(lambda: plant.last("h4") is not None)
        assert plant.last("h4").reason == "COMMAND_SESSION_ENDED"
        last = beats()
        await plant.end("press.held", 41, name="w5")
        assert beats() == last


async def test_a_defect_while_a_command_is_judged_is_its_end_and_not_that_of_the_others(press, monkeypatch):
    async with press() as (plant, device):

        def trips(*_):
            raise ZeroDivisionError("a defect")

        with monkeypatch.context() as patch:
            patch.setattr(guard, "begin", trips)
            state = await plant.end("press.setpoint", 33.0)
        assert (state.step, state.reason, device.writes) == (CommandStep.FAILED, "INTERNAL", [])
        assert (await plant.end("press.setpoint", 34.0)).step is CommandStep.SUCCEEDED
