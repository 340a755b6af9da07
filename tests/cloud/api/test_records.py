"""What people say of twins over REST: definitions, records, conditions, desired values, relationships, bulk."""

from __future__ import annotations

import pytest

PUMP = {
    "definition": "pump",
    "version": "1.0.0",
    "properties": {
        "flow": {"unit": "m3/h"},
        "level": {"min": 0, "max": 100, "desired": True, "tolerance": 0.5},
        "speed": {"unit": "1/min", "min": 0, "max": 3000, "desired": True},
        "auto": {"kind": "bool", "desired": True},
    },
    "relationships": {"feeds": {"target": "pump", "max": 1, "properties": {"length": {"unit": "m"}}}},
}
BASE = "/api/v1/tenants/acme"
T1 = f"{BASE}/sites/mill/twins/T-1"
T2 = f"{BASE}/sites/mill/twins/T-2"


@pytest.fixture
async def engineer(api, plant):
    """A client that may write; T-1 is reported by a gateway, T-2 described by people; both are pumps."""
    gateway = plant.gateway("acme", "mill", "gw-1", "T-1")
    gateway.send({"T-1-dev.level": 40.0})
    client = api("engineer")
    assert (await client.put(f"{BASE}/twinDefinitions/pump/versions/1.0.0", json=PUMP)).status_code == 201
    made = await client.put(f"{T2}/record", json={"definition": "pump@1.0.0"}, headers={"If-None-Match": "*"})
    assert made.status_code == 201
    assert (await client.patch(f"{T1}/record", json={"definition": "pump@1.0.0"})).status_code == 200
    return client


async def test_a_twin_a_gateway_told_of_has_an_active_record_before_anybody_describes_it(api, plant):
    plant.gateway("acme", "mill", "gw-1", "T-1")
    said = await api("viewer").get(f"{T1}/record")
    assert (said.status_code, said.headers["etag"]) == (200, '"0"')
    assert (said.json()["state"], said.json()["definition"], said.json()["updated_by"]) == ("active", "", "")


async def test_a_twin_may_be_described_before_any_gateway_tells_of_it(engineer):
    view = (await engineer.get(T2)).json()
    assert (view["state"], view["gateway"], view["definition"], view["health"]) == ("draft", "", "pump@1.0.0", "ok")
    assert "draft" in view["why"]
    assert [p["name"] for p in view["properties"]] == ["flow", "level", "speed", "auto"]
    assert "T-2" in [t["twin"] for t in (await engineer.get(f"{BASE}/twins")).json()["items"]]


async def test_a_stale_etag_is_refused_with_the_one_of_now(engineer):
    first = (await engineer.get(f"{T2}/record")).headers["etag"]
    tagged = await engineer.patch(f"{T2}/record", json={"tags": {"line": "3"}}, headers={"If-Match": first})
    assert tagged.status_code == 200
    stale = await engineer.patch(f"{T2}/record", json={"tags": {"line": "4"}}, headers={"If-Match": first})
    assert (stale.status_code, stale.json()["reason"]) == (412, "PRECONDITION_FAILED")
    assert stale.headers["etag"] == tagged.headers["etag"]
    assert (await engineer.get(f"{T2}/record")).json()["tags"] == {"line": "3"}


async def test_changes_without_the_right_condition_are_refused(engineer):
    for method, headers, status in (
        ("PUT", {}, 428),
        ("PUT", {"If-None-Match": "*"}, 412),
        ("DELETE", {}, 428),
        ("PATCH", {"If-Match": "x"}, 422),
    ):
        body = None if method == "DELETE" else {}
        assert (await engineer.request(method, f"{T2}/record", json=body, headers=headers)).status_code == status


async def test_what_is_desired_stands_beside_what_is_reported_with_the_difference(engineer, plant):
    answer = await engineer.patch(f"{T1}/desired", json={"level": {"value": 42}})
    assert answer.json()["level"]["value"] == 42
    level = next(p for p in (await engineer.get(T1)).json()["properties"] if p["name"] == "level")
    assert (level["desired"]["origin"], level["desired"]["by"], level["desired"]["value"]) == ("commanded", "t0", 42.0)
    assert (level["reported"]["value"], level["delta"], level["differs"]) == (40.0, -2.0, True)
    await engineer.patch(f"{T1}/desired", json={"level": {"value": 40.4}})
    level = next(p for p in (await engineer.get(T1)).json()["properties"] if p["name"] == "level")
    assert level["differs"] is False
    assert (await engineer.patch(f"{T1}/desired", json={"level": None})).json() == {}


async def test_a_desired_value_in_another_unit_is_kept_in_that_of_the_definition(engineer):
    body = {"speed": {"value": 25, "unit": "1/s"}}
    answer = await engineer.patch(f"{T1}/desired", json=body, headers={"Content-Type": "application/merge-patch+json"})
    assert (answer.json()["speed"]["value"], answer.json()["speed"]["unit"]) == (1500.0, "1/min")


