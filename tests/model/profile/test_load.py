"""Firmware profiles: good ones load, bad ones name the line and what to do."""

from __future__ import annotations

import contextlib
import json
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.errors import ConfigError
from twinmodel.profile.address import parse_address, parse_json_path, parse_type
from twinmodel.profile.document import parse_document
from twinmodel.profile.find import find_profile
from twinmodel.profile.firmware import version_key
from twinmodel.profile.load import load_profile, read_yaml
from twinmodel.profile.schema import FirmwareProfile, kind_of
from twinmodel.signal import Kind

GOOD = """\
profile: acme/pump
firmware: ">=1.0"
protocol: modbus
base: 1
points:
  flow: {at: holding 10, as: float32, unit: m3/h, range: [0, 20], resolution: 0.01}
  trip: {at: coil 3}
  raw: {at: input 5}
  alarm: {at: holding 120.3}
  amps: {at: holding 20, as: int16, scale: 10^@sf, absent: 0x8000, unit: A}
  sf: {at: holding 21, as: int16}
"""


def write(folder, text, name="profile.yaml"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def refused(folder, text):
    with pytest.raises(ConfigError) as caught:
        load_profile(write(folder, text))
    return caught.value


def test_good_profile_loads_with_the_types_modbus_implies(tmp_path):
    profile = load_profile(write(tmp_path, GOOD))
    kinds = {name: kind_of(point) for name, point in profile.points.items()}
    assert kinds == {
        "flow": Kind.FLOAT,
        "trip": Kind.BOOL,
        "raw": Kind.INT,
        "alarm": Kind.BOOL,
        "amps": Kind.FLOAT,
        "sf": Kind.INT,
    }
    assert profile.points["amps"].absent == 0x8000


def test_unknown_key_names_line_column_and_the_nearest_key(tmp_path):
    error = refused(tmp_path, GOOD.replace("unit: m3/h", "unti: m3/h"))
    assert error.reason == "UNKNOWN_KEY"
    assert (error.facts["line"], error.facts["column"]) == (6, 39)
    assert error.facts["key"] == "points.flow.unti"
    assert error.hint == "did you mean `unit`?"
    assert "profile.yaml:6:39" in str(error)


def test_a_misspelt_key_that_must_be_there_is_told_once(tmp_path):
    error = refused(tmp_path, GOOD.replace("protocol: modbus", "protocoll: modbus").replace("unit: m3/h", "unti: m3/h"))
    assert (error.reason, error.facts["errors"]) == ("UNKNOWN_KEY", 2)
    assert error.message.count("did you mean `unit`?") == 1
    assert "is missing" not in error.message


def test_unknown_key_below_an_optional_model_is_found_too(tmp_path):
    error = refused(tmp_path, GOOD.replace("unit: A}", "unit: A, report: {dead_band: 1%}}"))
    assert error.reason == "UNKNOWN_KEY"
    assert "deadband" in error.hint


def test_several_errors_are_listed_in_one_message_in_order_of_lines(tmp_path):
    text = GOOD.replace("[0, 20]", "[0, high]").replace("at: coil 3", "to: coil 3").replace("acme/pump", "Pump!")
    error = refused(tmp_path, text)
    assert error.facts["line"] == 1
    assert error.facts["errors"] == 4
    assert "line 6" in error.message
    assert "line 7" in error.message
    assert "at: is missing" in error.message


@pytest.mark.parametrize(
    ("old", "new", "line", "part"),
    [
        ("base: 1\n", "", 3, "needs `base`"),
        ("unit: m3/h", "unit: florps", 6, "florps"),
        ("holding 10", "holding ten", 6, "is no address"),
        ("coil 3", "coil 0", 7, "lies outside 1.."),
        ("holding 120.3", "holding 120.16", 9, "bits 0..15"),
        ("as: float32", "as: float31", 6, "is no type"),
        ("[0, 20]", "[20, 0]", 6, "must ascend"),
        ("@sf", "@sff", 10, "no point 'sff'"),
        ("{at: coil 3}", "{at: coil 3, as: uint16}", 7, "is one bit"),
        ("protocol: modbus", "protocol: profinet", 3, "'modbus', 'opcua' or 'mqtt'"),
        ("at: input 5", "at: input 5, every: 0s", 8, "longer than 0"),
        ("at: input 5", "at: input 5, every: soon", 8, "no duration"),
        ("at: input 5", "at: input 5, as: bit", 8, "which bit"),
    ],
)
def test_a_wrong_profile_is_refused_at_its_line(tmp_path, old, new, line, part):
    assert old in GOOD
    error = refused(tmp_path, GOOD.replace(old, new))
    assert error.facts["line"] == line
    assert part in error.message


def test_mqtt_point_without_topic_is_refused(tmp_path):
    error = refused(tmp_path, "profile: a/b\nprotocol: mqtt\npoints:\n  level: {at: $.level}\n")
    assert "topic" in error.message
    assert error.facts["line"] == 4


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("a: 1\nb: *x\n", 2, "alias"),
        ("a: 1\nb: 2\na: 3\n", 3, "twice"),
        ("a: !!python/object:os.system x\n", 1, "tags"),
        ("a: 1\n---\nb: 2\n", 2, "one document"),
        ("a: [1, 2\nb: 3\n", 2, "expected"),
        ("a: 1\n  b: 2\n", 2, "mapping"),
        ("[" * 40 + "]" * 40, 1, "deeper"),
        ("a: \x00", 1, "#x0000 is not allowed"),
    ],
)
def test_yaml_beyond_the_plain_core_is_refused_with_its_line(tmp_path, text, line, part):
    with pytest.raises(ConfigError) as caught:
        parse_document(text, tmp_path / "x.yaml")
    assert caught.value.facts["line"] == line
    assert part in caught.value.message


