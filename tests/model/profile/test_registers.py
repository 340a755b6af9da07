"""Modbus profiles: bit fields, scales over points, rules of writes, and points that lie over each other."""

from __future__ import annotations

import pytest

from twinmodel.errors import ConfigError
from twinmodel.profile.address import RegisterAddress, parse_address, parse_type
from twinmodel.profile.load import examine, load_profile
from twinmodel.profile.schema import kind_of
from twinmodel.signal import Kind

HEAD = 'profile: acme/press\nfirmware: ">=1"\nprotocol: modbus\nsource: manual 1\nbase: 0\npoints:\n'


@pytest.fixture
def put(tmp_path):
    def write(*points, head=HEAD):
        path = tmp_path / "profile.yaml"
        path.write_text(head + "".join(f"  {point}\n" for point in points))
        return path

    return write


def test_a_bit_field_is_an_integer_of_some_bits_of_a_register(put):
    points = load_profile(
        put("mode: {at: holding 120.4-7, states: {0: 'off', 3: auto}}", "low: {at: holding 9.0-15, scale: 0.1}")
    ).points
    assert parse_address("holding 120.4-7", 0) == RegisterAddress("holding", 120, 4, 4)
    assert (points["mode"].as_, kind_of(points["mode"]), kind_of(points["low"])) == ("uint", Kind.INT, Kind.FLOAT)
    assert points["mode"].states == {0: "off", 3: "auto"}
    assert parse_type("uint").registers == 1


@pytest.mark.parametrize(
    ("points", "line", "part"),
    [
        (["a: {at: holding 1.7-4}"], 7, "low-high"),
        (["a: {at: holding 1.4-16}"], 7, "bits 0..15"),
        (["a: {at: coil 1.4-7}"], 7, "registers only"),
        (["a: {at: holding 1.4-7, as: uint16}"], 7, "bit field of 4 bits"),
        (["a: {at: holding 1, as: uint}"], 7, "which bit?"),
        (["a: {at: holding 65535, as: uint32}"], 7, "beyond the last register"),
        (["a: {at: holding 1, scale: '@b * 2'}"], 7, "no point 'b'"),
        (["a: {at: holding 1, scale: '@b *'}", "b: {at: holding 2}"], 7, "ends too early"),
        (["a: {at: holding 1, scale: '@b'}", "b: {at: holding 2, as: string(4)}"], 7, "b is no number"),
        (["a: {at: holding 1, scale: '@b'}", "b: {at: holding 2, scale: '@a'}"], 7, "itself scaled"),
        (["a: {at: holding 1, scale: 0}"], 7, "not 0"),
        (["a: {at: holding 1, scale: .nan}"], 7, "a scale of nan"),
        (["a: {at: holding 1, offset: .inf}"], 7, "an offset of inf"),
        (["a: {at: holding 1, absent: none}"], 7, "is no raw value"),
        (["a: {at: holding 1, scale: 0.1, states: {0: x}}"], 7, "integers and bits"),
        (["a: {at: coil 1, states: {2: x}}"], 7, "a bit is 0 or 1"),
        (["a: {at: coil 1, class: counter}"], 7, "counts nothing"),
        (["a: {at: holding 1, wraps: 65536}"], 7, "only a counter wraps"),
        (["a: {at: input 1, write: {range: [0, 1]}}"], 7, "cannot be written"),
        (["a: {at: holding 1, write: {class: A}}"], 7, "without `range`"),
        (["a: {at: holding 1, write: {range: [5, 1]}}"], 7, "must ascend"),
        (["a: {at: holding 1, write: {range: [0, 9], rate: often}}"], 7, "is no rate"),
        (["a: {at: holding 1, write: {range: [0, 9], step: 10}}"], 7, "larger than the range"),
        (["a: {at: holding 1, write: {range: [0, 9], interlock: not b}}", "bb: {at: coil 2}"], 7, "no point 'b'"),
        (["a: {at: holding 1, write: {range: [0, 9], watchdog: {within: 5s}}}"], 7, "either `at` or `point`"),
        (["a: {at: holding 1, write: {range: [0, 9], watchdog: {point: b, within: 5s}}}"], 7, "no point 'b'"),
    ],
)  # fmt: skip
def test_a_point_that_cannot_be_meant_is_refused_at_its_line(put, points, line, part):
    with pytest.raises(ConfigError) as caught:
        load_profile(put(*points))
    assert caught.value.facts["line"] == line
    assert part in caught.value.message


