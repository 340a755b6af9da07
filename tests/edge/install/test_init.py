"""`twinedge init`: where it looks, what it proposes, and that it writes nothing it cannot read back."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from twinedge import cli_init
from twinedge.cli import cli
from twinedge.config.load import load_site
from twinedge.install.proposal import draft_command, named, site_text, write_site
from twinedge.install.search import Found, find_modbus, places_of
from twinmodel.clock import SystemClock
from twinmodel.errors import ConfigError, ConflictError, InputError
from twinsim.scenario import profile_scenario
from twinsim.simulation import simulation

METER = Found("modbus", "tcp://10.0.0.7:502", "carlogavazzi/em24-ethernet/all", True, "it says '1640'", 1)
STRANGER = Found("modbus", "tcp://10.0.0.8:502", unit_id=3, called="PM 5560", why="no profile's\n`identify` fits")
PRESS = Found("opcua", "opc.tcp://10.0.0.9:4840", "hybridtwin/heat-exchanger/1.0", True, "6 of 6", root="HX-1",
              security=("Basic256Sha256", "sign_and_encrypt"), step="accept it")  # fmt: skip


@pytest.mark.parametrize(
    ("protocol", "text", "first", "count"),
    [
        ("modbus", "10.0.0.0/28", "tcp://10.0.0.1:502", 14),
        ("modbus", "10.0.0.20..22", "tcp://10.0.0.20:502", 3),
        ("modbus", "10.0.0.20..22:1502", "tcp://10.0.0.20:1502", 3),
        ("modbus", "tcp://10.0.0.{1..3}:502", "tcp://10.0.0.1:502", 3),
        ("modbus", "/dev/ttyUSB0", "rtu:///dev/ttyUSB0?baud=19200&parity=N&stop=1", 1),
        ("opcua", "press", "opc.tcp://press:4840", 1),
        ("opcua", "10.0.0.9..10", "opc.tcp://10.0.0.9:4840", 2),
        ("mqtt", "mqtt://10.0.0.5", "mqtt://10.0.0.5:1883", 1),
    ],
)
def test_where_to_look_is_read_generously(protocol, text, first, count):
    found = places_of(protocol, text)
    assert (found[0], len(found)) == (first, count)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("10.0.0.0/8", "VALUE_INVALID"), ("10.0.0.0/21", "LIMIT_EXCEEDED"), ("10.0.0.9..3", "VALUE_INVALID"),
     ("10.0.0.1..300", "VALUE_INVALID"), ("10.0.0.999/30", "VALUE_INVALID")],
)  # fmt: skip
def test_what_is_no_range_or_too_large_a_one_is_refused(text, reason):
    with pytest.raises(InputError) as caught:
        places_of("modbus", text)
    assert caught.value.reason == reason


def test_the_proposal_is_read_back_and_tells_what_no_profile_reads(tmp_path):
    devices = named([METER, METER, STRANGER, PRESS])
    assert list(devices) == ["em24-ethernet-1", "em24-ethernet-2", "pm-5560-1", "heat-exchanger-1"]
    text = site_text("plant-a", devices, disk="64MiB", profiles=None)
    path = tmp_path / "etc/site.yaml"
    assert write_site(path, text, replace=False) is None
    site = load_site(path).site
    assert list(site.devices) == ["em24-ethernet-1", "em24-ethernet-2", "heat-exchanger-1"]
    press = site.devices["heat-exchanger-1"]
    assert (press.root, press.security.policy, press.profile) == ("HX-1", "Basic256Sha256", "hybridtwin/heat-exchanger")
    assert "# first: accept it" in text
    assert '#  pm-5560-1: {modbus: "tcp://10.0.0.8:502", unit_id: 3, profile: VENDOR/DEVICE}' in text


def test_a_configuration_that_is_there_stays_unless_it_is_to_be_replaced_and_then_is_kept(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text("mine")
    text = site_text("plant-a", named([METER]), disk="64MiB", profiles=None)
    with pytest.raises(ConflictError, match="ALREADY_EXISTS"):
        write_site(path, text, replace=False)
    assert path.read_text() == "mine"
    assert write_site(path, text, replace=True).read_text() == "mine"
    assert path.read_text() == text


def test_a_text_that_cannot_be_read_back_replaces_nothing(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text("mine")
    with pytest.raises(ConfigError):
        write_site(path, "site: [", replace=True)
    assert [p.name for p in tmp_path.iterdir()] == ["site.yaml"]
    assert path.read_text() == "mine"


def test_nobody_there_writes_nothing_and_says_so(tmp_path):
    path = tmp_path / "site.yaml"
    wanted = ["init", "--config", str(path), "--state", str(tmp_path / "s"), "--modbus", "127.0.0.1:1", "--yes"]
    ended = CliRunner().invoke(cli, wanted)
    assert (ended.exception.reason, path.exists()) == ("NO_DEVICE_FOUND", False)


async def test_meters_on_the_network_become_a_configuration(tmp_path):
    scenario, said = profile_scenario("meter", 3, profile="carlogavazzi/em24-ethernet", devices=2, log=False), []
    async with simulation(scenario, tmp_path, SystemClock()) as running:
        address = running.addresses["meter"].removeprefix("tcp://")
        places = places_of("modbus", address)
        found = await find_modbus(
            places, [1, 2, 3], clock=SystemClock(), profiles=None, timeout_s=2.0, tell=said.append
        )
    assert [(one.unit_id, one.profile, one.sure) for one in found] == [
        (1, "carlogavazzi/em24-ethernet/all", True),
        (2, "carlogavazzi/em24-ethernet/all", True),
    ]
    assert "reads only" in said[0]


async def test_of_several_hosts_only_those_that_answer_are_asked(tmp_path):
    scenario, said = profile_scenario("meter", 3, profile="carlogavazzi/em24-ethernet", log=False), []
    async with simulation(scenario, tmp_path, SystemClock()) as running:
        port = running.addresses["meter"].rpartition(":")[2]
        places = places_of("modbus", f"127.0.0.1..3:{port}")
        found = await find_modbus(places, [1], clock=SystemClock(), profiles=None, timeout_s=2.0, tell=said.append)
    assert [one.address for one in found] == [f"tcp://127.0.0.1:{port}"]
    assert "modbus: 1 of 3 answer" in said


def test_what_a_device_says_of_itself_cannot_break_the_file(tmp_path):
    rude = replace(METER, why="it says \x1b[2J\x00\ud800\nsite: other", step="\x07")
    path = tmp_path / "site.yaml"
    write_site(path, site_text("plant-a", named([rude]), disk="64MiB", profiles=None), replace=False)
    assert load_site(path).site.site == "plant-a"
    assert "\x1b" not in path.read_text()


@pytest.mark.parametrize("text", ["10.0.0.300", "10.0.0", "1..3", "10.0.0.300:502"])
@pytest.mark.parametrize("protocol", ["modbus", "opcua", "mqtt"])
def test_numbers_that_are_no_address_are_refused_before_a_name_server_is_asked(protocol, text):
    with pytest.raises(InputError, match="is no address"):
        places_of(protocol, text)


@pytest.mark.parametrize("wrong", [["--site", "Plant A"], ["--disk", "much"]])
def test_what_the_file_could_not_hold_is_refused_before_anybody_is_looked_for(tmp_path, wrong):
    path = tmp_path / "site.yaml"
    ended = CliRunner().invoke(cli, ["init", "--config", str(path), "--modbus", "127.0.0.1:1", "--yes", *wrong])
    assert ended.exception.reason == "VALUE_INVALID"
    assert wrong[0] in str(ended.exception)
    assert "reads only" not in ended.output


@pytest.mark.parametrize("one", [STRANGER, replace(PRESS, profile=""), Found("mqtt", "mqtt://10.0.0.5:1883")])
def test_the_command_that_drafts_a_profile_is_one_that_runs(tmp_path, monkeypatch, one):
    ran = []
    for name in ("modbus", "opcua", "mqtt"):
        monkeypatch.setattr(cli.commands["browse"].commands[name], "callback", lambda **given: ran.append(given))
    program, *words = shlex.split(draft_command("press-1", one))
    ended = CliRunner().invoke(cli, words)
    assert (program, ended.exit_code) == ("twinedge", 0), ended.output
    assert Path("press-1.yaml") in ran[0].values()


def test_answers_that_cannot_be_read_are_asked_again_and_unit_ids_are_asked_for(tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(cli_init, "_search", lambda *what: what)
    monkeypatch.setattr(cli_init, "run_quietly", lambda what: looked.append(what) or [])
    monkeypatch.setattr(cli_init, "_is_terminal", lambda: True)
    answers = "Plant A\nplant-a\n10.0.0.300\n10.0.0.7\n17..x\n17..19\n\n\n"
    wanted = ["init", "--config", str(tmp_path / "site.yaml"), "--state", str(tmp_path / "s")]
    ended = CliRunner().invoke(cli, wanted, input=answers)
    assert ended.exception.reason == "NO_DEVICE_FOUND"
    assert looked[0][:2] == ({"modbus": ["tcp://10.0.0.7:502"], "opcua": [], "mqtt": []}, "17..19")
