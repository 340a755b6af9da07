"""Fault scripts: looked through before the first fault, played in their order, told as they go."""

import asyncio
import threading

import pytest
from click.testing import CliRunner

from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.errors import ConfigError, InputError, UnreachableError
from twinmodel.profile.document import read_document
from twinsim.cli import cli
from twinsim.link import LinkMode
from twinsim.scenario import Scenario
from twinsim.script import check_script, describe, play, read_script
from twinsim.simulation import simulation

PLANT = Scenario.model_validate({"modbus": {"devices": 2}, "links": {"wan": {"to": "127.0.0.1:1"}}})
SCRIPT = """
faults:
  - {at: 8s, target: T-1, fault: clear}
  - {at: 2s, target: wan, fault: cut, repeat: {every: 3s, times: 3}}
  - {at: 1s, target: T-1, fault: drift, point: pump, size: 0.5, for: 1h, expect: the twin parts from the machine}
"""


@pytest.fixture
def script(tmp_path):
    def write(text=SCRIPT):
        path = tmp_path / "faults.yaml"
        path.write_text(text)
        return path

    return write


def test_a_script_is_listed_in_order_with_what_repeats(script):
    lines = list(describe(read_script(script())))
    assert [line.split()[0] for line in lines] == ["1.0", "2.0", "5.0", "8.0", "8.0"]
    assert "T-1 drift of pump by 0.5 for 3600 s  (the twin parts from the machine)" in lines[0]


def test_of_a_very_long_script_the_first_thousand_lines_are_listed(script):
    text = "faults: [{at: 0s, target: T-1, fault: busy, repeat: {every: 1s, times: 100000}}]\n"
    *lines, last = describe(read_script(script(text)))
    assert (len(lines), last) == (1000, "... and 99000 more")


@pytest.mark.parametrize(
    "line",
    [
        "{at: 1s, target: T-1, fault: stucked}",
        "{at: 1s, target: T-1, fault: stuck, repeat: {every: 0s, times: 3}}",
        "{at: 1s, target: T-1, fault: stuck, for: 0s}",
        "{at: 1s, target: T-1, fault: clear, for: 5s}",
        "{at: 1s, target: T-1, fault: stuck, untill: 5s}",
    ],
)
def test_a_wrong_script_is_refused_with_its_line(script, line):
    with pytest.raises(ConfigError) as refused:
        read_script(script(f"faults:\n  - {line}\n"))
    assert refused.value.facts["line"] == 2


async def test_a_script_is_played_by_the_clock_and_each_fault_is_told(tmp_path, script, system_clock):
    clock, told, seen = ManualClock(), [], []

    def wait(seconds):
        seen.append((clock.boot_ns() // SECOND_NS, str(made.links["wan"].mode)))
        clock.advance(round(seconds * SECOND_NS))

    async with simulation(PLANT, tmp_path / "state", system_clock) as made:
        read = read_script(script())
        await asyncio.to_thread(check_script, read, made.state, read_document(script()))
        assert await asyncio.to_thread(play, read, made.state, clock, told.append, wait) == 5
        assert made.links["wan"].mode is LinkMode.CUT
        assert made.devices["T-1"].faults.on == ()  # the last line cleared it
        assert [at for at, _ in seen] == [0, 1, 2, 5]
        assert seen[-2:] == [(2, "cut"), (5, "cut")]
        assert len(told) == 5


async def test_everything_wrong_with_a_script_is_told_before_its_first_fault(tmp_path, script, system_clock):
    text = """
faults:
  - {at: 0s, target: T-1, fault: stuck}
  - {at: 1s, target: T-9, fault: stuck}
  - {at: 1s, target: T-2, fault: renumber}
  - {at: 1s, target: wan, fault: delay, size: 1000}
  - {at: 1s, target: T-2, fault: stuck, point: colour}
"""
    async with simulation(PLANT, tmp_path / "state", system_clock) as made:
        arguments = ["fault", "--script", str(script(text)), "--state", str(made.state)]
        done = await asyncio.to_thread(CliRunner().invoke, cli, arguments)
        assert isinstance(done.exception, InputError)
        assert done.exception.facts["line"] == 4
        for number, part in ((1, "T-9"), (2, "renumber"), (3, "1000"), (4, "colour")):
            assert f"faults.{number}: " in str(done.exception)
            assert part in str(done.exception)
        assert made.devices["T-1"].faults.on == ()
        dry = await asyncio.to_thread(
            CliRunner().invoke, cli, [*arguments[:2], str(script()), "--dry-run", *arguments[3:]]
        )
        assert dry.output.count("wan cut") == 3
        assert made.links["wan"].mode is LinkMode.UP


async def test_a_fault_a_device_cannot_take_now_is_told_and_the_rest_goes_on(tmp_path, script, system_clock):
    text = """
faults:
  - {at: 0s, target: m-1, fault: reboot, size: 3600}
  - {at: 1s, target: m-1, fault: reboot}
  - {at: 2s, target: m-1, fault: busy}
"""
    scenario = Scenario.model_validate({"profiles": {"m": {"profile": "abb/b23", "rate": 100}}})
    clock, told = ManualClock(), []

    async with simulation(scenario, tmp_path / "state", system_clock) as made:

        def wait(seconds):
            while not made.devices["m-1"].away:
                threading.Event().wait(0.01)
            clock.advance(round(seconds * SECOND_NS))

        assert await asyncio.to_thread(play, read_script(script(text)), made.state, clock, told.append, wait) == 2
    assert "NOT_READY" in told[1]


def test_a_script_for_no_simulation_says_so(tmp_path, script):
    with pytest.raises(UnreachableError):
        check_script(read_script(script()), tmp_path, read_document(script()))


@pytest.mark.parametrize("more", [[], ["T-1"], ["T-1", "stuck", "--dry-run"], ["T-1", "stuck", "--script", "x.yaml"]])
def test_half_an_order_is_a_usage_error(tmp_path, more):
    assert CliRunner().invoke(cli, ["fault", *more, "--state", str(tmp_path)]).exit_code == 2
