"""Each path answers with its shape, from a real store."""

from __future__ import annotations

import hashlib

import pytest

from twincloud.api.v1 import holdings as h
from twincloud.api.v1 import schemas as s
from twinmodel.clock import SECOND_NS
from twinmodel.quality import QualityReason, bad, uncertain

BASE = "/api/v1/tenants/acme"


@pytest.fixture
def tank(plant):
    gateway = plant.gateway("acme", "north", "gw-1", "tank-1", "tank-2")
    gateway.send({"tank-1-dev.flow": 2.0, "tank-1-dev.level": 1.5, "tank-2-dev.level": 4.0, "tank-2-dev.flow": 1.0})
    return gateway


async def get(client, path, shape, **params):
    answer = await client.get(path if path.startswith("/api") else BASE + path, params=params)
    assert answer.status_code == 200, answer.text
    return shape.model_validate(answer.json())


async def test_fleet_counts_health_and_says_what_needs_attention(plant, api, tank):
    other = plant.gateway("acme", "south", "gw-2", "pump-1")
    other.send({"pump-1-dev.level": 1.0}, quality=bad(QualityReason.FROZEN))
    fleet = await get(api("viewer"), "/fleet", s.FleetSummary)
    assert (fleet.ok, fleet.warn, fleet.bad, fleet.offline) == (2, 0, 1, 0)
    assert (fleet.gateways, fleet.gateways_connected, fleet.samples) == (2, 2, 5)
    assert fleet.freshness_p95_s == 0.0
    assert [(a.severity, a.name) for a in fleet.attention] == [("bad", "pump-1")]
    assert "bad(FROZEN)" in fleet.attention[0].why
    assert "1 of 1" in fleet.attention[0].why
    assert fleet.last_event == plant.store.last_event()
    assert {site.site: site.bad for site in fleet.sites} == {"north": 0, "south": 1}
    sites = await get(api("viewer"), "/sites", s.SiteList)
    assert sites.items == fleet.sites


