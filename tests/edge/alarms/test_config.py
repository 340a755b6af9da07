"""Rules of site.yaml: what is right, and what is refused with its line, its reason and the nearest name."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from twinedge.alarms.specs import specs_of
from twinedge.config.catalogue import build_catalogue
from twinedge.config.schema import Device
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConfigError

TWINS = """twins:
  tank-1: {definition: tank, inputs: {}, outputs: {level: press.level}, model: tank@1}
  bare: {definition: tank, outputs: {level: press.level}}"""


@pytest.mark.parametrize(
    ("rule", "reason", "said"),
    [
        ("{on: press.levle, high: 1}", "UNKNOWN_SIGNAL", "press.level"),
        ("{on: 'mill.*', high: 1}", "UNKNOWN_SIGNAL", ""),
        ("{on: [press.level, press.no], high: 1}", "UNKNOWN_SIGNAL", ""),
        ("{on: tank-2/level#estimate, high: 1}", "UNKNOWN_TWIN", "tank-1"),
        ("{on: bare/depth#estimate, high: 1}", "UNKNOWN_SIGNAL", ""),
        ("{on: tank-1/level#estimat, high: 1}", "UNKNOWN_SIGNAL", "tank-1/level#estimate"),
        ("{on: tank-9, drift: true}", "UNKNOWN_TWIN", "tank-1"),
        ("{on: tank-1/, deviation: 3}", "UNKNOWN_SIGNAL", ""),
        ("{on: pres, communication: true}", "UNKNOWN_DEVICE", "press"),
        ("{on: press.level, high: 1, unless: press.runing == 0}", "UNKNOWN_SIGNAL", "press.running"),
        ("{on: press.level, high: 1, unless: press.mode == tripd}", "VALUE_INVALID", "tripped"),
        ("{on: press.mode, is: tripd}", "VALUE_INVALID", "tripped"),
        ("{on: press.word, high: 1}", "VALUE_INVALID", "text"),
        ("{on: press.level, high: 1, low: 2}", "VALUE_INVALID", "low 2 is not below high 1"),
        ("{on: press.level, high: 2, low: 1, hysteresis: 1}", "VALUE_INVALID", "span"),
        ("{on: press.level, high: 2, high_high: 2}", "VALUE_INVALID", "high 2 is not below high_high 2"),
        ("{on: press.level}", "VALUE_INVALID", "no condition"),
        ("{on: press.level, high: 1, quality: bad}", "VALUE_INVALID", "quality and high"),
        ("{on: [], high: 1}", "VALUE_INVALID", "names nothing"),
        ("{on: press.level, hihg: 1}", "UNKNOWN_KEY", "high"),
        ("{on: press.level, high: .nan}", "VALUE_INVALID", "finite"),
        ("{on: press.level, rate: fast}", "VALUE_INVALID", "0.5/s"),
        ("{on: press.level, rate: 0/s}", "VALUE_INVALID", "greater than 0"),
        ("{on: press.level, quality: stael}", "VALUE_INVALID", "stale"),
        ("{on: press.level, high: 1, text: '{valeu}'}", "VALUE_INVALID", "{value}"),
        ("{on: press.level, high: 1, unless: always}", "VALUE_INVALID", "press.running == 0"),
        ("{on: press.level, high: 1, chatter: often}", "VALUE_INVALID", "10/10min"),
        ("{on: press.level, high: 1, priority: high, severity: 3}", "VALUE_INVALID", "not both"),
        ("{on: press.level, high: 1, priority: loud}", "VALUE_INVALID", "urgent"),
        ("{on: press.mode, is: 2, hysteresis: 1}", "VALUE_INVALID", "hysteresis belongs"),
    ],
)
def test_rule_that_cannot_be_is_refused_at_its_line(site, rule, reason, said):
    with pytest.raises(ConfigError) as caught:
        site([f"r: {rule}"], rest=TWINS)
    error = caught.value
    assert error.reason == reason
    assert error.facts["line"] == 6
    assert said in f"{error.message} {error.hint}"


def test_name_of_the_alarms_that_every_device_has_is_taken(site):
    with pytest.raises(ConfigError, match="alarm_defaults"):
        site(["communication: {on: press.level, high: 1}"])


def specs(loaded):
    return {spec.name: spec for spec in specs_of(loaded, build_catalogue(loaded))}


def test_rules_become_alarms_of_their_sources(site):
    found = specs(
        site(
            [
                "tank: {on: press.level, low: 1, high: 9, high_high: 9.8, priority: high, delay: 5s}",
                "deep: {on: [press.level, press.level2], low: 1}",
                "model: {on: 'tank-1/level#estimate', high: 9}",
                "off: {on: 'tank-1/*', deviation: 4}",
                "drift: {on: '*', drift: true}",
                "mode: {on: press.mode, is: [tripped, 0]}",
            ],
            rest=TWINS,
        )
    )
    assert sorted(found) == [
        "communication:press", "deep:press.level", "deep:press.level2", "drift:bare", "drift:tank-1", "mode", "model",
        "off:tank-1.level", "tank.high", "tank.high_high", "tank.low",
    ]  # fmt: skip
    assert [found[f"tank.{x}"].severity for x in ("low", "high", "high_high")] == [700, 700, 900]
    assert (found["tank.high"].outer, found["tank.low"].outer) == ("tank.high_high", "")
    assert (found["tank.high"].delay_ns, found["communication:press"].delay_ns) == (5 * SECOND_NS, 30 * SECOND_NS)
    assert found["mode"].values == (2.0, 0.0)
    assert found["deep:press.level"].device == "press"


def test_rule_about_an_output_that_no_model_gives_at_present_makes_no_alarm(site):
    assert "x" not in specs(site(["x: {on: 'tank-1/virtual#estimate', high: 9}"], rest=TWINS))


def test_ones_and_zeros_are_no_flags(site):
    found = specs(site(["one: {on: press.mode, is: 1}", "yes: {on: press.running, is: true}"]))
    assert (found["one"].values, found["yes"].values) == ((1.0,), (True,))


@pytest.mark.parametrize(("written", "acknowledges"), [(True, False), ({}, False), ({"acknowledge": True}, True)])
def test_device_is_told_of_acknowledgements_only_where_the_site_says_so(written, acknowledges):
    device = Device.model_validate({"opcua": "opc.tcp://h:4840", "profile": "acme/press", "alarms": written})
    assert device.acknowledges is acknowledges


@pytest.mark.parametrize(
    ("address", "alarms"),
    [({"opcua": "opc.tcp://h:4840"}, {"ack": True}), ({"mqtt": "mqtt://h"}, {"acknowledge": True})],
)
def test_alarms_of_a_device_that_cannot_be_so_are_refused(address, alarms):
    with pytest.raises(ValidationError):
        Device.model_validate({"profile": "acme/press", "alarms": alarms, **address})
