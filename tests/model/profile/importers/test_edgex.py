"""EdgeX device profiles of the Modbus service."""

import struct

import pytest

from twinmodel.profile.importers.found import Wanted
from twinmodel.quality import GOOD

OLD = """\
name: Old Meter
manufacturer: ACME
model: M1
deviceResources:
  - name: Frequency
    attributes: {primaryTable: HOLDING_REGISTERS, startingAddress: "4609"}
    properties:
      value: {type: UINT16, readWrite: R, scale: "0.1", minimum: "0", maximum: "65535"}
      units: {type: String, readWrite: R, defaultValue: Hz}
"""


def test_resources_are_carried_or_refused_with_a_reason(bring):
    done = bring("edgex")
    (one,) = done.profiles
    assert one.name == "acme-ltd/p-7"
    assert {r.point: r.reason for r in one.refusals} == {
        "Setpoint": "POINT_NOT_READABLE",
        "Masked": "POINT_TYPE_UNKNOWN",
        "Wide": "POINT_AMBIGUOUS",
        "Remote": "POINT_AMBIGUOUS",
        "Again": "POINT_DUPLICATE",
    }
    points = one.settled.profile.points
    assert list(points) == ["Run", "Trip", "Heat", "Count", "Mode", "Label"]
    assert (points["Run"].at, points["Run"].as_) == ("coil 3", "bit")
    assert points["Mode"].states == {0: "Cool", 1: "Heat"}
    assert points["Label"].as_ == "string(6)"
    assert (points["Count"].unit, points["Count"].description) == ("", "unit in the source: strokes")


def test_the_number_10_10_is_bit_ten_as_edgex_reads_it_and_10_1_too(bring):
    points = bring("edgex").profiles[0].settled.profile.points
    assert points["Trip"].at == "holding 10.10"
    text = OLD.replace('"4609"', "10.1").replace("type: UINT16", "type: Bool").replace('scale: "0.1", ', "")
    assert bring("edgex", text, Wanted(base=0)).profiles[0].settled.profile.points["Frequency"].at == "holding 10.10"


def test_registers_give_what_edgex_makes_of_them(bring, read):
    profile = bring("edgex").profiles[0].settled.profile
    assert read(profile, "Heat", struct.pack(">h", -123), 5) == (-52.3, GOOD)
    swapped = struct.pack("<I", 0x12345678)
    assert read(profile, "Count", swapped, 20) == (0x12345678, GOOD)
    assert profile.points["Heat"].range == (-40, 150)


def test_a_profile_of_edgex_1_must_be_told_where_its_addresses_count_from(bring):
    refused = bring("edgex", OLD).refusals
    assert [(r.reason, "--base 0 or --base 1" in r.hint) for r in refused] == [("POINT_AMBIGUOUS", True)]
    profile = bring("edgex", OLD, Wanted(base=1)).profiles[0].settled.profile
    point = profile.points["Frequency"]
    assert (profile.base, point.at, point.scale, point.unit) == (1, "holding 4609", 0.1, "Hz")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("startingAddress: 30}", "startingAddress: [30]}"),
        ("startingAddress: 30}", "startingAddress: 70000}"),
        ("startingAddress: 30}", "startingAddress: 30, primarytable: X}"),
        ("readWrite: RW}", "readWrite: RW, scale: {a: 1}}"),
        ("readWrite: RW}", "readWrite: RW, offset: .nan}"),
        ("Int16, readWrite: RW}", "Int8, readWrite: RW}"),
    ],
)
def test_nonsense_in_one_resource_costs_that_resource_alone(bring, samples, old, new):
    text = samples["edgex"][1]
    at = text.index("name: Mode")
    done = bring("edgex", text[:at] + text[at:].replace(old, new, 1))
    assert "Mode" in [r.point for r in done.refusals]
    assert {"Run", "Trip", "Heat", "Count", "Label"} <= done.profiles[0].settled.profile.points.keys()
