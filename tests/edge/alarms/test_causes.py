"""One line per cause: devices, brokers, gateways and rules in flood."""

from __future__ import annotations

import pytest

from tests.edge.alarms.conftest import told
from twinmodel.quality import QualityReason, bad

GONE = bad(QualityReason.NOT_CONNECTED)
ON = "alarm_defaults: {communication: {delay: 30s}}"


def test_device_that_does_not_answer_is_told_without_any_rule(plant):
    p = plant(rest=ON, devices=("press", "mill"))
    p.wait(5)
    p.away = {"press"}
    assert p.wait(30) == []
    (record,) = p.wait(2)
    assert (record.alarm, record.state, record.source) == ("communication:press", "UNACK", "press")
    p.away = set()
    assert told(p.wait(8)) == [("communication:press", "RTNUN")]


def test_rule_for_a_device_replaces_the_one_it_has(plant):
    p = plant("press-gone: {on: press, communication: true, delay: 2s, priority: urgent}", rest=ON)
    p.away = {"press"}
    (record,) = p.wait(4)
    assert (record.alarm, record.priority) == ("press-gone", "urgent")


def test_dead_device_is_one_line_that_counts_the_alarms_of_its_signals(plant):
    p = plant("dead: {on: 'press.*', quality: bad, delay: 1s}", rest=ON, devices=("press", "mill"))
    p.wait(5)
    p.away = {"press"}
    for signal in ("press.level", "press.level2", "press.mode"):
        p.doubt(signal, GONE)
    (record,) = p.wait(40)
    assert (record.alarm, record.count) == ("communication:press", 4)
    assert p.state("dead:press.level") == "SUPPRESSED"


def test_device_that_is_back_shows_what_stays_doubtful_once_it_had_time(plant):
    p = plant("dead: {on: 'press.level*', quality: bad, delay: 1s}", rest=ON, devices=("press", "mill"))
    p.away = {"press"}
    p.doubt("press.level", GONE)
    p.doubt("press.level2", GONE)
    p.wait(40)
    p.away = set()
    p.say("press.level", 1.0)
    assert told(p.wait(12)) == [("communication:press", "RTNUN")]
    assert told(p.wait(10)) == [("dead:press.level2", "UNACK")]


def test_short_absence_of_a_device_is_no_news(plant):
    p = plant("dead: {on: 'press.*', quality: bad, delay: 1s}", rest=ON)
    p.wait(2)
    p.away = {"press"}
    p.doubt("press.level", GONE)
    p.wait(10)
    p.away = set()
    p.wait(2)
    p.say("press.level", 1.0)
    assert p.wait(60) == []


def test_broker_that_dies_with_forty_devices_is_one_line(plant):
    devices = tuple(f"d{n}" for n in range(40))
    rules = "dead: {on: '*.level', quality: bad}"
    p = plant(rules, rest=ON, devices=(*devices, "mill"), same_server=False)
    shared = dict.fromkeys(devices, "mqtt broker:1883")
    p.facts = _facts(p, shared)
    p.wait(5)
    p.away = set(devices)
    for device in devices:
        p.doubt(f"{device}.level", GONE)
    (line,) = p.wait(60)
    assert (line.alarm, line.source, line.count) == ("communication:mqtt.broker.1883", "mqtt broker:1883", 80)
    assert line.text == "mqtt broker:1883 does not answer: d0, d1, d10, d11, d12 and 35 more"
    p.away = {"d7"}
    for device in devices:
        p.say(f"{device}.level", 1.0)
    assert told(p.wait(10)) == [("communication:mqtt.broker.1883", "RTNUN"), ("communication:d7", "UNACK")]


def _facts(p, shared):
    from twinedge.alarms.causes import DeviceFact

    def facts():
        return [DeviceFact(d, shared.get(d, d), d not in p.away) for d in p.loaded.site.devices]

    return facts