WRONG = [
    ({"desired": {"flow": {"value": 1}}}, 409, "NOT_WRITABLE"),
    ({"desired": {"sped": {"value": 1}}}, 404, "UNKNOWN_PROPERTY"),
    ({"desired": {"speed": {"value": 4000}}}, 422, "VALUE_INVALID"),
    ({"desired": {"speed": {"value": True}}}, 422, "REQUEST_INVALID"),
    ({"desired": {"speed": {"value": 1, "unit": "m"}}}, 422, "UNIT_CLASH"),
    ({"desired": {"speed": {"value": 1, "unit": "furlong"}}}, 422, "UNIT_UNKNOWN"),
    ({"desired": {"speed": {"value": 1, "by": "me"}}}, 422, "REQUEST_INVALID"),
    ({"desired": {"speed": 7}}, 422, "REQUEST_INVALID"),
    ({"desired": {"auto": {"value": 1}}}, 422, "REQUEST_INVALID"),
    ({"definition": "pumb@1.0.0"}, 404, "UNKNOWN_DEFINITION"),
    ({"definition": "pump"}, 422, "REQUEST_INVALID"),
    ({"state": "draft"}, 409, "TRANSITION_FORBIDDEN"),
    ({"state": "asleep"}, 422, "REQUEST_INVALID"),
    ({"revision": 3}, 422, "REQUEST_INVALID"),
    ({"tags": {"a b": "x"}}, 422, "REQUEST_INVALID"),
    ({"attributes": {"a": "x" * 40_000}}, 413, "LIMIT_EXCEEDED"),
    ({"attributes": {"a": "\x00"}}, 422, "REQUEST_INVALID"),
    ([1], 422, "REQUEST_INVALID"),
]


async def test_a_wrong_patch_is_refused_by_reason_and_hint_and_changes_nothing(engineer):
    before = (await engineer.get(f"{T1}/record")).headers["etag"]
    for patch, status, reason in WRONG:
        answer = await engineer.patch(f"{T1}/record", json=patch)
        assert (answer.status_code, answer.json()["reason"]) == (status, reason), answer.text
        assert answer.json()["hint"]
    assert (await engineer.get(f"{T1}/record")).headers["etag"] == before


async def test_a_body_that_is_no_json_or_of_another_type_is_refused(engineer):
    kind = {"Content-Type": "application/merge-patch+json"}
    for body in (b"{", b'{"attributes": {"a": NaN}}', b"\xff"):
        assert (await engineer.patch(f"{T1}/record", content=body, headers=kind)).status_code == 422
    other = await engineer.patch(f"{T1}/record", content=b"a: 1", headers={"Content-Type": "application/yaml"})
    assert other.status_code == 415


async def test_null_removes_and_absence_keeps(engineer):
    await engineer.patch(
        f"{T1}/record", json={"attributes": {"a": {"b": 1, "c": 2}, "d": [1]}, "tags": {"x": "1", "y": "2"}}
    )
    said = await engineer.patch(f"{T1}/record", json={"attributes": {"a": {"b": None}}, "tags": {"x": None}})
    assert said.json()["attributes"] == {"a": {"c": 2}, "d": [1]}
    assert said.json()["tags"] == {"y": "2"}


async def test_a_retired_twin_is_not_listed_unless_asked_for_and_keeps_its_history(engineer):
    assert (await engineer.patch(f"{T1}/record", json={"state": "retired"})).status_code == 200
    assert "T-1" not in [t["twin"] for t in (await engineer.get(f"{BASE}/twins")).json()["items"]]
    listed = (await engineer.get(f"{BASE}/twins", params={"state": "retired"})).json()["items"]
    assert [t["twin"] for t in listed] == ["T-1"]
    series = (await engineer.get(f"{T1}/history", params={"property": "level"})).json()["series"]
    assert series["measured"]["value"] == [40.0]


async def test_a_model_is_not_assigned_to_a_suspended_twin(engineer, api):
    await engineer.patch(f"{T1}/record", json={"state": "suspended"})
    refused = await api("operator").put(f"{T1}/model", json={"model": "pump@1.0.0"})
    assert (refused.status_code, refused.json()["reason"]) == (409, "TWIN_OUT_OF_SERVICE")
    assert (await engineer.get(T1)).json()["health"] == "ok"