def test_alias_bomb_is_refused_before_it_grows(tmp_path):
    bomb = "a: &a [x, x]\n" + "\n".join(f"{c}: &{c} [*{p}, *{p}]" for p, c in zip("abcdefgh", "bcdefghi", strict=True))
    with pytest.raises(ConfigError, match="alias"):
        parse_document(bomb, tmp_path / "x.yaml")


def test_file_larger_than_a_mebibyte_is_refused(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read_yaml(write(tmp_path, "a: " + "x" * (1 << 20)), FirmwareProfile)
    assert caught.value.reason == "LIMIT_EXCEEDED"


def test_missing_file_and_foreign_encoding_are_told_apart(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read_yaml(tmp_path / "none.yaml", FirmwareProfile)
    assert caught.value.reason == "FILE_MISSING"
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: \xe9\n")
    with pytest.raises(ConfigError) as caught:
        read_yaml(tmp_path / "latin.yaml", FirmwareProfile)
    assert caught.value.facts["line"] == 2


@given(st.text(max_size=200))
def test_any_text_parses_or_is_refused_with_a_place(text):
    try:
        parse_document(text, path="fuzz.yaml")
    except ConfigError as error:
        refusal = error
    else:
        return
    assert refusal.facts["line"] >= 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text("abc \n'\":#é", max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcd", min_size=1, max_size=3), inner),
        max_leaves=12,
    )
)
def test_json_is_read_as_what_it_says(content):
    assert parse_document(json.dumps(content), path="fuzz.yaml").content == content


def test_plain_scalars_follow_yaml_1_2(tmp_path):
    text = "{a: 0x10, b: 1e3, c: no, d: ~, e: .5, f: '1', g: 1_000, h: .inf, i: 0o17, j: true, k: -3}"
    assert parse_document(text, tmp_path / "x.yaml").content == {
        "a": 16,
        "b": 1000.0,
        "c": "no",
        "d": None,
        "e": 0.5,
        "f": "1",
        "g": "1_000",
        "h": float("inf"),
        "i": 15,
        "j": True,
        "k": -3,
    }


def test_newest_firmware_wins_and_a_wrong_name_gets_the_nearest(tmp_path):
    for version in ("1.9", "1.10", "1.2-beta"):
        write(tmp_path, GOOD, f"acme/pump/{version}.yaml")
    assert find_profile("acme/pump", [tmp_path]).stem == "1.10"
    assert find_profile("acme/pump/1.9", [tmp_path]).stem == "1.9"
    with pytest.raises(ConfigError) as caught:
        find_profile("acme/pmup", [tmp_path])
    assert caught.value.reason == "PROFILE_MISSING"
    assert caught.value.hint == "did you mean `acme/pump`?"
    with pytest.raises(ConfigError):
        find_profile("../../etc/passwd", [tmp_path])


def test_versions_order_as_people_expect():
    shuffled = ["2-rc1", "1.10", "1.0", "10.0", "1.0-beta", "2", "1.2"]
    assert sorted(shuffled, key=version_key) == ["1.0-beta", "1.0", "1.2", "1.10", "2-rc1", "2", "10.0"]


@given(st.sampled_from(["coil", "discrete", "input", "holding"]), st.integers(0, 65535), st.sampled_from([0, 1]))
def test_addresses_count_from_the_base(table, number, base):
    assert parse_address(f"{table} {number + base}", base).number == number


@given(st.text(max_size=20))
def test_small_languages_parse_or_raise_value_errors(text):
    for read in (parse_type, parse_json_path, lambda t: parse_address(t, 0)):
        with contextlib.suppress(ValueError):
            assert read(text) is not None


def test_json_paths_name_steps():
    assert parse_json_path("$.a.b[0]['odd key']") == ("a", "b", 0, "odd key")
    assert parse_json_path("$") == ()
