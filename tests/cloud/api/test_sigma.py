"""An estimate without its sigma is refused wherever it could come from: nobody could tell what it is worth."""

from __future__ import annotations

import pytest

from twincloud.api.views import value_view
from twincloud.storage.contract import Origin, Value
from twinmodel.clock import SECOND_NS
from twinmodel.quality import GOOD

TWIN = "/api/v1/tenants/acme/sites/north/twins/P-1"
NAN, INF = float("nan"), float("inf")
WRONG = pytest.mark.parametrize("sigma", [None, NAN, INF, -INF, -0.25])


@pytest.fixture
def gateway(plant):
    return plant.gateway("acme", "north", "gw-1", "P-1")


def say(gateway, sigma, t_ns=None, value=1.5):
    told = {"P-1/level#estimate": value} | ({} if sigma is None else {"P-1/level#sigma": sigma})
    gateway.send(told, t_ns=t_ns)


async def level(api, path=TWIN, **query):
    client = api("viewer")
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    view = answer.json()["items"][0] if "items" in answer.json() else answer.json()
    return next((p for p in view["properties"] if p["name"] == "level"), None)


@WRONG
async def test_no_view_over_rest_shows_it(api, gateway, plant, sigma):
    gateway.send({"P-1-dev.level": 1.0})
    say(gateway, sigma)
    listed = TWIN.rpartition("/sites")[0] + "/twins"
    assert (await level(api))["estimated"] is None
    assert (await level(api, listed))["estimated"] is None
    assert (await level(api, as_of=str(plant.clock.wall_ns() + 1)))["estimated"] is None
    explained = await api("viewer").get(f"{TWIN}/properties/level/explanation")
    assert "estimate" not in explained.json().get("said", {})


@WRONG
async def test_the_older_estimate_with_its_sigma_is_shown_and_explained_in_its_place(api, gateway, plant, sigma):
    first_ns = plant.clock.wall_ns()
    say(gateway, 0.25, value=1.0)
    plant.clock.advance(SECOND_NS)
    say(gateway, sigma, value=2.0)
    shown = (await level(api))["estimated"]
    assert shown is None or (shown["value"], shown["sigma"]) == (1.0, 0.25)
    explained = (await api("viewer").get(f"{TWIN}/properties/level/explanation")).json()
    assert (explained["said"]["estimate"]["value"], explained["said"]["sigma"]["value"]) == (1.0, 0.25)
    assert first_ns < plant.clock.wall_ns()


@WRONG
async def test_no_fleet_counts_it(api, gateway, sigma):
    say(gateway, sigma)
    operator, path = api("operator"), "/api/v1/tenants/acme/fleets/all"
    body = {"members": [{"site": "north", "twin": "P-1"}]}
    assert (await operator.put(path, json=body, headers={"If-None-Match": "*"})).status_code in (200, 201)
    numbers = (await operator.get(f"{path}/aggregate", params={"role": "estimated"})).json()
    assert [p["count"] for p in numbers["properties"] if p["property"] == "level"] in ([0], [])


@WRONG
def test_no_envelope_is_made_of_it_whatever_stage_it_comes_from(sigma):
    told = Value(1.5, "m", GOOD, 1, 2, 3, Origin.ESTIMATED, sigma=sigma)
    assert value_view(told) is None


def test_what_was_measured_needs_none():
    assert value_view(Value(1.5, "m", GOOD, 1, 2, 3, Origin.MEASURED)).sigma is None