async def test_twin_shows_values_with_nine_digits_and_an_etag(plant, api, tank):
    client = api("viewer")
    answer = await client.get(f"{BASE}/sites/north/twins/tank-1")
    view = s.TwinView.model_validate(answer.json())
    level = next(p for p in view.properties if p.name == "level")
    assert view.health == "ok"
    assert view.why == ""
    assert level.reported.value == 1.5
    assert level.reported.t_event == "2023-11-14T22:13:20.000000000Z"
    assert level.reported.quality == "good"
    tag = answer.headers["etag"]
    unchanged = await client.get(f"{BASE}/sites/north/twins/tank-1", headers={"If-None-Match": tag})
    assert unchanged.status_code == 304
    assert unchanged.content == b""
    tank.send({"tank-1-dev.level": 1.6})
    changed = await client.get(f"{BASE}/sites/north/twins/tank-1", headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


async def test_twin_without_news_becomes_stale_and_its_etag_changes_by_time_alone(plant, api, tank):
    client = api("viewer")
    fresh = await client.get(f"{BASE}/sites/north/twins/tank-1")
    plant.clock.advance(42 * SECOND_NS)
    tank.beat()
    stale = await client.get(f"{BASE}/sites/north/twins/tank-1", headers={"If-None-Match": fresh.headers["etag"]})
    assert stale.status_code == 200
    assert stale.json()["health"] == "warn"
    assert stale.json()["why"] == "the newest value is 42 s old (limit 30 s)"
    assert stale.json()["freshness_s"] == 42.0


async def test_twin_of_a_gateway_that_left_is_offline_after_ten_seconds(plant, api, tank):
    client = api("viewer")
    tank.disconnect()
    plant.clock.advance(9 * SECOND_NS)
    assert (await client.get(f"{BASE}/sites/north/twins/tank-1")).json()["health"] == "ok"
    plant.clock.advance(2 * SECOND_NS)
    view = (await client.get(f"{BASE}/sites/north/twins/tank-1")).json()
    assert view["health"] == "offline"
    assert view["why"] == "gateway gw-1 has not been connected for 11 s (limit 10 s)"


async def test_lists_are_paged_by_opaque_tokens_bound_to_their_filters(plant, api):
    for n in range(3):
        plant.gateway("acme", "north", f"gw-{n}", f"tank-{n}")
    client = api("viewer")
    for noun, shape, name in (("twins", s.TwinList, "twin"), ("gateways", s.GatewayList, "gateway")):
        seen, token = [], ""
        while True:
            page = await get(client, f"/{noun}", shape, page_size=2, page_token=token)
            assert len(page.items) <= 2
            seen += [getattr(item, name) for item in page.items]
            token = page.next_page_token
            if not token:
                break
            first = token
        assert len(seen) == len(set(seen)) == 3
        for wrong in ("nonsense", "a" * 50, "x" + first):
            answer = await client.get(f"{BASE}/{noun}", params={"page_token": wrong})
            assert answer.status_code == 422, wrong
        answer = await client.get(f"{BASE}/{noun}", params={"page_token": first, "site": "north"})
        assert answer.json()["reason"] == "REQUEST_INVALID"


async def test_gateway_shows_its_backlog_and_how_many_twins_it_serves(plant, api, tank):
    plant.clock.advance(60 * SECOND_NS)
    tank.beat(backlog_bytes=900, backlog_samples=12_340, oldest_ns=plant.clock.wall_ns() - 45 * SECOND_NS)
    view = await get(api("viewer"), "/sites/north/gateways/gw-1", s.GatewayView)
    assert (view.twins, view.backlog_samples, view.connected, view.health) == (2, 12_340, True, "warn")
    assert view.why == "12,340 samples wait on gateway gw-1, the oldest for 45 s (limit 30 s)"
    listed = await get(api("viewer"), "/gateways", s.GatewayList)
    assert listed.items == [view]


async def test_losses_of_a_gateway_without_holes_are_an_empty_list(api, tank):
    assert (await get(api("viewer"), "/sites/north/gateways/gw-1/losses", h.LossList)).items == []


async def test_every_stored_sample_can_be_audited_in_commit_order(api, tank):
    for n in range(5):
        tank.send({"tank-1-dev.level": float(n)})
    client, seen, after = api("operator"), [], ""
    for _ in range(10):
        page = await get(client, "/sites/north/gateways/gw-1/samples", h.SampleList, after=after, limit=3)
        seen += page.items
        after = page.next_page_token
        if not after:
            break
    assert len(seen) == 9
    assert [x.value for x in seen[4:]] == [0.0, 1.0, 2.0, 3.0, 4.0]


async def test_history_gives_columns_by_role_and_null_for_what_is_no_number(plant, api, tank):
    for n in range(5):
        plant.clock.advance(SECOND_NS)
        tank.send({"tank-1-dev.level": float(n) if n != 2 else float("nan"), "tank-1/level#estimate": n + 0.5})
    client = api("viewer")
    path = "/sites/north/twins/tank-1/history"
    view = await get(client, path, s.HistoryView, property="level", roles="measured,estimate")
    assert view.series["measured"].value == [1.5, 0.0, 1.0, None, 3.0, 4.0]
    assert view.series["estimate"].value == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert view.series["measured"].t_ns == sorted(view.series["measured"].t_ns)
    few = await get(client, path, s.HistoryView, property="level", roles="measured", points=2)
    assert few.series["measured"].value == [3.0, 4.0]
    assert few.series["measured"].truncated
    cut = await get(
        client, path, s.HistoryView, property="level", roles="measured",
        **{"from": "2023-11-14T22:13:21Z", "to": "2023-11-14T22:13:22.000000001Z"},
    )  # fmt: skip
    assert cut.series["measured"].value == [0.0, 1.0]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"property": "level", "from": "yesterday"}, "from"),
        ({"property": "level", "to": "2023-13-01T00:00:00Z"}, "to"),
        ({"property": "level", "roles": "guess"}, "roles"),
        ({"property": "level", "from": "2023-11-15T00:00:00Z", "to": "2023-11-14T00:00:00Z"}, "from"),
        ({"property": "level", "points": "0"}, "points"),
        ({}, "property"),
    ],
)
async def test_history_with_a_wrong_field_names_it(api, tank, query, field):
    answer = await api("viewer").get(f"{BASE}/sites/north/twins/tank-1/history", params=query)
    assert answer.status_code == 422
    assert answer.json()["reason"] == "REQUEST_INVALID"
    assert answer.json()["detail"].startswith(f"{field}:")


async def test_history_of_an_unknown_property_names_those_there_are(api, tank):
    answer = await api("viewer").get(f"{BASE}/sites/north/twins/tank-1/history", params={"property": "levle"})
    assert answer.status_code == 404
    assert answer.json()["hint"] == "use one of flow, level"


async def test_model_is_pushed_listed_fetched_and_assigned(plant, api, tank):
    engineer, operator = api("engineer"), api("operator")
    pushed = await engineer.post(f"{BASE}/models", content=b"tanks@1.0.0")
    assert pushed.status_code == 201
    model = s.ModelView.model_validate(pushed.json())
    assert (model.name, model.version, model.size) == ("tanks", "1.0.0", 11)
    assert model.digest == hashlib.sha256(b"tanks@1.0.0").hexdigest()
    assert (await get(operator, "/models", s.ModelList)).items == [model]
    assert await get(operator, "/models/tanks/versions/1.0.0", s.ModelView) == model
    artifact = await operator.get(f"{BASE}/artifacts/{model.digest}")
    assert artifact.content == b"tanks@1.0.0"
    assigned = await operator.put(f"{BASE}/sites/north/twins/tank-1/model", json={"model": "tanks@1.0.0"})
    assert assigned.status_code == 202, assigned.text
    directive = s.DirectiveView.model_validate(assigned.json())
    assert (directive.target, directive.outcome, directive.site) == ("tank-1", "", "north")
    assert directive.deadline == "2023-11-14T23:13:20.000000000Z"
    assert plant.woken == [tank.key]
    assert (await get(operator, "/directives", s.DirectiveList, target="tank-1")).items == [directive]
    assert (await get(operator, "/directives", s.DirectiveList, target="tank-2")).items == []
    plant.store.settle_directive(
        tank.key, directive.id, "REJECTED", reason="PARITY_FAILED", detail="", running="", now_ns=plant.clock.wall_ns()
    )
    view = await get(operator, "/sites/north/twins/tank-1", s.TwinView)
    assert view.health == "bad"
    assert view.why == "model tanks@1.0.0 was rejected (PARITY_FAILED) and no model runs (rule: the desired one runs)"


