"""`twinctl twin`: what people say of twins, against a real coordinator."""

from __future__ import annotations

import json

import pytest
from fake_coordinator import Server

from tests.cloud.plant import Plant
from tests.ctl.conftest import Shell

PUMP = """\
definition: pump
version: 1.0.0
extends: machine@1.0.0
properties:
  level: {min: 0, max: 100, desired: true}
  speed: {unit: 1/min, min: 0, max: 3000, desired: true}
relationships:
  feeds: {target: pump, max: 1, properties: {length: {unit: m}}}
"""
MACHINE = "definition: machine\nversion: 1.0.0\nproperties:\n  flow: {unit: m3/h}\n"


@pytest.fixture
def plant(tmp_path):
    plant = Plant(tmp_path / "state")
    plant.gateway("acme", "mill", "gw-1", "T-1").send({"T-1-dev.level": 40.0})
    yield plant
    plant.close()


@pytest.fixture
def ctl(plant, tmp_path):
    """The tool over that coordinator, where the definition `pump@1.0.0` is published and T-1 is one."""
    with Server(plant.app()) as url:
        shell = Shell(tmp_path / "xdg", url, None)
        shell.env |= {"HYBRIDTWIN_TOKEN": plant.token("engineer")}
        for name, text in (("pump", PUMP), ("machine", MACHINE)):
            (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
        made = shell("twin", "define", tmp_path / "pump.yaml", tmp_path / "machine.yaml", "-o", "json")
        assert made.code == 0, made.err
        assert shell("twin", "set", "T-1", "--definition", "pump@1.0.0").code == 0
        yield shell


def test_a_twin_is_described_changed_related_and_deleted(ctl):
    made = ctl("twin", "create", "mill/T-2", "--definition", "pump@1.0.0", "--tag", "line=3", "-o", "json")
    assert (made.code, made.json["state"], made.json["tags"]) == (0, "draft", {"line": "3"})
    assert ctl("twin", "create", "mill/T-2").code == 1
    said = ctl("twin", "set", "T-2", "--tag", "row=4", "--untag", "line", "--attribute", "serial=17", "-o", "json").json
    assert (said["tags"], said["attributes"], said["updated_by"]) == ({"row": "4"}, {"serial": 17}, "t0")
    assert ctl("twin", "set", "T-2", "--state", "suspended").err.startswith("error: TRANSITION_FORBIDDEN")
    stale = ctl("twin", "set", "T-2", "--state", "commissioned", "--if-revision", "1")
    assert stale.err.startswith("error: PRECONDITION_FAILED")
    assert "T-2" in ctl("twin", "relate", "T-1", "feeds", "T-2", "--property", "length=3").out
    shown = ctl("twin", "graph", "T-1", "-o", "json").json
    assert [n["twin"] for n in shown["nodes"]] == ["T-1", "T-2"]
    assert "length" in ctl("twin", "graph", "T-1").out
    assert ctl("twin", "delete", "T-2", "--yes").err.startswith("error: TWIN_IN_USE")
    assert ctl("twin", "relate", "T-1", "feeds", "T-2", "--remove").code == 0
    assert ctl("twin", "delete", "T-2", "--yes").code == 0
    assert ctl("twin", "show", "mill/T-2").code == 1


def test_what_is_desired_is_shown_beside_what_is_reported(ctl):
    assert "differs" not in ctl("twin", "show", "T-1").out
    asked = ctl("twin", "desired", "T-1", "level", "42", "-o", "json")
    assert [(p["desired"]["value"], p["delta"], p["differs"]) for p in asked.json] == [(42.0, -2.0, True)]
    assert "42 (differs)" in ctl("twin", "show", "T-1").out
    assert "active, run: edge" in ctl("twin", "show", "T-1").out
    speed = ctl("twin", "desired", "T-1", "speed", "25", "--unit", "1/s", "-o", "json").json
    assert speed[0]["desired"]["value"] == 1500.0
    assert ctl("twin", "desired", "T-1", "flow", "1").err.startswith("error: NOT_WRITABLE")
    ctl("twin", "desired", "T-1", "level", "--clear")
    assert [p["name"] for p in ctl("twin", "desired", "T-1", "-o", "json").json] == ["speed"]


def test_definitions_are_listed_and_shown_with_what_they_inherit(ctl):
    listed = ctl("twin", "definitions", "-o", "json").json
    assert [f"{d['name']}@{d['version']}" for d in listed] == ["machine@1.0.0", "pump@1.0.0"]
    shown = ctl("twin", "definition", "pump@1.0.0").out
    assert "machine@1.0.0" in shown
    assert "0 .. 3000" in shown
    assert ctl("twin", "definition", "pumb@1.0.0").err.startswith("error: UNKNOWN_DEFINITION")
    assert ctl("twin", "definition", "pump").code == 2


def test_a_wrong_definition_is_told_with_its_line_and_publishes_nothing(ctl, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("definition: valve\nversion: 1.0.0\nproperties:\n  flow: {unit: m3/hh}\n", encoding="utf-8")
    refused = ctl("twin", "define", bad)
    assert refused.code == 2
    assert f"{bad}:4:" in refused.err
    assert len(ctl("twin", "definitions", "-o", "json").json) == 2


def test_retired_twins_are_listed_when_asked_for(ctl):
    ctl("twin", "set", "T-1", "--state", "retired")
    assert ctl("twin", "list", "-o", "json").json == []
    assert [t["twin"] for t in json.loads(ctl("twin", "list", "--state", "retired", "-o", "json").out)] == ["T-1"]


def test_twins_are_listed_by_a_filter_and_a_wrong_one_is_refused(ctl):
    assert [t["twin"] for t in ctl("twin", "list", "--filter", 'twin = "T-1"', "-o", "json").json] == ["T-1"]
    assert ctl("twin", "list", "--filter", 'twin = "T-2"', "-o", "json").json == []
    refused = ctl("twin", "list", "--filter", "twin = T-1")
    assert "FILTER_INVALID" in refused.err
    assert "column" in refused.err


def test_wrong_use_is_refused(ctl):
    for args in (["set", "T-1"], ["set", "T-1", "--tag", "x"], ["create", "T-5"], ["desired", "T-1", "--clear"]):
        assert ctl("twin", *args).code == 2, args


@pytest.mark.parametrize("form", ["dtdl", "wot"])
def test_a_graph_goes_to_a_file_and_comes_back(ctl, tmp_path, form):
    path = tmp_path / "graph.json"
    assert ctl("twin", "export-graph", "--format", form, "-o", path).code == 0
    assert ctl("twin", "export-graph", "--format", form, "-o", path).code != 0
    tried = ctl("twin", "import-graph", path, "--format", form, "--dry-run", "-o", "json")
    assert (tried.code, tried.out.strip()) == (0, "[]"), tried.err
    assert "would be carried, 0 are not" in tried.err
    back = ctl("twin", "import-graph", path, "--format", form)
    assert "carried, 0 are not" in back.err or (form == "dtdl" and "ALREADY_EXISTS" in back.err)
    path.write_text(json.dumps({"a": 1}))
    assert ctl("twin", "import-graph", path, "--format", form).code == 2
    path.write_text("{")
    assert "no JSON" in ctl("twin", "import-graph", path).err
