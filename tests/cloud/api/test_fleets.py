"""Fleets over REST: what they are, who is in them, what they add up to and who stands out."""

from __future__ import annotations

import pytest

from twincloud.storage.contract import Running
from twinmodel.clock import SECOND_NS
from twinmodel.quality import QualityReason, bad, uncertain

FLEETS = "/api/v1/tenants/acme/fleets"
NEW = {"if-none-match": "*"}
TANKS = tuple(f"tank-{n}" for n in range(1, 9))


@pytest.fixture
def mill(plant):
    gateway = plant.gateway("acme", "mill", "gw-1", *TANKS)
    gateway.connect((Running("tank-1", b"\1" * 32, "tanks@1", "vm"),))
    return gateway


def say(gateway, **flows):
    gateway.send({f"{twin.replace('_', '-')}-dev.flow": value for twin, value in flows.items()})


def say_all(gateway, *values):
    gateway.send({f"{twin}-dev.flow": value for twin, value in zip(TANKS, values, strict=False)})


async def make(api, name="tanks", **body):
    answer = await api("operator").put(f"{FLEETS}/{name}", json=body, headers=NEW)
    assert answer.status_code == 200, answer.text
    return answer


async def read(api, plant, path, **query):
    plant.clock.advance(SECOND_NS)
    answer = await api("viewer").get(f"{FLEETS}/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_fleet_is_made_read_changed_and_forgotten(api, mill):
    made = await make(api, description="all of them", filter='site = "mill"')
    assert made.json()["kind"] == "filter"
    seen = await api("viewer").get(f"{FLEETS}/tanks")
    assert seen.json() == made.json()
    tag = {"if-match": seen.headers["etag"]}
    assert (await api("viewer").get(f"{FLEETS}/tanks", headers={"if-none-match": tag["if-match"]})).status_code == 304
    body = {"members": [{"site": "mill", "twin": "tank-1"}]}
    assert (await api("operator").put(f"{FLEETS}/tanks", json=body)).status_code == 428
    changed = await api("operator").put(f"{FLEETS}/tanks", json=body, headers=tag)
    assert changed.json()["kind"] == "static"
    late = await api("operator").put(f"{FLEETS}/tanks", json={"filter": "drifting"}, headers=tag)
    assert (late.status_code, late.json()["reason"]) == (412, "PRECONDITION_FAILED")
    assert [f["fleet"] for f in (await api("viewer").get(FLEETS)).json()["items"]] == ["tanks"]
    gone = await api("operator").delete(f"{FLEETS}/tanks", headers={"if-match": changed.headers["etag"]})
    assert gone.status_code == 204
    missing = await api("viewer").get(f"{FLEETS}/tanks")
    assert (missing.status_code, missing.json()["reason"]) == (404, "UNKNOWN_FLEET")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"filter": "sight = 'mill'"}, "FILTER_INVALID"),
        ({"members": [{"site": "mill", "twin": "tank-99"}]}, "UNKNOWN_TWIN"),
        ({}, "REQUEST_INVALID"),
        ({"filter": "drifting", "members": [{"site": "mill", "twin": "tank-1"}]}, "REQUEST_INVALID"),
    ],
)
async def test_a_wrong_fleet_is_refused(api, mill, body, reason):
    answer = await api("operator").put(f"{FLEETS}/tanks", json=body, headers=NEW)
    assert answer.json()["reason"] == reason
    assert (await api("viewer").get(FLEETS)).json()["items"] == []


async def test_a_viewer_makes_no_fleet_and_another_tenant_sees_none(api, mill):
    await make(api, filter="drifting")
    assert (await api("viewer").put(f"{FLEETS}/x", json={"filter": "drifting"}, headers=NEW)).status_code == 403
    assert (await api("viewer", "other").get(FLEETS)).status_code == 403


async def test_a_fleet_by_filter_follows_its_twins(api, plant, mill):
    await make(api, "two", filter='twin in ("tank-1", "tank-9")')
    await make(api, "high", filter="reported.flow.value > 10")
    say_all(mill, 1.0, 20.0)
    assert [m["twin"] for m in (await read(api, plant, "two/members"))["items"]] == ["tank-1"]
    assert [m["twin"] for m in (await read(api, plant, "high/members"))["items"]] == ["tank-2"]
    assert (await read(api, plant, "high/aggregate"))["members"] == 1
    plant.gateway("acme", "mill", "gw-2", "tank-9")
    plant.clock.advance(10 * SECOND_NS)
    say_all(mill, 11.0, 20.0)
    assert [m["twin"] for m in (await read(api, plant, "two/members"))["items"]] == ["tank-1", "tank-9"]
    assert (await read(api, plant, "two/aggregate"))["members"] == 2
    assert (await read(api, plant, "high/aggregate"))["members"] == 2