async def test_model_that_is_no_package_is_refused_by_its_reason(api, tank):
    answer = await api("engineer").post(f"{BASE}/models", content=b"junk")
    assert (answer.status_code, answer.json()["reason"]) == (422, "PACKAGE_INVALID")
    empty = await api("engineer").post(f"{BASE}/models")
    assert (empty.status_code, empty.json()["reason"]) == (422, "REQUEST_INVALID")


async def test_signer_is_added_and_listed(api, tank):
    from twinmodel.package import signing

    pem = signing.public_pem(signing.generate_key().public_key()).decode()
    added = await api("admin").post(f"{BASE}/signers", json={"name": "desk", "public_key_pem": pem})
    assert added.status_code == 201, added.text
    listed = await get(api("viewer"), "/signers", s.SignerList)
    assert [signer.key_id for signer in listed.items] == [added.json()["key_id"]]


async def test_invitation_carries_the_whole_join_line(plant, api, tank):
    answer = await api("operator").post(f"{BASE}/gateways:invite", json={"site": "north", "gateway": "gw-9"})
    assert answer.status_code == 201, answer.text
    invite = s.InviteView.model_validate(answer.json())
    assert (
        invite.join == f"twinedge join https://127.0.0.1:8422 --token {invite.token} --ca-sha256 {plant.ca.fingerprint}"
    )
    assert invite.expires == "2023-11-15T22:13:20.000000000Z"
    view = await get(api("viewer"), "/sites/north/gateways/gw-9", s.GatewayView)
    assert (view.health, view.why, view.last_seen) == (
        "offline",
        "gateway gw-9 has never connected: run the join line",
        None,
    )


async def test_a_coarser_period_is_asked_for_listed_and_ends_by_its_time(plant, api, tank):
    path = f"{BASE}/sites/north/gateways/gw-1"
    asked = await api("operator").post(f"{path}:coarsen", json={"stream": "bulk", "period_s": 0.5, "ttl_s": 60})
    wish = h.WishView.model_validate(asked.json())
    assert (wish.stream, wish.signal, wish.period_s, wish.created_by) == ("bulk", "", 0.5, "t0")
    assert plant.woken[-1].gateway == "gw-1"
    assert (await get(api("viewer"), "/sites/north/gateways/gw-1/wishes", h.WishList)).items == [wish]
    plant.clock.advance(60 * SECOND_NS)
    assert (await get(api("viewer"), "/sites/north/gateways/gw-1/wishes", h.WishList)).items == []
    for wrong in ({"stream": "alarm", "period_s": 1}, {"stream": "bulk", "period_s": -1}, {"stream": "bulk"}):
        assert (await api("operator").post(f"{path}:coarsen", json=wrong)).status_code == 422


async def test_dead_letters_are_listed(api, tank):
    assert (await get(api("operator"), "/deadLetters", s.DeadLetterList)).items == []


async def test_session_tells_who_asks(api, tank):
    answer = await api("engineer").get("/api/v1/session")
    assert answer.json()["role"] == "engineer"
    assert answer.json()["tenant"] == "acme"


async def test_probes_and_metrics_need_no_token_and_name_no_tenant(api, tank):
    client = api()
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    await client.get(f"{BASE}/fleet")
    text = (await client.get("/metrics")).text
    assert "twincloud_store_samples 4.0" in text
    assert 'twincloud_http_requests_total{method="GET",route="/api/v1/tenants/{t}/fleet",status="401"} 1.0' in text
    assert "acme" not in text


async def test_readiness_fails_while_event_streams_do_not_run_and_passes_with_them(api, tank):
    client = api()
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (503, "NOT_READY")
    async with api.app.router.lifespan_context(api.app):
        import asyncio

        await asyncio.sleep(0)
        assert (await client.get("/readyz")).status_code == 200


async def test_uncertain_quality_warns_with_the_property_and_the_rule(plant, api, tank):
    tank.send({"tank-1-dev.flow": 3.0}, quality=uncertain(QualityReason.SPIKE), t_ns=plant.clock.wall_ns() + 1)
    view = await get(api("viewer"), "/sites/north/twins/tank-1", s.TwinView)
    assert view.health == "warn"
    assert view.why == "1 of 2 measured values not good: flow is uncertain(SPIKE) (rule: all good)"