async def test_a_batch_answers_each_change_in_order_and_refuses_some_alone(engineer):
    etag = (await engineer.get(f"{T1}/record")).headers["etag"]
    items = [
        {"site": "mill", "twin": "T-1", "if_match": etag, "body": {"tags": {"line": "1"}}},
        {"site": "mill", "twin": "T-1", "if_match": etag, "body": {"tags": {"line": "2"}}},
        {"op": "create", "site": "mill", "twin": "T-9", "body": {"state": "active"}},
        {"op": "create", "site": "mill", "twin": "T-9", "body": {}},
        {"op": "delete", "site": "mill", "twin": "T-2"},
        {"site": "mill", "twin": "T-2", "body": {}},
        {"op": "delete", "site": "mill", "twin": "T-1"},
    ]
    answer = (await engineer.post(f"{BASE}/twins:batch", json={"items": items})).json()
    assert [one["status"] for one in answer["items"]] == [200, 412, 201, 409, 204, 404, 409]
    assert answer["refused"] == 4
    assert answer["items"][1]["problem"]["reason"] == "PRECONDITION_FAILED"
    assert (await engineer.get(f"{T1}/record")).json()["tags"] == {"line": "1"}
    assert (await engineer.get(T2)).status_code == 404


async def test_a_batch_of_more_than_a_thousand_is_refused(engineer):
    items = [{"site": "mill", "twin": f"N-{n}", "op": "create"} for n in range(1_001)]
    assert (await engineer.post(f"{BASE}/twins:batch", json={"items": items})).status_code == 422
    made = await engineer.post(f"{BASE}/twins:batch", json={"items": items[:1_000]})
    assert made.json()["refused"] == 0


async def test_twins_are_related_as_the_definition_allows_and_found_again(engineer):
    there = f"{T1}/relationships/feeds/mill/T-2"
    assert (await engineer.put(there, json={"properties": {"length": 3}})).json()["properties"] == {"length": 3.0}
    back = f"{T2}/relationships/feeds/mill/T-1"
    assert (await engineer.put(back, json={})).status_code == 200
    graph = (await engineer.get(f"{T1}/graph", params={"depth": 9})).json()
    assert [n["twin"] for n in graph["nodes"]] == ["T-1", "T-2"]
    assert graph["cycle"][0] == graph["cycle"][-1]
    assert (await engineer.get(f"{T1}/relationships", params={"direction": "in"})).json()["items"][0]["twin"] == "T-2"
    assert (await engineer.delete(there)).status_code == 204
    assert (await engineer.get(there)).json()["reason"] == "NOT_FOUND"
    etag = (await engineer.get(back)).headers["etag"]
    assert (await engineer.delete(back, headers={"If-Match": '"1"'})).headers["etag"] == etag


async def test_a_wrong_relationship_is_refused(engineer):
    for path, body, reason in (
        ("feed/mill/T-2", {}, "RELATION_INVALID"),
        ("feeds/mill/T-3", {}, "UNKNOWN_TWIN"),
        ("feeds/mill/T-2", {"properties": {"lenght": 1}}, "REQUEST_INVALID"),
        ("feeds/mill/T-2", {"properties": {"length": "far"}}, "REQUEST_INVALID"),
    ):
        assert (await engineer.put(f"{T1}/relationships/{path}", json=body)).json()["reason"] == reason


async def test_definitions_that_extend_one_another_in_a_circle_are_refused_by_name(engineer):
    circle = [
        {"definition": "a", "version": "1", "extends": "b@1"},
        {"definition": "b", "version": "1", "extends": "a@1"},
    ]
    refused = await engineer.post(f"{BASE}/twinDefinitions", json={"items": circle})
    assert refused.json()["reason"] == "DEFINITION_CYCLE"
    assert "a@1 -> b@1 -> a@1" in refused.json()["detail"]


async def test_a_published_definition_never_changes(engineer):
    assert (await engineer.put(f"{BASE}/twinDefinitions/pump/versions/1.0.0", json=PUMP)).status_code == 201
    other = PUMP | {"properties": {}}
    refused = await engineer.put(f"{BASE}/twinDefinitions/pump/versions/1.0.0", json=other)
    assert refused.json()["reason"] == "ALREADY_EXISTS"
    child = {"definition": "big-pump", "version": "1.0.0", "extends": "pump@1.0.0"}
    made = await engineer.put(f"{BASE}/twinDefinitions/big-pump/versions/1.0.0", json=child)
    assert made.json()["chain"] == ["big-pump@1.0.0", "pump@1.0.0"]
    assert made.json()["origins"]["properties.flow"] == "pump@1.0.0"


async def test_operators_desire_and_engineers_describe(engineer, api):
    operator, viewer = api("operator"), api("viewer")
    assert (await operator.patch(f"{T1}/desired", json={"level": {"value": 3}})).status_code == 200
    assert (await operator.patch(f"{T1}/record", json={"tags": {"a": "b"}})).status_code == 403
    assert (await viewer.patch(f"{T1}/desired", json={"level": {"value": 3}})).status_code == 403