def test_forty_devices_of_one_broker_without_rules_count_forty(plant):
    devices = tuple(f"d{n}" for n in range(40))
    p = plant(rest=ON, devices=(*devices, "mill"))
    p.facts = _facts(p, dict.fromkeys(devices, "mqtt broker:1883"))
    p.away = set(devices)
    (line,) = p.wait(32)
    assert line.count == 40


def test_gateway_without_network_is_one_line(plant):
    p = plant(rest=ON, devices=("a", "b", "c"))
    p.away = {"a", "b", "c"}
    (line,) = p.wait(40)
    assert (line.alarm, line.count, line.text) == ("communication.gateway", 3, "no device answers: a, b, c")
    p.away = {"c"}
    assert told(p.wait(40)) == [("communication.gateway", "RTNUN"), ("communication:c", "UNACK")]


def test_rule_in_flood_folds_the_further_ones_into_a_line(plant):
    devices = tuple(f"d{n}" for n in range(15))
    p = plant(
        "low: {on: '*.level', low: 1}", rest="alarm_defaults: {communication: false, flood: 5/10min}", devices=devices
    )
    records = [record for device in devices for record in p.say(f"{device}.level", 0.5)]
    assert len(records) == 5
    (line,) = p.wait(2)
    assert (line.alarm, line.count) == ("low.flood", 10)
    assert line.text == "many alarms of low: d10.level, d11.level, d12.level, d13.level, d14.level and 5 more"
    assert p.state("low:d14.level") == "SUPPRESSED"
    for device in devices[5:]:
        assert p.say(f"{device}.level", 5.0) == []
    assert told(p.wait(8)) == [("low.flood", "RTNUN")]
    assert p.state("low:d14.level") == "NORM"


def test_chattering_alarm_is_one_line_with_a_count(plant):
    p = plant("level: {on: press.level, high: 9, chatter: 3/1min}")
    records = []
    for _ in range(10):
        records += p.say("press.level", 9.5)
        records += p.wait(1)
        records += p.say("press.level", 1.0)
        records += p.wait(1)
    assert [r.state for r in records] == ["UNACK", "RTNUN"] * 3 + ["UNACK"]
    assert records[-1].text.endswith("(chattering)")
    assert p.engine.alarms["level"].count == 7
    p.say("press.level", 9.5)
    (again,) = p.wait(61)
    assert (again.state, again.count) == ("UNACK", 8)
    p.say("press.level", 1.0)
    assert told(p.wait(25)) == [("level", "RTNUN")]
    assert not p.engine.alarms["level"].chattering


def test_alarm_told_never_to_chatter_is_told_each_time(plant):
    p = plant("level: {on: press.level, high: 9, chatter: never}")
    records = [r for _ in range(30) for r in p.say("press.level", 9.5, 1.0)]
    assert len(records) == 60


@pytest.mark.parametrize("shelved", ["communication:press"])
def test_shelved_cause_still_covers_its_consequences(plant, shelved):
    p = plant("dead: {on: press.level, quality: bad, delay: 1s}", rest=ON)
    p.away = {"press"}
    p.doubt("press.level", GONE)
    p.wait(40)
    assert told(p.ask("shelve", shelved, for_s=3600)) == [(shelved, "SHELVED")]
    assert p.wait(60) == []


def test_many_devices_of_their_own_connections_fold_as_any_rule_does(plant):
    devices = tuple(f"d{n}" for n in range(15))
    p = plant(rest=ON, devices=(*devices, "mill"))
    p.away = set(devices)
    records = p.wait(40)
    assert len(records) == 11
    assert (records[-1].alarm, records[-1].count) == ("communication.flood", 5)
    p.away = set()
    assert {state for _, state in told(p.wait(30))} == {"RTNUN"}
    assert p.state("communication:d14") == "NORM"


def test_one_source_that_chatters_is_no_flood_of_its_rule(plant):
    p = plant("low: {on: 'press.level*', low: 1}")
    for _ in range(30):
        p.say("press.level", 0.5)
        p.wait(1)
        p.say("press.level", 5.0)
        p.wait(1)
    assert "low.flood" not in p.engine.alarms
    assert p.engine.alarms["low:press.level"].chattering
