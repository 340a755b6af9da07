"""History over REST: buckets, what was known at a time, and twins as they were."""

from __future__ import annotations

import pytest

from tests.cloud.plant import START_NS
from twincloud.api.times import to_text
from twincloud.api.v1.twins import resolution_for
from twinmodel.clock import SECOND_NS as S

TWIN = "/api/v1/tenants/acme/sites/north/twins/tank-1"


@pytest.fixture
def told(plant, api):
    """A tank that reported 0..89 at one value a second, the last thirty of them a minute late."""
    gateway = plant.gateway("acme", "north", "gw-1", "tank-1")
    for n in range(90):
        if n == 60:
            plant.clock.advance(60 * S)
        gateway.send({"tank-1-dev.level": float(n)}, t_ns=START_NS + n * S)
        plant.clock.advance(S)
    plant.clock.advance(120 * S)
    return api("viewer")


async def ask(client, path, **params):
    answer = await client.get(path, params=params)
    return answer.status_code, answer.json()


async def test_buckets_tell_mean_and_extremes(told):
    span = {"property": "level", "roles": "measured", "from": to_text(START_NS), "to": to_text(START_NS + 90 * S)}
    status, view = await ask(told, f"{TWIN}/history", **span, resolution="1m")
    assert status == 200, view
    run = view["series"]["measured"]
    assert (view["resolution"], sum(run["buckets"]["count"])) == ("1m", 90)
    assert (min(run["buckets"]["low"]), max(run["buckets"]["high"]), run["buckets"]["last"][-1]) == (0.0, 89.0, 89.0)
    assert (await ask(told, f"{TWIN}/history", **span, resolution="auto"))[1]["resolution"] == "raw"
    assert (await ask(told, f"{TWIN}/history", **span, resolution="2m"))[0] == 422


async def test_what_was_known_excludes_what_came_later_and_the_open_present_is_refused(told):
    span = {"property": "level", "roles": "measured", "from": to_text(START_NS), "to": to_text(START_NS + 90 * S)}
    for _ in range(2):
        _, view = await ask(told, f"{TWIN}/history", **span, known_at=to_text(START_NS + 100 * S))
        assert view["series"]["measured"]["value"] == [float(n) for n in range(60)]
    assert (await ask(told, f"{TWIN}/history", **span, known_at="2100-01-01T00:00:00Z"))[1]["reason"] == "KNOWN_AT_OPEN"
    _, then = await ask(told, f"{TWIN}/history", **span, as_of=to_text(START_NS + 9 * S))
    assert then["series"]["measured"]["value"][-1] == 9.0


async def test_twin_shows_the_values_of_then(told):
    values = {
        name: {p["name"]: p["reported"] for p in (await ask(told, TWIN, **params))[1]["properties"]}["level"]["value"]
        for name, params in {
            "now": {},
            "as_of": {"as_of": to_text(START_NS + 9 * S)},
            "known": {"known_at": to_text(START_NS + 100 * S)},
        }.items()
    }
    assert values == {"now": 89.0, "as_of": 9.0, "known": 59.0}
    assert (await ask(told, TWIN, as_of="soon"))[1]["reason"] == "REQUEST_INVALID"


def test_resolution_is_the_finest_that_the_points_cover():
    assert [resolution_for(span * S, 100) for span in (100, 101, 6_001, 90_001, 9_999_999)] == [
        "raw", "1m", "15m", "1h", "1h",
    ]  # fmt: skip
