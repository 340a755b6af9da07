"""Addresses, unit ids and ranges as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinedge.probe.target import modbus_target, range_of, units_of, url_target
from twinmodel.errors import InputError


@pytest.mark.parametrize(
    ("written", "framing", "place"),
    [
        ("10.0.0.7", "tcp", "10.0.0.7:502"),
        ("meter:1502", "tcp", "meter:1502"),
        ("tcp://10.0.0.7:503", "tcp", "10.0.0.7:503"),
        ("rtu+tcp://10.0.0.8:4001", "rtu+tcp", "10.0.0.8:4001"),
        ("/dev/ttyUSB0", "rtu", "/dev/ttyUSB0"),
        ("rtu:/dev/ttyUSB0?baud=9600&parity=E", "rtu", "/dev/ttyUSB0"),
    ],
)
def test_a_modbus_address_may_be_a_host_alone_or_a_line(written, framing, place):
    address = modbus_target(written)
    assert (address.framing, str(address)) == (framing, place)


@pytest.mark.parametrize(
    ("written", "protocol", "url"),
    [
        ("10.0.0.9", "opcua", "opc.tcp://10.0.0.9:4840"),
        ("press:4841", "opcua", "opc.tcp://press:4841"),
        ("opc.tcp://press/path", "opcua", "opc.tcp://press:4840/path"),
        ("broker", "mqtt", "mqtt://broker:1883"),
        ("mqtts://broker", "mqtt", "mqtts://broker:8883"),
    ],
)
def test_a_url_gets_the_scheme_and_port_it_lacks(written, protocol, url):
    assert url_target(written, protocol) == url


@pytest.mark.parametrize("written", ["http://x:1", "mqtt://", "opc.tcp://h:0", "a b", "opc.tcp://h:99999"])
def test_what_is_no_address_is_refused_with_an_example(written):
    with pytest.raises(InputError) as refused:
        url_target(written, "opcua")
    assert "opc.tcp://10.0.0.9:4840" in refused.value.hint


def test_a_password_never_stands_in_an_address():
    with pytest.raises(InputError, match="no user or password"):
        url_target("mqtt://bob:secret@broker:1883", "mqtt")


def test_unit_ids_are_lists_and_ranges():
    assert units_of("1") == [1]
    assert units_of("1..3,9") == [1, 2, 3, 9]
    for wrong in ("", "3..1", "256", "x", "1..999"):
        with pytest.raises(InputError):
            units_of(wrong)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_range_is_two_numbers_that_ascend(low, high):
    text = f"{low!r}..{high!r}"
    if low < high:
        assert range_of(text) == (low, high)
    else:
        with pytest.raises(InputError):
            range_of(text)


def test_a_range_may_be_written_as_in_a_profile():
    assert range_of("[0, 100]") == (0.0, 100.0)
    assert range_of("-500..500") == (-500.0, 500.0)
    assert range_of(None) is None
