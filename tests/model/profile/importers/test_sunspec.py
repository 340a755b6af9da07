"""SunSpec models: addresses, scale factors, absent values, groups that repeat."""

import json
import struct

import pytest

from twinmodel.errors import InputError
from twinmodel.profile.importers.found import Wanted
from twinmodel.profile.schema import kind_of
from twinmodel.quality import GOOD, QualityReason, bad
from twinmodel.signal import Kind

ABSENT = bad(QualityReason.ABSENT)


def changed(samples, change):
    content = json.loads(samples["sunspec"][1])
    change(content["group"])
    return json.dumps(content)


def test_points_lie_one_behind_the_other_from_the_address_of_the_id_on(points_of):
    points, _ = points_of("sunspec")
    assert points["ID"].at == "holding 100"
    assert points["Evt"].at == "holding 113"
    assert points["string.1.V"].at == "holding 120"
    assert points["string.2.I"].at == "holding 125"


def test_types_units_states_and_what_means_absent_are_those_of_the_specification(points_of):
    points, refused = points_of("sunspec")
    assert refused == {"Mac": "POINT_TYPE_UNKNOWN", "Pad": "POINT_RESERVED"}
    assert (points["A"].as_, points["A"].absent, points["A"].unit) == ("int16", 0x8000, "A")
    assert (points["Wh"].as_, points["Wh"].absent, points["Wh"].klass, points["Wh"].scale) == (
        "uint32",
        0,
        "counter",
        10,
    )
    assert (points["Tmp"].as_, points["Tmp"].absent, points["Tmp"].unit) == ("float32", None, "degC")
    assert points["St"].states == {1: "OFF", 2: "ON"}
    assert (points["Evt"].absent, points["Evt"].description) == (0xFFFFFFFF, "bits: 0 FAULT")
    assert (points["Mn"].as_, kind_of(points["Mn"])) == ("string(8)", Kind.STRING)


def test_each_repetition_has_its_own_scale_factor_or_that_of_the_group_around_it(points_of, bring):
    points, _ = points_of("sunspec")
    assert points["string.2.V"].scale == "10^@string.2.V_SF"
    assert points["string.2.I"].scale == "10^@A_SF"
    done = bring("sunspec")
    assert (done.found, done.carried, len(points)) == (14, 12, 15)
    assert [n.text for n in done.profiles[0].notes if n.point == "V"] == [
        "can be written in the source; add `write:` rules to allow that"
    ]


def test_a_group_of_unknown_length_is_refused_with_the_option_that_helps(bring):
    done = bring("sunspec", wanted=Wanted(base=100))
    (one,) = done.profiles
    lost = [r for r in one.refusals if r.reason == "POINT_AMBIGUOUS"]
    assert [r.point for r in lost] == ["V", "V_SF", "I"]
    assert lost[0].hint == "give --count string=N, how often the device has it"
    assert lost[0].place == "group.groups[0].points[0]"


def test_what_stands_behind_a_point_of_unknown_size_is_refused(points_of, samples):
    text = changed(samples, lambda group: group["points"][5].pop("size"))
    points, refused = points_of("sunspec", text)
    assert list(points) == ["ID", "L", "Mn", "A", "A_SF"]
    assert refused["Wh"] == "VALUE_INVALID"
    assert refused["Tmp"] == "POINT_AMBIGUOUS"


def test_a_point_whose_scale_factor_is_refused_or_missing_is_refused_too(points_of, samples):
    def break_it(group):
        group["points"][4]["type"] = "int15"
        group["groups"] = []

    points, refused = points_of("sunspec", changed(samples, break_it), Wanted(base=100))
    assert refused["A_SF"] == "POINT_TYPE_UNKNOWN"
    assert refused["A"] == "POINT_AMBIGUOUS"
    assert "A" not in points


def test_a_device_that_has_another_model_there_is_not_taken_for_this_one(bring):
    identify = bring("sunspec").profiles[0].settled.profile.identify
    assert (identify.at, identify.as_, identify.match) == ("holding 100", "uint16", "64901")


def test_registers_of_a_device_give_values_and_absent_ones_none(bring, read):
    profile = bring("sunspec").profiles[0].settled.profile
    raw = struct.pack(">HH8shhIfHI", 64901, 25, b"ACME\0\0\0\0", -123, -1, 77, 21.5, 2, 0xFFFFFFFF)
    assert read(profile, "A", raw, 100) == (-12.3, GOOD)
    assert read(profile, "Wh", raw, 100) == (770, GOOD)
    assert read(profile, "Tmp", raw, 100) == (21.5, GOOD)
    assert read(profile, "Mn", raw, 100) == ("ACME", GOOD)
    assert read(profile, "Evt", raw, 100)[1] == ABSENT
    none = struct.pack(">HH8sHhI", 64901, 25, bytes(8), 0x8000, -1, 0)
    assert [read(profile, p, none, 100)[1] for p in ("A", "Wh", "Mn")] == [ABSENT] * 3


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(), "--base ADDRESS"),
        (Wanted(base=70_000), "--base"),
        (Wanted(base=1, counts={"strings": 2}), "groups that repeat: string"),
    ],
)
def test_what_the_model_leaves_open_must_be_said(bring, wanted, said):
    with pytest.raises(InputError) as error:
        bring("sunspec", wanted=wanted)
    assert said in error.value.message + error.value.hint


def test_a_model_at_the_end_of_the_registers_is_carried_as_far_as_there_are_any(points_of):
    points, refused = points_of("sunspec", wanted=Wanted(base=65_530))
    assert list(points) == ["ID", "L", "Mn"]
    assert refused["A"] == "VALUE_INVALID"
    assert len(points) + len(refused) == 14
