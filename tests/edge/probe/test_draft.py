"""Profiles drafted from what was found: valid at once, whatever the device calls its points."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from twinedge.probe.browse_mqtt import draft_of
from twinedge.probe.draft import Draft, name_of, write_draft
from twinmodel.errors import ConflictError, InputError
from twinmodel.profile.load import load_profile


def opcua(points):
    draft = Draft("opcua", "opc.tcp://h:4840", {"namespace": "urn:x", "defaults": {"every": "1s"}})
    for at, keys in points:
        draft.add(at, {"at": at} | keys)
    return draft


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("Pump/HotInlet", "pump_hot_inlet"),
        ("nsu=urn:a;Tank/0:Value", "tank_value"),
        ("yes", "yes"),
        ("Füllstand %", "f_llstand"),
        ("///", "point"),
    ],
)
def test_names_of_points_are_made_of_paths(path, name):
    assert name_of(path) == name


def test_equal_names_are_told_apart_and_keys_stay(tmp_path):
    path = tmp_path / "press.yaml"
    count, left = write_draft(
        opcua([("A/Flow", {"as": "float64", "unit": "degC", "range": [0.0, 5.0]}), ("A/flow", {"as": "bool"})]), path
    )
    assert (count, left) == (2, [])
    profile = load_profile(path)
    assert profile.name == "draft/press"
    assert profile.points["a_flow"].range == (0.0, 5.0)
    assert profile.points["a_flow_2"].as_ == "bool"


def test_what_the_language_of_profiles_refuses_is_left_out_and_named(tmp_path):
    path = tmp_path / "press.yaml"
    count, left = write_draft(opcua([("Flow", {"as": "float64"}), ("Odd", {"as": "float64", "unit": "zorks"})]), path)
    assert count == 1
    assert "zorks" in left[0]
    assert "zorks" in path.read_text()
    assert list(load_profile(path).points) == ["flow"]


def test_a_file_that_is_there_is_not_replaced_unasked(tmp_path):
    path = tmp_path / "press.yaml"
    write_draft(opcua([("Flow", {"as": "float64"})]), path)
    with pytest.raises(ConflictError):
        write_draft(opcua([("Other", {"as": "float64"})]), path)
    write_draft(opcua([("Other", {"as": "float64"})]), path, replace=True)
    assert list(load_profile(path).points) == ["other"]


def test_nothing_found_is_said_instead_of_writing_an_empty_profile(tmp_path):
    with pytest.raises(InputError, match="nothing was found"):
        write_draft(opcua([]), tmp_path / "x.yaml")


def test_a_file_in_a_folder_of_profiles_gets_its_name_from_there(tmp_path):
    path = tmp_path / "firmware-profiles/acme/press/1.0.yaml"
    write_draft(opcua([("Flow", {"as": "float64"})]), path)
    assert load_profile(path).name == "acme/press"


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.text(min_size=1, max_size=12).filter(lambda t: "\0" not in t), min_size=1, max_size=4))
def test_any_browse_names_give_a_file_that_loads_or_a_plain_refusal(tmp_path, names):
    path = tmp_path / "any.yaml"
    draft = opcua([("".join(f"&{c}" if c in "&/" else c for c in name), {"as": "float64"}) for name in names])
    assume(any(name.strip() for name in names))
    count, left_out = write_draft(draft, path, replace=True)
    assert len(load_profile(path).points) == count
    assert count + len(left_out) == len(names)


def topic(name, fields, kind="json", retained=0):
    listed = [{"at": at, "value": value, "type": "", "time": time} for at, value, time in fields]
    return {"topic": name, "payload": kind, "retained": retained, "messages": 1, "fields": listed}


def test_topics_of_one_device_become_a_profile_with_its_root(tmp_path):
    document = {
        "url": "mqtt://b:1883",
        "sparkplug": [],
        "topics": [
            topic("plant/T-1/level", [("$.t", 1, "ms"), ("$.level", 1.5, ""), ("$.ok", True, "")]),
            topic("plant/T-1/state", [("$", "online", "")], "text", retained=1),
            topic("plant/T-1/raw", [("$", 5, "")], "number"),
            topic("plant/T-1/blob", [], "binary"),
        ],
    }
    draft, root = draft_of(document, "")
    path = tmp_path / "tank.yaml"
    write_draft(draft, path)
    profile = load_profile(path)
    assert root == "plant/T-1"
    assert profile.availability.online == "online"
    assert (profile.points["level"].topic or profile.defaults.topic) == "{root}/level"
    assert profile.points["raw"].payload == "raw"
    assert any("blob" in left for left in draft.left_out)


def test_births_of_sparkplug_become_a_profile(tmp_path):
    metrics = [("bdSeq", 0, ""), ("Node Control/Rebirth", False, ""), ("Tank/Level", 1.5, ""), ("Mode", "auto", "")]
    births = topic("spBv1.0/plant/NBIRTH/node", metrics, "sparkplug")
    for metric, type_ in zip(births["fields"], ("UInt64", "Boolean", "Double", "String"), strict=True):
        metric["type"] = type_
    draft, root = draft_of({"url": "mqtt://b:1883", "sparkplug": ["plant/node"], "topics": [births]}, "")
    path = tmp_path / "node.yaml"
    write_draft(draft, path)
    assert root == "plant/node"
    assert {p.at for p in load_profile(path).points.values()} == {"Tank/Level", "Mode"}
