"""The short way answers what the route answers, for as long as that is true, and for nobody else."""

from __future__ import annotations

import asyncio

import pytest

from twinmodel.clock import SECOND_NS

TWIN = "/api/v1/tenants/acme/sites/north/twins/tank-1"
PLAIN = {"accept": "application/json"}
LONG_WAY = {"x-not-known": "1"}


@pytest.fixture
def tank(plant):
    gateway = plant.gateway("acme", "north", "gw-1", "tank-1", "tank-2")
    gateway.send({"tank-1-dev.level": 1.0})
    return gateway


def lane_of(app):
    from twincloud.api.lane import Lane

    inner = app.middleware_stack
    while not isinstance(inner, Lane):
        inner = inner.app
    return inner


async def counted(app, client, **headers) -> tuple[object, int]:
    """An answer, and how often the usual way was taken for it."""
    lane, taken = lane_of(app), []
    usual = lane._app

    async def counting(scope, receive, send):
        taken.append(scope["path"])
        await usual(scope, receive, send)

    lane._app = counting
    try:
        return await client.get(TWIN, headers={**PLAIN, **headers}), len(taken)
    finally:
        lane._app = usual


async def test_second_reading_takes_the_short_way_and_is_the_same_to_the_byte(plant, api, tank):
    client = api("viewer")
    first = await client.get(TWIN, headers=PLAIN)
    second, usual = await counted(api.app, client)
    third, usual_of_third = await counted(api.app, client, **LONG_WAY)
    assert (usual, usual_of_third) == (0, 1)
    assert first.content == second.content == third.content
    # The order of headers means nothing.
    assert sorted(second.headers.items()) == sorted(third.headers.items())


@pytest.mark.parametrize(
    "change",
    [
        lambda plant, tank: tank.send({"tank-1-dev.level": 7.0}),
        lambda plant, tank: (tank.disconnect(), plant.clock.advance(20 * SECOND_NS)),
        lambda plant, tank: plant.clock.advance(40 * SECOND_NS),
    ],
    ids=["value", "gone", "stale"],
)
async def test_whatever_changes_the_view_changes_the_answer_at_once(plant, api, tank, change):
    client = api("viewer")
    for _ in range(2):
        before = (await client.get(TWIN, headers=PLAIN)).content
    change(plant, tank)
    await client.get("/api/v1/session")  # the token is known again, however long that took
    answer, usual = await counted(api.app, client)
    assert usual == 0
    assert answer.content != before
    view = await api.app.state.fleet.twin_view(api.app.state.fleet._store.twins("acme").items[0].key)
    assert answer.content.decode() == view.model_dump_json()


async def test_short_way_is_closed_to_strangers_lower_roles_and_revoked_tokens(plant, api, tank):
    client, stranger, foreign = api("viewer"), api(), api("viewer", "globex")
    for one, status in ((client, 200), (stranger, 401), (foreign, 403)):
        for _ in range(2):
            assert (await one.get(TWIN, headers=PLAIN)).status_code == status
    plant.ledger.revoke_token("t0", plant.clock.wall_ns())
    await asyncio.sleep(0)  # requests of one turn of the loop share one look at the ledger
    assert (await client.get(TWIN, headers=PLAIN)).status_code == 401


async def test_token_that_expires_ends_on_the_short_way_too(plant, api, tank):
    client = api()
    client.headers["Authorization"] = f"Bearer {plant.token('viewer', ttl_s=0.5)}"
    for _ in range(2):
        assert (await client.get(TWIN, headers=PLAIN)).status_code == 200
    plant.clock.advance(SECOND_NS // 2)
    assert (await client.get(TWIN, headers=PLAIN)).status_code == 401


async def test_unknown_twin_and_known_tag_are_answered_as_ever(plant, api, tank):
    client = api("viewer")
    tag = (await client.get(TWIN, headers=PLAIN)).headers["etag"]
    assert (await client.get(TWIN, headers={"if-none-match": tag})).status_code == 304
    missing = await client.get(TWIN + "9", headers=PLAIN)
    assert (missing.status_code, missing.json()["reason"]) == (404, "UNKNOWN_TWIN")


async def test_readers_of_one_moment_share_one_look_at_the_store(plant, api, tank, monkeypatch):
    client = api("viewer")
    await client.get(TWIN, headers=PLAIN)
    looks = []
    real = type(plant.store).twin_versions

    def looking(self, tenant, names):
        looks.append(len(names))
        return real(self, tenant, names)

    monkeypatch.setattr(type(plant.store), "twin_versions", looking)
    await client.get(TWIN, headers=PLAIN)
    assert not looks  # nothing was committed since
    tank.send({"tank-1-dev.level": 2.0})
    answers = await asyncio.gather(*(client.get(TWIN, headers=PLAIN) for _ in range(40)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(looks) < 40
    assert set(looks) == {1}


RECORD = f"{TWIN}/record"
PATCH = {"accept": "application/json", "content-type": "application/merge-patch+json"}


async def test_changes_that_come_together_are_each_judged_and_answered_and_committed_once(
    plant, api, tank, monkeypatch
):
    client = api("engineer")
    first = await client.patch(RECORD, json={"tags": {"n": "0"}}, headers=PATCH)
    assert first.status_code == 200
    rounds = []
    real = type(plant.store).patch_twins

    def counting(self, tenant, changes, now_ns):
        rounds.append(len(changes))
        return real(self, tenant, changes, now_ns)

    monkeypatch.setattr(type(plant.store), "patch_twins", counting)
    mine = {**PATCH, "if-match": first.headers["etag"]}
    answers = await asyncio.gather(
        *(client.patch(RECORD, json={"tags": {"n": str(n)}}, headers=mine) for n in range(30))
    )
    made = [answer for answer in answers if answer.status_code == 200]
    assert len(made) == 1
    assert {a.json()["reason"] for a in answers if a is not made[0]} == {"PRECONDITION_FAILED"}
    assert {a.headers["etag"] for a in answers} == {made[0].headers["etag"]}
    assert sum(rounds) == 30
    assert len(rounds) < 30
    usual = await client.get(RECORD)
    assert usual.json() == made[0].json()


async def test_change_on_the_short_way_is_the_one_of_the_usual_way(plant, api, tank):
    client = api("engineer")
    await client.get(TWIN, headers=PATCH)
    for body in (b'{"tags": {"a": "1"}}', b'{"tags": []}', b"{", b'{"nothing": 1}', b"[1]"):
        short = await client.patch(RECORD, content=body, headers=PATCH)
        usual = await client.patch(RECORD, content=body, headers={**PATCH, **LONG_WAY})
        assert short.status_code == usual.status_code
        drop = {"revision", "updated"}
        assert {k: v for k, v in short.json().items() if k not in drop} == {
            k: v for k, v in usual.json().items() if k not in drop
        }
        assert set(short.headers) == set(usual.headers)
    assert (await api("viewer").patch(RECORD, json={}, headers=PATCH)).status_code == 403
    assert (await api().patch(RECORD, json={}, headers=PATCH)).status_code == 401
