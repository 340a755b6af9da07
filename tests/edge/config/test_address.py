"""Addresses of Modbus devices, and ranges that stand for many."""

from __future__ import annotations

import pytest

from twinedge.config.address import ModbusAddress, parse_modbus, spread_address, spread_units
from twinedge.config.catalogue import build_catalogue
from twinedge.config.load import load_site
from twinmodel.errors import ConfigError

PROFILE = "profile: acme/meter\nprotocol: modbus\nbase: 0\npoints: {w: {at: holding 1}}\n"


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "profiles/acme/meter"
    folder.mkdir(parents=True)
    (folder / "1.yaml").write_text(PROFILE)

    def write(devices):
        text = "site: s\nprofiles: profiles\ndevices:\n" + "".join(f"  {line}\n" for line in devices)
        (tmp_path / "site.yaml").write_text(text)
        return tmp_path / "site.yaml"

    return write


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp://10.0.0.7", ModbusAddress("tcp", "10.0.0.7", 502)),
        ("rtu+tcp://moxa:4001", ModbusAddress("rtu+tcp", "moxa", 4001)),
        ("rtu:///dev/ttyUSB0", ModbusAddress("rtu", path="/dev/ttyUSB0")),
        ("rtu:///dev/ttyS1?baud=9600&parity=e&stop=2", ModbusAddress("rtu", "", 502, "/dev/ttyS1", 9600, "E", 2)),
    ],
)
def test_addresses_of_all_three_kinds_are_read(text, address):
    assert parse_modbus(text) == address


@pytest.mark.parametrize(
    "text",
    ["10.0.0.7:502", "udp://a:1", "tcp://", "tcp://a:0", "tcp://a:70000", "tcp://a/path", "tcp://u:p@a:1",
     "rtu://ttyUSB0", "rtu:///dev/x?baud=31337", "rtu:///dev/x?parity=X", "rtu:///dev/x?bits=7"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        parse_modbus(text)


def test_ranges_of_hosts_and_units_become_numbered_devices(site):
    loaded = load_site(site(['m: {modbus: "tcp://10.0.0.{20..21}:502", unit_id: "1..2", profile: acme/meter}']))
    found = {name: (d.modbus, d.unit_id) for name, d in loaded.site.devices.items()}
    assert found == {
        "m-1": ("tcp://10.0.0.20:502", 1),
        "m-2": ("tcp://10.0.0.20:502", 2),
        "m-3": ("tcp://10.0.0.21:502", 1),
        "m-4": ("tcp://10.0.0.21:502", 2),
    }
    assert [s.name for s in build_catalogue(loaded).signals] == ["m-1.w", "m-2.w", "m-3.w", "m-4.w", "@alarms"]


@pytest.mark.parametrize(
    ("device", "text"),
    [
        ('m: {modbus: "tcp://h{9..1}:502", profile: acme/meter}', "must ascend"),
        ('m: {modbus: "tcp://h{1..2}{1..2}", profile: acme/meter}', "one range"),
        ('m: {modbus: "tcp://h{1..9999}", profile: acme/meter}', "at most 4096"),
        ('m: {modbus: "tcp://h{1..99}", unit_id: "1..99", profile: acme/meter}', "at most 4096"),
        ('m: {modbus: "tcp://h", unit_id: "1..400", profile: acme/meter}', "255"),
        ('m: {modbus: "rtu:///dev/x?baud=1", profile: acme/meter}', "baud"),
    ],
)
def test_ranges_that_cannot_be_are_refused_at_their_line(site, device, text):
    with pytest.raises(ConfigError, match=text) as caught:
        load_site(site([device]))
    assert caught.value.reason == "VALUE_INVALID"
    assert caught.value.facts["line"] == 4


def test_range_that_makes_a_name_which_is_taken_is_refused(site):
    lines = ['m: {modbus: "tcp://h{1..2}", profile: acme/meter}', 'm-2: {modbus: "tcp://x", profile: acme/meter}']
    with pytest.raises(ConfigError, match="m-2"):
        load_site(site(lines))


def test_serial_line_at_two_speeds_is_refused(site):
    lines = [f'm{b}: {{modbus: "rtu:///dev/ttyUSB0?baud={b}", profile: acme/meter}}' for b in (9600, 19200)]
    with pytest.raises(ConfigError, match="another baud"):
        load_site(site(lines))


def test_single_entries_are_left_alone():
    assert spread_address("tcp://a") == ["tcp://a"]
    assert spread_units(7) == [7]


@pytest.mark.parametrize(
    "text", ["tcp://10.0.0.7:502", "rtu+tcp://[::1]:1502", "rtu:///dev/ttyUSB0?baud=9600&parity=E&stop=2"]
)
def test_an_address_written_out_is_read_as_the_same(text):
    assert parse_modbus(text).url == text
