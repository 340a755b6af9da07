"""Retention over REST: one document under its ETag, a plan, and answers that say what is kept no more."""

from __future__ import annotations

import pytest

from tests.cloud.plant import START_NS
from twincloud.api.times import to_text
from twincloud.twins.retention import DAY_NS
from twincloud.upkeep.retention import RetentionTask
from twinmodel.clock import SECOND_NS as S

PATH = "/api/v1/tenants/acme/retention"
TWIN = "/api/v1/tenants/acme/sites/north/twins/tank-1"
FIRST = START_NS // DAY_NS * DAY_NS
DAYS = 5
KEPT = FIRST + 3 * DAY_NS


@pytest.fixture
def old(plant, api):
    """A tank that told its level once a day for five days, of which two are kept; its estimates are kept for ever."""
    gateway = plant.gateway("acme", "north", "gw-1", "tank-1")
    for day in range(DAYS):
        t_ns = FIRST + day * DAY_NS + 3_600 * S
        gateway.send({"tank-1-dev.level": float(day), "tank-1/level#estimate": float(day)}, t_ns=t_ns)
        plant.clock.advance(DAY_NS)
    now_ns = plant.clock.wall_ns()
    while plant.store.compact(now_ns) or plant.store.bucket(now_ns):
        pass
    return api("engineer")


async def expire(plant, client, *policies) -> None:
    tag = (await client.get(PATH)).headers["ETag"]
    answer = await client.put(PATH, json={"policies": list(policies)}, headers={"If-Match": tag})
    assert answer.status_code == 200, answer.text
    task = RetentionTask(plant.store, plant.store, None, archiving=True, clock=plant.clock)
    assert task.run(FIRST + 5 * DAY_NS) == 0


async def test_policies_are_changed_under_their_tag_by_engineers(old, api):
    first = await old.get(PATH)
    assert (first.json(), first.status_code) == ({"policies": [], "archiving": True}, 200)
    wanted = {"policies": [{"pattern": "*"}, {"pattern": "a.*", "archive_days": 2, "raw_days": 3, "buckets_days": 4}]}
    tag = {"If-Match": first.headers["ETag"]}
    assert (await api("operator").put(PATH, json=wanted, headers=tag)).status_code == 403
    assert (await old.put(PATH, json=wanted)).status_code == 428
    put = await old.put(PATH, json=wanted, headers=tag)
    assert [(p["pattern"], p["archive_days"]) for p in put.json()["policies"]] == [("a.*", 2), ("*", 0)]
    again = await old.put(PATH, json=wanted, headers=tag)
    assert (again.status_code, again.headers["ETag"]) == (412, put.headers["ETag"])
    assert (await api("viewer").get(PATH)).headers["ETag"] == put.headers["ETag"]
    assert (await api("engineer", "beta").get(PATH)).status_code == 403
    for wrong in ([{"pattern": ""}], [{"pattern": "a", "raw_days": -1}], [{"pattern": "a"}, {"pattern": "a"}]):
        answer = await old.put(PATH, json={"policies": wrong}, headers={"If-Match": put.headers["ETag"]})
        assert answer.status_code == 422


async def test_plan_counts_what_then_goes_and_changes_nothing(plant, old):
    wanted = {"policies": [{"pattern": "tank-1-dev.*", "archive_days": 2}]}
    for _ in range(2):
        plan = (await old.post(f"{PATH}:plan", json=wanted)).json()
        going, rest = plan["items"]
        assert (going["samples"], going["signals"], going["from_time"]) == (3, 1, to_text(FIRST + 3_600 * S))
        assert (rest["policy"]["pattern"], rest["samples"], plan["archived_files"]) == ("*", 0, 0)
    assert (await old.post(f"{PATH}:plan", json={})).json()["items"][0]["samples"] == 0


async def test_answers_over_what_is_gone_say_so(plant, old):
    await expire(plant, old, {"pattern": "tank-1-dev.*", "archive_days": 2})
    span = {
        "property": "level",
        "roles": "measured,estimate",
        "from": to_text(FIRST),
        "to": to_text(FIRST + 5 * DAY_NS),
    }
    view = (await old.get(f"{TWIN}/history", params=span)).json()
    measured, estimate = view["series"]["measured"], view["series"]["estimate"]
    assert (view["expired"], measured["expired"], measured["kept_from"]) == (True, True, to_text(KEPT))
    assert (measured["value"], estimate["value"], estimate["expired"]) == ([3.0, 4.0], [0.0, 1.0, 2.0, 3.0, 4.0], False)
    # Minutes outlive their samples, and `auto` takes them.
    short = span | {"to": to_text(FIRST + 3 * 3_600 * S), "points": 20_000, "resolution": "auto"}
    view = (await old.get(f"{TWIN}/history", params=short)).json()
    assert (view["resolution"], view["expired"], view["series"]["measured"]["value"]) == ("1m", False, [0.0])
    late = span | {"from": to_text(KEPT)}
    assert (await old.get(f"{TWIN}/history", params=late)).json()["expired"] is False

    then = (await old.get(TWIN, params={"as_of": to_text(FIRST + 2 * DAY_NS)})).json()
    assert (then["expired"], then["kept_from"]) == (True, to_text(KEPT))
    assert (await old.get(TWIN)).json()["expired"] is False

    export = {"from": span["from"], "to": span["to"], "format": "csv"}
    answer = await old.get(f"{TWIN}/export", params=export)
    assert (answer.status_code, answer.headers["Kept-From"]) == (200, to_text(KEPT))
    assert "Kept-From" not in (await old.get(f"{TWIN}/export", params=export | {"from": to_text(KEPT)})).headers


async def test_what_was_known_before_all_that_is_kept_is_refused(plant, old):
    await expire(plant, old, {"pattern": "*", "archive_days": 2})
    span = {"property": "level", "roles": "measured", "from": to_text(FIRST), "to": to_text(FIRST + 5 * DAY_NS)}
    known = to_text(KEPT - 1)
    answer = await old.get(f"{TWIN}/history", params=span | {"known_at": known})
    assert (answer.status_code, answer.json()["reason"]) == (404, "KNOWN_AT_EXPIRED")
    assert (await old.get(TWIN, params={"known_at": known})).json()["reason"] == "KNOWN_AT_EXPIRED"
    later = await old.get(f"{TWIN}/history", params=span | {"known_at": to_text(plant.clock.wall_ns() - S)})
    assert (later.status_code, later.json()["expired"]) == (200, True)


async def test_explanations_and_replays_of_what_is_gone_say_so(plant, old):
    await expire(plant, old, {"pattern": "*", "archive_days": 2})
    path = f"{TWIN}/properties/level/explanation"
    answer = await old.get(path, params={"at": to_text(FIRST + DAY_NS)})
    assert (answer.status_code, answer.json()["reason"]) == (404, "HISTORY_EXPIRED")
    spans = await old.get(f"{TWIN}/replay", params={"from": to_text(FIRST), "to": to_text(FIRST + DAY_NS)})
    assert [(one["reason"], one["ticks"]) for one in spans.json()["spans"]] == [("HISTORY_EXPIRED", 0)]
