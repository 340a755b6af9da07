"""Victron's register list: one profile for each service, factors that divide."""

import struct

from twinmodel.quality import GOOD


def test_each_service_is_a_profile_of_its_own(bring):
    done = bring("victron")
    assert {p.part: (p.name, p.found, p.carried) for p in done.profiles} == {
        "press": ("victron/press", 9, 7),
        "tank": ("victron/tank", 3, 1),
    }
    assert [(r.part, r.point, r.reason, r.place) for r in done.refusals] == [
        ("press", "RESERVED", "POINT_RESERVED", "line 6"),
        ("press", "/Again", "POINT_DUPLICATE", "line 9"),
        ("tank", "/Open", "POINT_AMBIGUOUS", "line 12"),
        ("tank", "/Inside", "VALUE_INVALID", "line 11"),
    ]


def test_a_factor_divides_and_states_are_named(bring):
    points = bring("victron").profiles[0].settled.profile.points
    assert (points["Ac.L1.V"].at, points["Ac.L1.V"].scale, points["Ac.L1.V"].unit) == ("holding 3", 0.1, "V")
    assert points["Ac.L1.P"].scale == -10
    assert (points["Latitude"].scale, points["Latitude"].unit) == (1e-7, "deg")
    assert points["Third"].scale == "1 / 3"
    assert points["Mode"].states == {1: "Charger Only", 2: "On"}
    assert points["Serial"].as_ == "string(12)"
    assert (points["Light"].unit, points["Light"].description) == ("", "unit in the source: lux")


def test_registers_give_the_quotient_exactly(bring, read):
    profile = bring("victron").profiles[0].settled.profile
    assert read(profile, "Ac.L1.V", struct.pack(">H", 2303), 3) == (230.3, GOOD)
    assert read(profile, "Latitude", struct.pack(">i", 521234567), 10) == (52.1234567, GOOD)
    assert read(profile, "Third", struct.pack(">H", 10), 53) == (10 / 3, GOOD)


def test_one_service_is_enough_when_named(bring):
    done = bring("victron", part="tank", name="acme/tanks")
    assert [p.name for p in done.profiles] == ["acme/tanks"]
    both = bring("victron", name="acme/gx")
    assert [p.name for p in both.profiles] == ["acme/gx-press", "acme/gx-tank"]
