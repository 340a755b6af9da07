"""`filter=` of listings: what it finds, and that pages stay right."""

from __future__ import annotations

import pytest

from twincloud.api.filtering import scan
from twincloud.storage.contract import Page
from twincloud.storage.paging import page_of, place_of

TWINS = "/api/v1/tenants/acme/twins"


@pytest.fixture
def mill(plant):
    gateway = plant.gateway("acme", "mill", "gw-1", *(f"tank-{n}" for n in range(6)))
    gateway.send({f"tank-{n}-dev.flow": float(n) for n in range(6)})
    plant.gateway("acme", "quay", "gw-2", "crane")
    return gateway


async def names(api, path=TWINS, key="twin", page_size=100, **query):
    found, token = [], ""
    while True:
        answer = await api("viewer").get(path, params={**query, "page_size": page_size, "page_token": token})
        assert answer.status_code == 200, answer.text
        found += [item[key] for item in answer.json()["items"]]
        token = answer.json()["next_page_token"]
        if not token:
            return found


@pytest.mark.parametrize("page_size", [1, 2, 100])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('site = "quay"', ["crane"]),
        ("reported.flow.value >= 4", ["tank-4", "tank-5"]),
        ('twin ^= "tank" and not reported.flow.value > 0', ["tank-0"]),
        ('health = "warn" and site = "quay"', ["crane"]),
        ('properties has "flow" and gateway = "gw-2"', ["crane"]),
        ('tags has "line"', []),
        ("freshness < 1h and reported.flow.age < 1m and reported.flow.value = 3", ["tank-3"]),
    ],
)
async def test_a_filter_finds_the_same_whatever_the_page(api, mill, text, expected, page_size):
    assert await names(api, filter=text, page_size=page_size) == expected


async def test_gateways_and_models_are_filtered_too(api, mill, plant):
    gateways = "/api/v1/tenants/acme/gateways"
    assert await names(api, gateways, "gateway", filter='connected and gateway != "gw-2"') == ["gw-1"]
    assert await names(api, gateways, "gateway", filter='health = "ok" and samples > 0') == ["gw-1"]
    plant.store.put_model("acme", b"tanks@1.0", 5)
    models = "/api/v1/tenants/acme/models"
    assert await names(api, models, "version", filter='name = "tanks" and created > 1970-01-01T00:00:00Z') == ["1.0"]
    assert await names(api, models, "version", filter='name = "pumps"') == []


async def test_a_wrong_filter_is_a_problem_with_its_column(api, mill):
    answer = await api("viewer").get(TWINS, params={"filter": 'site = "mill" and helth = "ok"'})
    assert (answer.status_code, answer.json()["reason"]) == (422, "FILTER_INVALID")
    assert "column 19" in answer.json()["detail"]
    assert answer.json()["hint"] == "did you mean health?"


async def test_a_token_is_of_the_list_with_its_filter(api, mill):
    query = {"filter": "reported.flow.value > 0", "page_size": 1}
    token = (await api("viewer").get(TWINS, params=query)).json()["next_page_token"]
    assert token
    answer = await api("viewer").get(TWINS, params={"page_size": 1, "page_token": token})
    assert answer.json()["reason"] == "REQUEST_INVALID"


@pytest.mark.parametrize("wanted", [lambda n: n % 997 == 0, lambda n: n > 11_990, lambda _: True, lambda _: False])
def test_a_scan_gives_each_row_once_and_looks_at_few_for_a_page(wanted):
    looked = []

    def rows(*, limit: int, token: str) -> Page[int]:
        after = place_of(token, int)[0] if token else -1
        some = list(range(after + 1, min(after + 2 + limit, 12_000)))
        looked.append(min(limit, len(some)))
        return page_of(some, limit, lambda n: (n,))

    found, token = [], ""
    while True:
        looked.clear()
        page = scan(rows, wanted, lambda n: (n,), limit=10, token=token)
        assert len(page.items) <= 10
        assert sum(looked) <= 5_100
        found += page.items
        token = page.next_token
        if not token:
            break
    assert found == [n for n in range(12_000) if wanted(n)]
