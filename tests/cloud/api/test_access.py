"""Who may do what: every role, verb and object of the API, in the own tenant and in a foreign one."""

from __future__ import annotations

import httpx
import pytest

from tests.cloud.api.seeded import Right, Seeded, right_requests
from twincloud.identity.policy import POLICY, ROLES
from twincloud.identity.tokens import issue

TWIN = "/sites/{s}/twins/{twin}"
RELATION = f"{TWIN}/relationships/{{type}}/{{target_site}}/{{target}}"
# method, path below the tenant -> verb
VERBS = {
    ("GET", "/fleet"): "fleet.read",
    ("GET", "/sites"): "fleet.read",
    ("GET", "/fleets"): "fleets.read",
    ("GET", "/fleets/{f}"): "fleets.read",
    ("PUT", "/fleets/{f}"): "fleets.write",
    ("DELETE", "/fleets/{f}"): "fleets.write",
    ("GET", "/fleets/{f}/members"): "fleets.read",
    ("GET", "/fleets/{f}/aggregate"): "fleets.read",
    ("GET", "/fleets/{f}/outliers"): "fleets.read",
    ("GET", f"{TWIN}/peers"): "fleets.read",
    ("GET", "/alarms"): "alarms.read",
    ("GET", "/alarms:summary"): "alarms.read",
    ("GET", "/alarms/{alarm}"): "alarms.read",
    ("GET", "/alarms/{alarm}/journal"): "alarms.read",
    ("POST", "/alarms:ack"): "alarms.ack",
    ("POST", "/alarms/{alarm}:ack"): "alarms.ack",
    ("POST", "/alarms/{alarm}:comment"): "alarms.ack",
    ("POST", "/alarms/{alarm}:shelve"): "alarms.shelve",
    ("POST", "/alarms/{alarm}:unshelve"): "alarms.shelve",
    ("POST", "/alarms/{alarm}:outOfService"): "alarms.service",
    ("POST", "/alarms/{alarm}:inService"): "alarms.service",
    ("GET", "/gateways"): "gateways.read",
    ("GET", "/sites/{s}/gateways/{g}"): "gateways.read",
    ("GET", "/sites/{s}/gateways/{g}/losses"): "gateways.read",
    ("GET", "/sites/{s}/gateways/{g}/wishes"): "gateways.read",
    ("POST", "/sites/{s}/gateways/{g}:coarsen"): "gateways.coarsen",
    ("GET", "/sites/{s}/gateways/{g}/configuration"): "configurations.read",
    ("PUT", "/sites/{s}/gateways/{g}/configuration"): "gateways.configure",
    ("GET", "/sites/{s}/gateways/{g}/samples"): "samples.read",
    ("POST", "/gateways:invite"): "gateways.invite",
    ("GET", "/twins"): "twins.read",
    ("GET", TWIN): "twins.read",
    ("GET", f"{TWIN}/history"): "twins.read",
    ("PUT", f"{TWIN}/model"): "models.assign",
    ("GET", f"{TWIN}/export"): "twins.read",
    ("GET", "/twinRecords"): "twins.read",
    ("GET", f"{TWIN}/record"): "twins.read",
    ("PUT", f"{TWIN}/record"): "twins.write",
    ("PATCH", f"{TWIN}/record"): "twins.write",
    ("DELETE", f"{TWIN}/record"): "twins.write",
    ("GET", f"{TWIN}/desired"): "twins.read",
    ("PATCH", f"{TWIN}/desired"): "twins.desire",
    ("POST", "/twins:batch"): "twins.write",
    ("GET", "/twinDefinitions"): "twins.read",
    ("POST", "/twinDefinitions"): "definitions.publish",
    ("GET", "/twinDefinitions/{d}/versions/{v}"): "twins.read",
    ("PUT", "/twinDefinitions/{d}/versions/{v}"): "definitions.publish",
    ("GET", f"{TWIN}/relationships"): "twins.read",
    ("GET", RELATION): "twins.read",
    ("PUT", RELATION): "twins.write",
    ("DELETE", RELATION): "twins.write",
    ("GET", f"{TWIN}/graph"): "twins.read",
    ("GET", "/models"): "models.read",
    ("POST", "/models"): "models.push",
    ("GET", "/models/{name}/versions/{version}"): "models.read",
    ("GET", "/artifacts/{digest}"): "artifacts.read",
    ("GET", "/signers"): "signers.read",
    ("POST", "/signers"): "signers.add",
    ("GET", "/directives"): "directives.read",
    ("GET", "/deadLetters"): "deadletters.read",
    ("POST", "/deadLetters/{letter}:requeue"): "deadletters.requeue",
    ("GET", "/events"): "events.read",
    ("GET", "/operations"): "operations.read",
    ("GET", "/operations/{operation}"): "operations.read",
    ("GET", "/operations/{operation}/plot.svg"): "operations.read",
    ("POST", "/operations/{operation}:cancel"): "operations.cancel",
    ("POST", f"{TWIN}:backtest"): "twins.backtest",
    ("GET", "/cloudTwins"): "twins.read",
    ("GET", f"{TWIN}/run"): "twins.read",
    ("PUT", f"{TWIN}/run"): "twins.run",
    ("DELETE", f"{TWIN}/run"): "twins.run",
    ("GET", f"{TWIN}/properties/{{property}}/explanation"): "twins.read",
    ("GET", f"{TWIN}/replay"): "twins.read",
    ("GET", "/twinGraph:export"): "twins.read",
    ("POST", "/twinGraph:import"): "definitions.publish",
    ("GET", "/commands"): "commands.read",
    ("GET", f"{TWIN}/commands"): "commands.read",
    ("GET", f"{TWIN}/commandables"): "commands.read",
    ("POST", f"{TWIN}/commands"): "commands.issue",
    ("GET", f"{TWIN}/commands/{{command}}"): "commands.read",
    ("POST", f"{TWIN}/commands/{{command}}:approve"): "commands.approve",
    ("POST", f"{TWIN}/commands/{{command}}:cancel"): "commands.cancel",
    ("GET", "/retention"): "retention.read",
    ("PUT", "/retention"): "retention.write",
    ("POST", "/retention:plan"): "retention.read",
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A store for requests that change nothing."""
    seeded = Seeded(tmp_path_factory.mktemp("access") / "seeded")
    yield seeded
    seeded.close()


@pytest.fixture
def seeded(tmp_path, shared, route):
    """A store of its own for a route that changes something."""
    if route[0] == "GET":
        yield shared
        return
    seeded = Seeded(tmp_path / "seeded")
    yield seeded
    seeded.close()


async def say(seeded, role, of, tenant, route, names):
    """The answer of a route below `tenant` to a token of `of`, asked as it should be."""
    right = right_requests(names).get(route, Right())
    path = f"/api/v1/tenants/{tenant}" + route[1].format_map({**names, **right.path})
    content = (
        {"content": right.body}
        if isinstance(right.body, bytes)
        else {"json": right.body}
        if right.body is not None
        else {}
    )
    async with seeded.client(role, of) if role else seeded.stranger() as client:
        return await client.request(route[0], path, params=dict(right.query), headers=dict(right.headers), **content)


def test_every_route_of_the_api_stands_in_the_matrix(plant):
    paths = plant.app().openapi()["paths"]
    below = "/api/v1/tenants/{t}"
    found = {(m.upper(), p.removeprefix(below)) for p, methods in paths.items() if p.startswith(below) for m in methods}
    assert found == set(VERBS)
    assert set(VERBS.values()) == set(POLICY)


@pytest.mark.parametrize(("route", "verb"), VERBS.items(), ids=[" ".join(route) for route in VERBS])
async def test_route_refuses_lower_roles_foreign_tenants_and_strangers(seeded, route, verb):
    seeded.app.state.stream.close()
    names = seeded.names["acme"]
    least = ROLES.index(POLICY[verb])
    foreign = await say(seeded, "admin", "globex", "acme", route, names)
    assert (foreign.status_code, foreign.json()["reason"]) == (403, "FORBIDDEN")
    nowhere = await say(seeded, "admin", "globex", "nowhere", route, names)
    assert nowhere.status_code == 403
    assert (
        nowhere.json()["detail"].partition("is not of")[2].replace("nowhere", "acme")
        == (foreign.json()["detail"].partition("is not of")[2])
    )
    for role in ROLES[:least]:
        refused = await say(seeded, role, "acme", "acme", route, names)
        assert refused.status_code == 403
        assert refused.json()["detail"].startswith(f"{verb} needs the role {POLICY[verb]}")
    if verb != "events.read":  # a stream that is let in does not end
        passed = await say(seeded, ROLES[least], "acme", "acme", route, names)
        assert passed.is_success, passed.text
    stranger = await say(seeded, "", "", "acme", route, names)
    assert (stranger.status_code, stranger.json()["reason"]) == (401, "TOKEN_INVALID")
    assert stranger.headers["www-authenticate"] == "Bearer"


async def test_token_of_all_tenants_reaches_each(plant, api):
    plant.gateway("acme", "north", "gw-1", "tank-1")
    plant.gateway("globex", "south", "gw-1", "pump-1")
    client = api("viewer", "*")
    for tenant, twin in (("acme", "tank-1"), ("globex", "pump-1")):
        page = (await client.get(f"/api/v1/tenants/{tenant}/twins")).json()
        assert [item["twin"] for item in page["items"]] == [twin]


async def test_token_ends_with_its_lifetime_and_at_its_revocation(plant, api):
    plant.gateway("acme", "north", "gw-1")
    token = issue(plant.ledger, plant.clock, name="brief", tenant="acme", role="viewer", ttl_s=60)
    headers = {"Authorization": f"Bearer {token}"}
    path = "/api/v1/tenants/acme/fleet"
    assert (await api().get(path, headers=headers)).status_code == 200
    plant.ledger.revoke_token("brief", plant.clock.wall_ns())
    assert (await api().get(path, headers=headers)).status_code == 401
    token = issue(plant.ledger, plant.clock, name="brief", tenant="acme", role="viewer", ttl_s=60)
    headers = {"Authorization": f"Bearer {token}"}
    assert (await api().get(path, headers=headers)).status_code == 200
    plant.clock.advance(61 * 10**9)
    assert (await api().get(path, headers=headers)).status_code == 401


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "Bearer " + "x" * 300, "Bearer twt_unknown"])
async def test_malformed_or_unknown_token_is_refused(api, header):
    answer = await api().get("/api/v1/tenants/acme/fleet", headers={"Authorization": header})
    assert (answer.status_code, answer.json()["reason"]) == (401, "TOKEN_INVALID")


async def test_cookie_reads_but_changes_only_from_the_consoles_own_pages(plant, api):
    plant.gateway("acme", "north", "gw-1", "tank-1")
    client = api()
    client.cookies.set("hybridtwin_token", plant.token("operator"))
    invite, body = "/api/v1/tenants/acme/gateways:invite", {"site": "north", "gateway": "gw-8"}
    assert (await client.get("/api/v1/tenants/acme/fleet")).status_code == 200
    for headers in ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        refused = await client.post(invite, json=body, headers=headers)
        assert (refused.status_code, refused.json()["reason"]) == (403, "FORBIDDEN"), headers
    assert (await client.post(invite, json=body, headers={"Origin": "http://twins"})).status_code == 201


async def test_console_leads_a_principal_of_all_tenants_to_the_tenant_made_first(plant):
    plant.store.create_tenant("zinc", 1)
    plant.gateway("acme", "north", "gw-1", "tank-1")
    app = plant.app()
    token = plant.token("admin", "*")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://twins") as client:
        answer = await client.post("/login", data={"token": token})
    app.state.threads.close()
    assert answer.headers["location"] == "/t/zinc/fleet"
