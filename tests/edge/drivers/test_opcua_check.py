"""Units of servers against those of profiles."""

from __future__ import annotations

import pytest

from twinedge.drivers.opcua_units import CODES, UNECE_URI, agrees, symbol_of, unit_id
from twinmodel import units


def test_unece_codes_are_units_of_ours():
    for symbol in CODES.values():
        units.parse(symbol)
    assert unit_id("CEL") == 4408652  # OPC UA Part 8, 5.6.3
    assert unit_id("4H") == 13384


@pytest.mark.parametrize(
    ("namespace", "number", "shown", "symbol"),
    [
        (UNECE_URI, unit_id("FAH"), "x", "degF"),
        (None, unit_id("MQH"), "", "m3/h"),
        ("urn:maker", unit_id("FAH"), "kW", "kW"),
        (UNECE_URI, -1, "°C", "degC"),
        (UNECE_URI, 1, "kg/m³", "kg/m3"),
        (UNECE_URI, 1, "m·s⁻¹", "m s^-1"),
        (UNECE_URI, 1, "furlongs", None),
        (UNECE_URI, -1, "", ""),
        (UNECE_URI, -1, None, ""),
        (UNECE_URI, unit_id("XXX"), "", None),
    ],
)
def test_unit_is_found_by_code_or_by_symbol(namespace, number, shown, symbol):
    assert symbol_of(namespace, number, shown) == symbol


@pytest.mark.parametrize(
    ("server", "profile", "scale", "offset", "fits"),
    [
        ("degC", "degC", 1.0, 0.0, True),
        ("degF", "degC", 1.0, 0.0, False),
        ("degF", "degC", 5 / 9, -160 / 9, True),
        ("degC", "K", 1.0, 273.15, True),
        ("kW", "W", 1.0, 0.0, False),
        ("kW", "W", 1000.0, 0.0, True),
        ("bar", "kPa", 100.0, 0.0, True),
        ("bar", "m", 1.0, 0.0, False),
        ("%", "m", 0.05, 0.0, True),
        ("%", "m", 1.0, 0.0, False),
        ("m3/h", "m3/h", 0.1, 0.0, False),
    ],
)
def test_unit_agrees_only_when_scale_and_offset_convert_it(server, profile, scale, offset, fits):
    assert agrees(server, profile, scale, offset) is fits
