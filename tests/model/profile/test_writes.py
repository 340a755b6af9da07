"""What a profile allows to be written and called is whole, or refused with its line."""

from __future__ import annotations

import pytest

from twinmodel.errors import ConfigError
from twinmodel.profile.diff import differences
from twinmodel.profile.load import load_profile
from twinmodel.profile.writes import filled, parse_interlock, parse_rate, places_of

HEAD = {
    "modbus": "base: 0",
    "opcua": "namespace: urn:x",
    "mqtt": 'defaults: {topic: "{root}/t"}',
}


@pytest.fixture
def load(tmp_path):
    def read(protocol, points, methods="", name="1"):
        path = tmp_path / f"{name}.yaml"
        text = f'profile: a/b\nfirmware: "*"\nprotocol: {protocol}\n{HEAD[protocol]}\npoints:\n  {points}\n'
        path.write_text(text + (f"methods:\n  {methods}\n" if methods else ""))
        return load_profile(path)

    return read


@pytest.mark.parametrize(
    ("protocol", "points", "methods", "text"),
    [
        ("modbus", "a: {at: holding 1.3, as: bit, write: {}}", "", "part of a register"),
        ("modbus", "a: {at: holding 1, write: {range: [0, 1], bits: mask}}", "", "for parts"),
        ("modbus", "a: {at: holding 1, as: int32, write: {range: [0, 1], function: single}}", "", "takes one"),
        ("modbus", "a: {at: holding 1, as: string(4), write: {range: [0, 1]}}", "", "for numbers"),
        ("modbus", "a: {at: holding 1, write: {range: [0, 1], rate: 0/min}}", "", "is no rate"),
        ("modbus", "a: {at: holding 1, write: {range: [0, 1], watchdog: {at: input 3, within: 1s}}}", "", "holding N"),
        ("modbus", "a: {at: holding 1, write: {range: [0, 1], publish: {topic: x}}}", "", "is for mqtt"),
        ("modbus", "a: {at: holding 1}", "m: {at: x}", "no methods"),
        ("opcua", "a: {at: 'X[2]', write: {range: [0, 1]}}", "", "array"),
        ("opcua", "a: {at: X, write: {range: [0, 1], bits: mask}}", "", "for modbus"),
        ("opcua", "a: {at: X}", "a: {at: M}", "a point is called so"),
        ("opcua", "a: {at: X}", "m: {at: s=M}", "needs its object"),
        ("opcua", "a: {at: X}", "m: {}", "needs `at`"),
        ("opcua", "a: {at: X}", "m: {at: M, inputs: {n: {as: int16}}}", "without `range`"),
        ("opcua", "a: {at: X}", "m: {at: M, inputs: {id: {as: bool}}}", "names of inputs"),
        ("opcua", "a: {at: X}", "m: {at: M, interlock: not b}", "no point 'b'"),
        ("mqtt", "a: {at: $.a, write: {range: [0, 1]}}", "", "written by a `publish`"),
        ("mqtt", "a: {at: $.a, write: {range: [0, 1], publish: {topic: 'x/+'}}}", "", "one topic"),
        ("mqtt", "a: {at: $.a, write: {range: [0, 1], publish: {topic: x, payload: 'on'}}}", "", "nowhere in it"),
        ("mqtt", "a: {at: $.a, write: {range: [0, 1], publish: {topic: x, payload: '{v}'}}}", "", "nothing is called"),
        ("mqtt", "a: {at: $.a}", "m: {at: x}", "is a `publish`"),
    ],
)
def test_rules_that_are_not_whole_are_refused(load, protocol, points, methods, text):
    with pytest.raises(ConfigError, match="VALUE_INVALID") as refused:
        load(protocol, points, methods)
    assert text in refused.value.message
    assert refused.value.facts["line"] == (8 if methods else 6)


def test_a_method_that_came_or_changed_is_a_difference(load):
    old = load("opcua", "a: {at: X}", "m: {at: M, description: one}")
    new = load("opcua", "a: {at: X}", "m: {at: M, description: two}\n  n: {at: N, class: A}", name="2")
    assert [(c.what, c.point, c.old) for c in differences(old, new)] == [("write", "n", "")]
    back = differences(new, old)
    assert [(c.point, c.new) for c in back] == [("n", "")]
    assert "class A" in back[0].old


def test_the_small_languages_of_rules():
    assert parse_rate("2/min") == (2, 60 * 10**9)
    assert parse_interlock("not tripped") == ("tripped", False)
    assert parse_interlock("running") == ("running", True)
    assert places_of({"v": "{value}", "n": 1, "t": "a {id} b"}) == ("value", "id")
    assert filled("{value}", {"value": 1.5}) == 1.5
    assert filled("set {value} C", {"value": 1.5}) == "set 1.5 C"
    assert filled(7, {}) == 7
