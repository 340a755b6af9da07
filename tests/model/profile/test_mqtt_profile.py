"""Profiles of MQTT devices: what loads, and what is refused at its line."""

from __future__ import annotations

import pytest

from twinmodel.errors import ConfigError
from twinmodel.profile.load import load_profile
from twinmodel.profile.topics import expand_topic, parse_filter, parse_node, parse_template

HEAD = "profile: acme/tank\nprotocol: mqtt\n"
TOPIC = "{topic: plant/a}"


def load(tmp_path, defaults, point, more=""):
    path = tmp_path / "profile.yaml"
    path.write_text(f"{HEAD}{more}defaults: {defaults}\npoints:\n  level: {point}\n")
    return load_profile(path)


@pytest.mark.parametrize(
    ("defaults", "point"),
    [
        ('{topic: "{root}/{line}/{point}/#", payload: cbor}', "{at: $.v, where: {line: L4}}"),
        ("{topic: plant/a, payload: raw}", "{at: $}"),
        ("{topic: plant/a, each: $.s, time: $$.t, time_unit: iso8601}", "{at: $.v, unit: m, unit_at: $.u}"),
        ("{topic: plant/a, each: $.s, time: $.t, spacing: 10ms}", "{at: $, qos: 0, expect_every: 5s}"),
        ("{payload: sparkplug}", "{at: Node Control/Level, as: int64}"),
    ],
)
def test_profiles_of_every_payload_load(tmp_path, defaults, point):
    assert load(tmp_path, defaults, point).points["level"].at


@pytest.mark.parametrize(
    ("defaults", "point", "more", "told"),
    [
        (TOPIC, "{at: $.v, where: {line: L4}}", "", "captures no"),
        ('{topic: "a/{line}"}', "{at: $.v, where: {line: a/b}}", "", "one level"),
        ('{topic: "a/x{line}"}', "{at: $.v}", "", "level of its own"),
        ('{topic: "a/{line"}', "{at: $.v}", "", "brace"),
        ("{topic: a/#/b}", "{at: $.v}", "", "no topic filter"),
        ("{topic: plant/a, payload: raw}", "{at: $.v}", "", "raw payload"),
        ("{topic: plant/a, spacing: 1s}", "{at: $.v}", "", "`each`"),
        ("{topic: plant/a, each: $.s}", "{at: $.v}", "", "`time`"),
        ("{topic: plant/a, unit_at: $.u}", "{at: $.v}", "", "`unit`"),
        ("{topic: plant/a, time: t}", "{at: $.v}", "", "no JSON path"),
        (TOPIC, "{at: v, payload: sparkplug}", "", "all points or none"),
        ("{payload: sparkplug}", "{at: v, topic: a}", "", "Sparkplug says itself"),
        ("{payload: sparkplug}", "{at: v}", "availability: {topic: a}\n", "deaths"),
        (TOPIC, "{at: $.v}", 'availability: {topic: "a/+"}\n', "one topic"),
        (TOPIC, "{at: $.v}", "availability: {topic: a, online: x, offline: x}\n", "differ"),
        (TOPIC, "{at: $.v, qos: 2}", "", ""),
    ],
)
def test_contradictions_are_refused_at_their_line(tmp_path, defaults, point, more, told):
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, defaults, point, more)
    assert refused.value.reason == "VALUE_INVALID"
    assert refused.value.facts["line"]
    assert told in str(refused.value)


def test_captures_become_their_text_or_any_level():
    assert parse_template("a/{line}/{device}") == ("line", "device")
    assert expand_topic("a/{line}/{device}", {"device": "d"}) == "a/+/d"
    assert parse_filter("a/+/#") == "a/+/#"


@pytest.mark.parametrize("root", ["", "G", "G/", "G/N/D/E", "G/+", "G//D"])
def test_roots_that_name_no_sparkplug_device_are_refused(root):
    with pytest.raises(ValueError, match="no Sparkplug device"):
        parse_node(root)


def test_roots_name_a_node_or_one_of_its_devices():
    assert parse_node("G/N") == ("G", "N", "")
    assert parse_node("G/N/D") == ("G", "N", "D")
