"""`twinedge config` in a shell: everything wrong at once, what would change, and where it leads without an agent."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from twinedge.cli import cli
from twinedge.cli_config import _fault_lines
from twinmodel.errors import ConfigError, MissingError, UnreachableError

PROFILE = """\
profile: acme/meter
protocol: modbus
base: 0
points:
  a: {at: holding 0, as: uint16}
"""
SITE = """\
site: here
profiles: profiles
devices:
  one: {modbus: "tcp://127.0.0.1:5021", profile: acme/meter}
  two: {modbus: "tcp://127.0.0.1:5022", profile: acme/meter}
  three: {opcua: "opc.tcp://127.0.0.1:4840", profile: acme/press}
"""
PRESS = "profile: acme/press\nprotocol: opcua\nnamespace: 'urn:acme'\npoints:\n  p: {at: p, unit: bar}\n"


@pytest.fixture
def site(tmp_path):
    for name, text in (("meter", PROFILE), ("press", PRESS)):
        path = tmp_path / f"profiles/acme/{name}/1.0.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    (tmp_path / "site.yaml").write_text(SITE)
    return tmp_path


def run(site, *arguments):
    """Output of a command; raises what it raised."""
    command, *rest = arguments
    paths = {"config": ["--config", str(site / "site.yaml")], "state": ["--state", str(site / "state")]}
    wanted = {"validate": ["config"], "history": ["state"], "reload": ["state"], "rollback": ["state"]}
    options = [o for name in wanted.get(command, ["config", "state"]) for o in paths[name]]
    done = CliRunner().invoke(cli, ["config", command, *options, *rest], catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_everything_wrong_is_listed_with_its_place(site):
    assert run(site, "validate") == ""
    (site / "profiles/acme/meter/1.0.yaml").write_text(PROFILE + "  b: {at: holding 1, as: unit16}\n")
    (site / "site.yaml").write_text(
        SITE + "  four: {modbus: 'tcp://127.0.0.1:0', profile: acme/none}\n  five: {profile: x}\n"
    )
    with pytest.raises(ConfigError) as told:
        run(site, "validate")
    for text in ("unit16", "acme/none", "exactly one of", "line 7", "line 8"):
        assert text in str(told.value)
    done = CliRunner().invoke(cli, ["config", "validate", "--config", str(site / "site.yaml"), "-o", "json"])
    faults = json.loads(done.stdout)
    assert {(f["part"], f["name"], f["reason"]) for f in faults} == {
        ("device", "one", "VALUE_INVALID"),
        ("device", "two", "VALUE_INVALID"),
        ("device", "four", "PROFILE_MISSING"),
        ("device", "five", "VALUE_INVALID"),
    }
    assert all(f["line"] and f["path"] for f in faults)


def test_devices_that_share_a_cause_share_a_line():
    fault = {"part": "device", "path": "p.yaml", "line": 6, "reason": "UNIT_UNKNOWN", "message": "no unit"}
    lines = _fault_lines(
        [*({**fault, "name": f"d{n}"} for n in range(7)), {**fault, "part": "twin", "name": "t", "line": 9}]
    )
    assert lines == [
        "refused, stays as it was: device d0, d1, d2, d3, d4 and 2 more (p.yaml:6) UNIT_UNKNOWN: no unit",
        "refused, stays as it was: twin t (p.yaml:9) UNIT_UNKNOWN: no unit",
    ]


def test_a_draft_is_named_in_what_is_wrong_with_it_and_read_as_if_it_lay_in_place(site):
    draft = site / "drafts/next.yaml"
    draft.parent.mkdir()
    draft.write_text(SITE.replace("acme/meter", "acme/none", 1))
    for arguments in (("diff", str(draft)), ("apply", "--why", "x", str(draft))):
        with pytest.raises(ConfigError, match="PROFILE_MISSING") as told:
            run(site, *arguments)
        assert (told.value.facts["path"], told.value.facts["line"]) == (str(draft), 4)
        assert f"no profile 'acme/none' in {site}/profiles" in told.value.message


def test_a_difference_says_what_would_restart_and_what_stays(site):
    other = site / "other.yaml"
    other.write_text(
        SITE.replace(":5022", ":5023").replace("site: here\n", "site: here\nspool: {sync: 2s}\n")
        + "  four: {mqtt: 'mqtt://127.0.0.1', profile: acme/press2}\n".replace(
            "mqtt: 'mqtt://127.0.0.1'", "opcua: 'opc.tcp://h:1'"
        ).replace("press2", "press")
    )
    document = json.loads(run(site, "diff", str(site / "site.yaml"), str(other), "-o", "json"))
    assert document["connections"] == {
        "kept": ["modbus 127.0.0.1:5021", "opcua opc.tcp://127.0.0.1:4840"],
        "changed": [],
        "restarted": [],
        "started": ["modbus 127.0.0.1:5023", "opcua opc.tcp://h:1"],
        "stopped": ["modbus 127.0.0.1:5022"],
    }
    assert document["devices"] == {"added": ["four"], "removed": [], "changed": ["two"]}
    assert document["sections"] == ["spool"]
    text = run(site, "diff", str(other))
    assert "stopped modbus 127.0.0.1:5022" in text
    assert "+ device four" in text
    assert run(site, "diff", str(site / "site.yaml")) == "untouched 3 connections\n"


def test_a_difference_of_tags_names_them_and_the_connection_that_stays_open(site):
    (site / "profiles/acme/meter2").mkdir()
    (site / "profiles/acme/meter2/1.0.yaml").write_text(
        PROFILE.replace("acme/meter", "acme/meter2").replace("uint16", "uint16, unit: V")
        + "  b: {at: holding 1, as: uint16}\n"
    )
    other = site / "other.yaml"
    other.write_text(SITE.replace("acme/meter", "acme/meter2", 1))
    document = json.loads(run(site, "diff", str(other), "-o", "json"))
    assert document["tags"] == {"added": ["one.b"], "removed": [], "changed": ["one.a"]}
    assert document["connections"]["changed"] == ["modbus 127.0.0.1:5021"]
    with pytest.raises(MissingError, match="NOT_FOUND"):
        run(site, "diff", "7")


def test_without_an_agent_a_file_is_checked_and_put_in_place_or_left_where_it_is(site):
    draft = site / "draft.yaml"
    draft.write_text(SITE.replace("site: here", "site: there"))
    run(site, "apply", str(draft), "--why", "moved")
    assert (site / "site.yaml").read_text() == draft.read_text()
    draft.write_text(SITE.replace("acme/press", "acme/pres"))
    with pytest.raises(ConfigError, match="PROFILE_MISSING"):
        run(site, "apply", str(draft), "--why", "wrong")
    assert "site: there" in (site / "site.yaml").read_text()
    with pytest.raises(UnreachableError, match="AGENT_NOT_RUNNING"):
        run(site, "reload", "--why", "nobody")
    assert run(site, "history") == "nothing was kept yet\n"
    assert "three.p" in run(site, "show")
