"""`commands:` of site.yaml: what refers to nothing, or to what has no rules, is refused with its line."""

from __future__ import annotations

import pytest

from twinedge.config.load import load_site
from twinmodel.errors import ConfigError

PROFILE = """
profile: test/press
firmware: "*"
protocol: modbus
base: 0
points:
  setpoint: {at: holding 10, unit: degC, write: {range: [10, 60]}}
  level: {at: input 0, unit: mm}
  name: {at: holding 40, as: string(6)}
"""
SITE = """site: test
profiles: profiles
devices:
  press: {modbus: "tcp://127.0.0.1:1502", profile: test/press}
twins:
  tank-1: {definition: tank}
commands:
"""
SET = "  allow: [press.setpoint]\n  interlock:\n    press.setpoint: "


@pytest.fixture
def load(tmp_path):
    folder = tmp_path / "profiles/test/press"
    folder.mkdir(parents=True)
    (folder / "1.yaml").write_text(PROFILE)

    def read(commands):
        (tmp_path / "site.yaml").write_text(SITE + commands)
        return load_site(tmp_path / "site.yaml")

    return read


def test_nothing_is_allowed_unless_it_is_named(load):
    assert load("  {}\n").site.commands.allow == []
    found = load("  allow: [press.setpoint]\n  interlock:\n    press.setpoint: {quality: good, twin: tank-1}\n")
    assert found.site.commands.interlock["press.setpoint"].not_ == ("drifting", "settling", "left_regime")


@pytest.mark.parametrize(
    ("commands", "reason", "line", "text"),
    [
        ("  allow: [press.setpont]\n", "UNKNOWN_SIGNAL", 8, "press.setpoint"),
        ("  allow: [mill.x]\n", "UNKNOWN_SIGNAL", 8, "no point or method"),
        ("  allow: [press.level]\n", "VALUE_INVALID", 8, "no `write:` rules"),
        ("  alow: []\n", "UNKNOWN_KEY", 8, "allow"),
        ("  interlock: {press.setpoint: {}}\n", "UNKNOWN_SIGNAL", 8, "is not allowed"),
        (SET + "{twin: tank-2}\n", "UNKNOWN_TWIN", 10, "tank-2"),
        (SET + "{when: [press.x]}\n", "UNKNOWN_SIGNAL", 10, "x"),
        (SET + "{when: [press.name]}\n", "VALUE_INVALID", 10, "text"),
        (SET + "{not: [broken]}\n", "VALUE_INVALID", 10, "drifting"),
    ],
)  # fmt: skip
def test_what_refers_to_nothing_is_refused_with_its_line(load, commands, reason, line, text):
    with pytest.raises(ConfigError) as refused:
        load(commands)
    assert (refused.value.reason, refused.value.facts["line"]) == (reason, line)
    assert text in f"{refused.value.message} {refused.value.hint}"
