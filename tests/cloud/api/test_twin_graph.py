"""Graphs out of one tenant and into another, over REST."""

from __future__ import annotations

import pytest

BASE = "/api/v1/tenants/{}"
PUMP = {
    "definition": "pump",
    "version": "1.0.0",
    "properties": {"flow": {"unit": "m3/h", "min": 0}, "speed-limit": {"unit": "1/min", "desired": True}},
    "relationships": {"feeds": {"target": "pump", "properties": {"length": {"unit": "m"}}}},
}


@pytest.fixture
async def graph(api):
    client, base = api("engineer"), BASE.format("acme")
    assert (await client.put(f"{base}/twinDefinitions/pump/versions/1.0.0", json=PUMP)).status_code == 201
    for name, tags in (("P-1", {"line": "3"}), ("P-2", {})):
        body = {"definition": "pump@1.0.0", "desired": {"speed-limit": {"value": 1450.0}}, "tags": tags}
        made = await client.put(f"{base}/sites/mill/twins/{name}/record", json=body, headers={"If-None-Match": "*"})
        assert made.status_code == 201, made.text
    there = f"{base}/sites/mill/twins/P-1/relationships/feeds/mill/P-2"
    assert (await client.put(there, json={"properties": {"length": 2.5}})).status_code == 200
    answer = await client.get(f"{base}/twinGraph:export")
    assert answer.status_code == 200, answer.text
    return answer


async def test_a_graph_comes_into_another_tenant_as_it_was(api, plant, graph):
    assert graph.headers["ht-not-carried"] == "1", "the tag"
    client, base = api("engineer", "other"), BASE.format("other")
    tried = (await client.post(f"{base}/twinGraph:import", params={"dry_run": True}, json=graph.json())).json()
    assert (tried["dry_run"], tried["definitions"], tried["twins"], tried["relationships"]) == (True, 1, 2, 1)
    assert (await client.get(f"{base}/twinDefinitions")).json()["items"] == []
    told = await client.post(f"{base}/twinGraph:import", json=graph.json())
    assert told.status_code == 200, told.text
    assert (told.json()["refused"], told.json()["items"]) == (0, [])
    assert told.json()["found"] == told.json()["carried"] == tried["found"]
    spec = (await client.get(f"{base}/twinDefinitions/pump/versions/1.0.0")).json()
    assert (spec["properties"]["flow"]["unit"], spec["properties"]["speed-limit"]["desired"]) == ("m3/h", True)
    record = (await client.get(f"{base}/sites/mill/twins/P-1/record")).json()
    assert (record["desired"]["speed-limit"]["value"], record["definition"]) == (1450.0, "pump@1.0.0")
    (link,) = (await client.get(f"{base}/sites/mill/twins/P-1/relationships")).json()["items"]
    assert (link["target"], link["properties"]) == ("P-2", {"length": 2.5})
    again = (await client.post(f"{base}/twinGraph:import", json=graph.json())).json()
    assert again["refused"] == 0, "the same again is no error"


async def test_what_the_store_refuses_is_named_and_the_rest_is_taken(api, graph):
    file = graph.json()
    file["digitalTwinsGraph"]["digitalTwins"][0]["speed_2dlimit"] = "fast"
    file["digitalTwinsGraph"]["relationships"][0]["$targetId"] = "mill.P-9"
    client, base = api("engineer", "other"), BASE.format("other")
    told = (await client.post(f"{base}/twinGraph:import", json=file)).json()
    assert told["refused"] == 2
    assert told["found"] == told["carried"] + told["refused"]
    assert [p["place"].partition(".")[0] for p in told["items"]] == ["twins", "relationships"]
    assert (await client.get(f"{base}/sites/mill/twins/P-2/record")).status_code == 200


async def test_what_is_no_dtdl_or_not_allowed_is_refused(api, graph):
    path = f"{BASE.format('acme')}/twinGraph:import"
    for body in ([], 3, {"a": 1}):
        told = await api("engineer").post(path, json=body)
        assert told.status_code in (200, 422), told.text
    assert (await api("operator").post(path, json=[])).status_code == 403
    assert (await api("engineer").post(path, content=b"{}", headers={"content-type": "text/plain"})).status_code == 415
    refused = await api("engineer").post(path, params={"format": "aas"}, json=[])
    assert (refused.status_code, refused.json()["reason"]) == (422, "REQUEST_INVALID")


async def test_as_wot_nothing_is_lost(api, graph):
    told = await api("engineer").get(f"{BASE.format('acme')}/twinGraph:export", params={"format": "wot"})
    assert told.headers["ht-not-carried"] == "0"
    client, base = api("engineer", "other"), BASE.format("other")
    taken = await client.post(f"{base}/twinGraph:import", params={"format": "wot"}, json=told.json())
    assert (taken.status_code, taken.json()["items"]) == (200, [])
    assert (await client.get(f"{base}/sites/mill/twins/P-1/record")).json()["tags"] == {"line": "3"}