async def test_the_aggregate_says_who_is_missing_and_why(api, plant, mill):
    away = plant.gateway("acme", "mill", "gw-2", "pump-1")
    await make(api, filter='site = "mill"')
    away.send({"pump-1-dev.flow": 5.0})
    away.disconnect()
    say(mill, tank_1=100.0)
    plant.clock.advance(60 * SECOND_NS)
    mill.beat()
    say(mill, tank_2=2.0, tank_3=4.0)
    mill.send({"tank-4-dev.flow": 7.0}, quality=bad(QualityReason.DEVICE_FAULT))
    mill.send({"tank-5-dev.flow": 7.0}, quality=uncertain(QualityReason.RATE))
    found = await read(api, plant, "tanks/aggregate", property="flow")
    (flow,) = found["properties"]
    assert (flow["role"], flow["members"], flow["count"], flow["mean"], flow["total"]) == ("measured", 9, 2, 3.0, 6.0)
    assert flow["completeness"] == pytest.approx(2 / 9)
    assert flow["missing"] == {"never": 3, "offline": 1, "stale": 1, "bad": 1, "uncertain": 1}
    why = {m["twin"]: m["why"] for m in flow["missing_members"]}
    assert why["pump-1"] == "offline"
    assert (why["tank-1"], why["tank-4"], why["tank-5"], why["tank-8"]) == ("stale", "bad", "uncertain", "never")
    assert flow["uncertainty"] is None


async def test_estimates_of_one_version_do_not_average_out(api, plant, mill):
    await make(api, filter='site = "mill"')
    for twin in TANKS[:2]:
        mill.send({f"{twin}/level#estimate": 3.0, f"{twin}/level#sigma": 0.5})
    found = await read(api, plant, "tanks/aggregate", property="level", role="estimated")
    (level,) = found["properties"]
    assert level["mean"] == 3.0
    versions = {v["model"]: (v["count"], v["sigma_common"], v["source"]) for v in level["uncertainty"]["versions"]}
    assert versions == {"": (1, 0.5, "rule"), "tanks@1": (1, 0.5, "rule")}
    assert level["uncertainty"]["mean"] == pytest.approx(0.5 / 2**0.5)


async def test_an_outlier_is_named_and_a_stale_one_is_not(api, plant, mill):
    await make(api, filter='site = "mill"')
    say_all(mill, 10.0, 10.2, 9.9, 10.1, 9.8, 10.05, 9.95, 40.0)
    (found,) = (await read(api, plant, "tanks/outliers"))["items"]
    assert (found["twin"], found["direction"], found["peers"]) == ("tank-8", "above", 7)
    assert found["z"] > found["limit"]
    assert "above the median" in found["why"]
    peers = await api("viewer").get("/api/v1/tenants/acme/sites/mill/twins/tank-8/peers")
    flow = next(item for item in peers.json()["items"] if item["property"] == "flow")
    assert (flow["fleet"], flow["rank"], flow["outlier"], flow["percentile"]) == ("tanks", 8, True, 93.75)
    plant.clock.advance(60 * SECOND_NS)
    say_all(mill, 10.0, 10.2, 9.9, 10.1, 9.8, 10.05, 9.95)
    assert (await read(api, plant, "tanks/outliers"))["items"] == []
    stale = await api("viewer").get("/api/v1/tenants/acme/sites/mill/twins/tank-8/peers", params={"fleet": "tanks"})
    flow = next(item for item in stale.json()["items"] if item["property"] == "flow")
    assert (flow["missing"], flow["value"], flow["outlier"]) == ("stale", None, False)


async def test_a_page_of_members_goes_on_where_it_ended(api, plant, mill):
    await make(api, filter="reported.flow.value > 1 or reported.flow.value = null")
    say_all(mill, 5.0, 0.0, 5.0, 0.0)
    names, token = [], ""
    while True:
        page = await read(api, plant, "tanks/members", page_size=2, page_token=token)
        assert len(page["items"]) <= 2
        names += [m["twin"] for m in page["items"]]
        token = page["next_page_token"]
        if not token:
            break
    assert names == ["tank-1", "tank-3", *TANKS[4:]]
