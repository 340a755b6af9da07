"""What a firmware update changes, and which models survive it."""

from __future__ import annotations

import pytest

from twinmodel.profile.diff import LACKS, Need, differences, lacks, survival
from twinmodel.profile.load import load_profile

OLD = """\
profile: acme/press
firmware: "<2"
protocol: modbus
base: 0
points:
  pressure: {at: holding 10, as: float32, unit: bar, range: [0, 250]}
  stroke: {at: holding 12, as: int16, scale: 0.1, unit: mm, range: [0, 800]}
  speed: {at: holding 13, unit: mm/s}
  label: {at: holding 20, as: string(8)}
  target: {at: holding 30, as: int16, unit: bar, write: {range: [0, 200]}}
"""


@pytest.fixture
def load(tmp_path):
    def read(text=OLD, *changes):
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "profile.yaml"
        path.write_text(text)
        return load_profile(path)

    return read


def told(load, *changes):
    return [(c.what, c.point, c.key, c.old, c.new) for c in differences(load(), load(OLD, *changes))]


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("holding 10", "holding 100", ("moved", "pressure", "at", "holding 10", "holding 100")),
        ("as: float32", "as: int32", ("type", "pressure", "as", "float32", "int32")),
        ("int16, scale: 0.1", "int16, scale: 0.01", ("scale", "stroke", "scale", "0.1", "0.01")),
        ("unit: mm/s", "unit: m/s", ("unit", "speed", "unit", "mm/s", "m/s")),
        ("[0, 800]", "[0, 500]", ("range", "stroke", "range", "[0.0, 800.0]", "[0.0, 500.0]")),
        ("unit: mm/s", "unit: mm/s, every: 5s", ("timing", "speed", "every", "1000000000", "5000000000")),
        ("as: string(8)", "as: string(8), priority: alarm", ("other", "label", "priority", "", "alarm")),
        ("  speed: {at: holding 13, unit: mm/s}\n", "", ("removed", "speed", "at", "holding 13", "")),
        ("  label:", "  extra: {at: holding 40}\n  label:", ("added", "extra", "at", "", "holding 40")),
        ("  speed:", "  pace:", ("renamed", "pace", "", "speed", "pace")),
        ('"<2"', '">=2"', ("device", "", "firmware", "<2", ">=2")),
        ("base: 0", "base: 0\nlimits: {max_read: 20}", ("device", "", "limits.max_read", "125", "20")),
    ],
)
def test_a_change_is_told_with_its_kind(load, old, new, change):
    assert told(load, (old, new)) == [change]


def test_rules_of_writes_that_differ_are_told(load):
    assert [c[:3] for c in told(load, ("range: [0, 200]", "range: [0, 100]"))] == [("write", "target", "write")]


def test_another_way_to_write_the_same_is_no_change(load):
    counted = [(f"holding {n}", f"holding {n + 1}") for n in (30, 20, 13, 12, 10)]
    assert not told(load, ("base: 0", "base: 1"), *counted)
    assert not told(load, ("base: 0", "base: 0\norder: ABCD\ndefaults: {every: 1000ms}"))
    assert not told(load, ("unit: mm/s", "as: uint16, unit: mm/s, description: how fast"))


def test_a_default_that_changes_is_told_of_every_point_it_holds_for(load):
    changes = told(load, ("base: 0", "base: 0\norder: CDAB"))
    assert {(what, point) for what, point, *_ in changes} == {("type", name) for name in load().points}


NEEDS = [Need("pressure", "input", "kPa", 0, 20_000), Need("pos", "input", "m", 0, 1), Need("heat", "output", "K")]


def judged(load, *changes, needs=NEEDS, names=None):
    return survival("press@1.0.0", needs, load(), load(OLD, *changes), names or {"pos": "stroke"})


def test_a_model_survives_what_touches_no_point_of_it_or_is_converted(load):
    seen = judged(load, ("unit: mm/s", "unit: m/s"), ("int16, scale: 0.1, unit: mm", "int16, unit: cm"))
    assert (seen.verdict, seen.points) == ("survives", {"pressure": "pressure", "pos": "stroke"})
    assert "stroke: unit was mm, is cm" in seen.notes


@pytest.mark.parametrize(
    ("old", "new", "reason", "part"),
    [
        ("  pressure:", "  force:", "MISSING_POINT", "it is called 'force' now"),
        (
            "  stroke: {at: holding 12, as: int16, scale: 0.1, unit: mm, range: [0, 800]}\n",
            "",
            "MISSING_POINT",
            "no point",
        ),
        ("unit: bar, range", "unit: mm, range", "UNIT_CLASH", "in kPa, pressure is in mm"),
        (", range: [0, 250]", "", "NO_RANGE", "pressure has no range"),
        ("range: [0, 250]", "range: [300, 400]", "RANGE_APART", "ranges 30000 .. 40000 kPa"),
        ("as: float32, unit: bar, range: [0, 250]", "as: string(4)", "TEXT", "is text"),
    ],
)
def test_a_model_breaks_for_a_reason_that_is_told(load, old, new, reason, part):
    seen = judged(load, (old, new))
    assert (seen.verdict, [lack.reason for lack in seen.lacks]) == ("breaks", [reason])
    assert part in seen.lacks[0].text
    assert reason in LACKS


def test_what_the_old_profile_lacked_as_well_breaks_nothing(load):
    seen = judged(load, needs=[Need("speed", "input", "mm/s", 0, 100)])
    assert seen.verdict == "survives"
    assert seen.notes == ("as before: input speed holds within 0 .. 100 mm/s, speed has no range",)


def test_a_model_of_another_device_is_unbound_and_a_tag_binds(load):
    assert judged(load, needs=[Need("flow", "input", "m3/h")]).verdict == "unbound"
    assert judged(load, needs=[Need("v", "input", "m/s", tag="speed")]).points == {"v": "speed"}


def test_limits_on_one_side_are_compared_on_that_side(load):
    profile = load()
    assert not lacks(profile, Need("p", "input", "bar", low=100), "pressure")
    assert [x.reason for x in lacks(profile, Need("p", "input", "bar", low=251), "pressure")] == ["RANGE_APART"]
    assert [x.reason for x in lacks(profile, Need("p", "input", "bar", high=-1), "pressure")] == ["RANGE_APART"]