@pytest.mark.parametrize(
    ("points", "part"),
    [
        (["a: {at: holding 10, as: float32}", "b: {at: holding 11, as: float32}"], "shares registers with a"),
        (["a: {at: holding 10, as: float32}", "b: {at: holding 11}"], "shares registers with a"),
        (["a: {at: holding 10, as: string(20)}", "b: {at: holding 12, as: uint32}"], "shares registers with a"),
        (["a: {at: holding 10}", "b: {at: holding 10, scale: 0.1, unit: A}"], "reads the same, as the same type, as a"),
        (["a: {at: coil 3}", "b: {at: coil 3}"], "reads the same"),
        (["a: {at: holding 10.3}", "b: {at: holding 10.3}"], "reads the same"),
        (["a: {at: holding 10.0-3}", "b: {at: holding 10.2-5}"], "shares registers"),
        (["a: {at: holding 10, as: float32}", "b: {at: holding 11.3}"], "holds bits as, the float"),
        (["a: {at: holding 9, as: uint64}", "x: {at: holding 10.1}", "b: {at: holding 12}"], "shares registers with a"),
    ],
)  # fmt: skip
def test_points_over_each_other_that_cannot_both_be_right_are_refused_at_the_later_one(put, points, part):
    with pytest.raises(ConfigError) as caught:
        load_profile(put(*points))
    assert caught.value.facts["line"] == 6 + len(points)
    assert part in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "points",
    [
        ["a: {at: holding 10, as: float32}", "b: {at: holding 12, as: float32}", "c: {at: input 10, as: float32}"],
        ["a: {at: holding 10, as: int8h}", "b: {at: holding 10, as: int8l}"],
        ["a: {at: holding 10}", "b: {at: holding 10, as: int16}"],
        ["word: {at: holding 10}", "a: {at: holding 10.0}", "b: {at: holding 10.1}", "c: {at: holding 10.2-5}"],
        ["word: {at: holding 10, as: uint32}", "a: {at: holding 10.0}", "b: {at: holding 11.15}"],
        ["a: {at: coil 3}", "b: {at: coil 4}", "c: {at: discrete 3}"],
    ],
)
def test_registers_may_be_read_twice_as_different_types_and_as_bits(put, points):
    assert len(load_profile(put(*points)).points) == len(points)


def test_every_wrong_point_is_found_at_once(put):
    found = examine(put("a: {at: holding x}", "b: {at: holding 1}", "c: {at: holding 2, unit: florps}")).errors
    assert [(e.reason, e.facts["line"]) for e in found] == [("VALUE_INVALID", 7), ("UNIT_UNKNOWN", 9)]


def test_points_beside_one_of_a_wrong_shape_are_judged_too(put):
    found = examine(put("a: {to: holding 1}", "b: {at: holding x}", "c: {at: holding 2, scale: 10^@a}")).errors
    assert [e.facts["line"] for e in found] == [7, 7, 8]


@pytest.mark.parametrize(
    ("identify", "part"),
    [
        ("{at: holding x, match: A}", "is no address"),
        ("{at: holding 1, as: bit, match: A}", "no bit"),
        ("{at: holding 1, match: A, firmware: {at: coil 1, as: bit}}", "no bit"),
        ("{at: holding 1, match: A, firmware: {at: holding 1, as: float31}}", "is no type"),
    ],
)
def test_an_identity_that_cannot_be_read_is_refused(put, identify, part):
    with pytest.raises(ConfigError, match=part):
        load_profile(put("a: {at: holding 1}", head=HEAD.replace("points:", f"identify: {identify}\npoints:")))


def test_a_firmware_range_that_is_none_is_refused_at_its_line(put):
    with pytest.raises(ConfigError) as caught:
        load_profile(put("a: {at: holding 1}", head=HEAD.replace(">=1", "new")))
    assert caught.value.facts["line"] == 2
