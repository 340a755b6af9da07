"""NodeSet2: browse paths, types, units; and XML that means harm."""

import pytest

from twinmodel.errors import ConfigError
from twinmodel.profile.node import Name, parse_node


def test_a_type_of_objects_and_the_address_space_are_profiles(bring):
    done = bring("nodeset2")
    assert {p.part: (p.found, p.carried) for p in done.profiles} == {
        "PressType": (11, 5), "Objects": (3, 1), "Mode": (1, 0)}  # fmt: skip
    assert {r.point: r.reason for r in done.refusals} == {
        "Oil/Tank/Heat/EngineeringUnits": "POINT_TYPE_UNKNOWN",
        "Oil/Tank/Heat/EURange": "POINT_TYPE_UNKNOWN",
        "Curve": "POINT_TYPE_UNKNOWN",
        "Picture": "POINT_TYPE_UNKNOWN",
        "Goal": "POINT_NOT_READABLE",
        "<Any>": "POINT_AMBIGUOUS",
        "EnumStrings": "POINT_RESERVED",
        "Round": "POINT_AMBIGUOUS",
        "And": "POINT_AMBIGUOUS",
    }


def test_paths_name_other_namespaces_and_escape_what_means_something(bring):
    points = bring("nodeset2", part="PressType").profiles[0].settled.profile.points
    assert points["Oil_Tank.Heat"].at == "Oil&/Tank/Heat"
    assert parse_node(points["Oil_Tank.Heat"].at).path == (Name("Oil/Tank"), Name("Heat"))
    assert points["SerialNumber"].at == "nsu=http://opcfoundation.org/UA/DI/;SerialNumber"
    assert (points["Forces.0"].at, points["Forces.1"].at) == ("Forces[0]", "Forces[1]")


def test_unit_range_states_and_times_are_carried(bring):
    points = bring("nodeset2", part="PressType").profiles[0].settled.profile.points
    heat = points["Oil_Tank.Heat"]
    assert (heat.as_, heat.unit, heat.range, heat.description) == ("float64", "degC", (-40, 150), "of the oil")
    assert (points["Mode"].as_, points["Mode"].states) == ("int32", {0: "Idle", 1: "Busy"})
    assert (points["Built"].as_, points["Built"].description) == ("int64", "nanoseconds since 1970")


BOMB = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<UANodeSet xmlns="http://opcfoundation.org/UA/2011/03/UANodeSet.xsd">&b;</UANodeSet>"""
OUTSIDE = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><x>&a;</x>"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "SOURCE_INVALID"),
        (OUTSIDE, "SOURCE_INVALID"),
        ("<a>" * 100 + "</a>" * 100, "LIMIT_EXCEEDED"),
        ("<a><b></a>", "SOURCE_INVALID"),
        ("<html/>", "SOURCE_INVALID"),
        ('<?xml version="1.0" encoding="klingon"?><a/>', "SOURCE_INVALID"),
        ('<UANodeSet xmlns="http://opcfoundation.org/UA/2011/03/UANodeSet.xsd"/>', "SOURCE_INVALID"),
        ("", "SOURCE_INVALID"),
    ],
)
def test_xml_that_is_none_or_means_harm_is_refused_at_once(bring, text, reason):
    with pytest.raises(ConfigError) as error:
        bring("nodeset2", text)
    assert error.value.reason == reason
    assert error.value.facts["path"]


def test_a_node_that_stands_twice_refuses_the_file(bring, samples):
    with pytest.raises(ConfigError, match="twice"):
        bring("nodeset2", samples["nodeset2"][1].replace("ns=1;i=6011", "ns=1;i=6010"))


def test_a_data_type_that_comes_from_itself_costs_its_variables_alone(bring, samples):
    text = samples["nodeset2"][1].replace('IsForward="false">i=29<', 'IsForward="false">ns=1;i=3001<')
    done = bring("nodeset2", text, part="PressType")
    assert {r.point: r.reason for r in done.refusals}["Mode"] == "POINT_TYPE_UNKNOWN"
    assert done.carried == 4
