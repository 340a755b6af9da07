"""Every list comes whole by pages of any size; a huge page and a token of something else are refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cloud.api.seeded import Seeded

BELOW = "/api/v1/tenants/{t}"
PATHS = json.loads((Path(__file__).resolve().parents[2] / "golden" / "openapi.json").read_text())["paths"]
PAGED = [
    path
    for path, methods in PATHS.items()
    if any(one["name"] == "page_token" for one in methods.get("get", {}).get("parameters", []))
]
SEVERAL = ("/directives", "/wishes", "/signers", "/sites", "/twins", "/fleets", "/operations")


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    seeded = Seeded(tmp_path_factory.mktemp("pages") / "state")
    yield seeded
    seeded.close()


def test_every_list_that_can_grow_has_pages():
    lists = {p for p, m in PATHS.items() if "items" in json.dumps(m.get("get", {}).get("responses", {}))}
    assert lists <= set(PAGED)
    for name in ("directives", "losses", "wishes", "signers", "sites", "deadLetters", "operations", "members"):
        assert [path for path in PAGED if path.endswith(f"/{name}")], name


@pytest.mark.parametrize("path", PAGED)
async def test_list_by_pages_of_one_is_the_list(seeded, path):
    async with seeded.client("admin", "acme") as client:
        place = path.format_map(seeded.names["acme"])
        whole = (await client.get(place, params={"page_size": 1_000})).json()
        assert whole["next_page_token"] == ""
        found, token = [], ""
        for _ in range(50):
            page = (await client.get(place, params={"page_size": 1, "page_token": token})).json()
            assert len(page["items"]) <= 1
            found += page["items"]
            token = page["next_page_token"]
            if not token:
                break
        assert found == whole["items"]
        assert len(found) >= (2 if path.endswith(SEVERAL) else 0)


@pytest.mark.parametrize("path", PAGED)
@pytest.mark.parametrize(
    "query", [{"page_size": 10**9}, {"page_size": 0}, {"page_token": "none"}, {"page_token": "x" * 9_999}]
)
async def test_page_that_cannot_be_is_a_problem(seeded, path, query):
    async with seeded.client("admin", "acme") as client:
        answer = await client.get(path.format_map(seeded.names["acme"]), params=query)
    assert (answer.status_code, answer.json()["reason"]) == (422, "REQUEST_INVALID")
    assert answer.json()["hint"]
