"""Who may do what: every role, verb and object of the API, in the own tenant and in a foreign one."""

from __future__ import annotations

import httpx
import pytest

from twincloud.identity.policy import POLICY, ROLES
from twincloud.identity.tokens import issue

# method, path below the tenant, verb, body
ROUTES = [
    ("GET", "/fleet", "fleet.read", None),
    ("GET", "/sites", "fleet.read", None),
    ("GET", "/gateways", "gateways.read", None),
    ("GET", "/sites/north/gateways/gw-1", "gateways.read", None),
    ("GET", "/sites/north/gateways/gw-1/losses", "gateways.read", None),
    ("GET", "/sites/north/gateways/gw-1/samples", "samples.read", None),
    ("GET", "/sites/north/gateways/gw-1/wishes", "gateways.read", None),
    (
        "POST",
        "/sites/north/gateways/gw-1:coarsen",
        "gateways.coarsen",
        {"stream": "bulk", "period_s": 60},
    ),
    ("POST", "/gateways:invite", "gateways.invite", {"site": "north", "gateway": "gw-7"}),
    ("GET", "/twins", "twins.read", None),
    ("GET", "/sites/north/twins/tank-1", "twins.read", None),
    ("GET", "/sites/north/twins/tank-1/history?property=level", "twins.read", None),
    ("PUT", "/sites/north/twins/tank-1/model", "models.assign", {"model": "none@1"}),
    ("GET", "/models", "models.read", None),
    ("POST", "/models", "models.push", b"tanks@1"),
    ("GET", "/models/none/versions/1", "models.read", None),
    ("GET", f"/artifacts/{'0' * 64}", "artifacts.read", None),
    ("GET", "/signers", "signers.read", None),
    ("POST", "/signers", "signers.add", {"name": "desk", "public_key_pem": "x"}),
    ("GET", "/directives", "directives.read", None),
    ("GET", "/deadLetters", "deadletters.read", None),
    ("POST", "/deadLetters/7:requeue", "deadletters.requeue", {}),
    ("GET", "/events", "events.read", None),
]


async def call(client, method, path, body):
    content = {"content": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
    return await client.request(method, path, **content)


def test_every_route_of_the_api_stands_in_the_matrix(plant):
    paths = plant.app().openapi()["paths"]
    found = {(m.upper(), p) for p, methods in paths.items() if "/tenants/" in p for m in methods}
    assert len(found) == len(ROUTES)
    assert {verb for _, _, verb, _ in ROUTES} == set(POLICY)


@pytest.mark.parametrize(("method", "path", "verb", "body"), ROUTES)
async def test_route_refuses_lower_roles_foreign_tenants_and_strangers(plant, api, method, path, verb, body):
    plant.gateway("acme", "north", "gw-1", "tank-1")
    plant.gateway("globex", "north", "gw-1", "tank-1")
    api.app.state.stream.close()
    least = ROLES.index(POLICY[verb])
    for role in ROLES:
        foreign = await call(api(role, "globex"), method, f"/api/v1/tenants/acme{path}", body)
        assert (foreign.status_code, foreign.json()["reason"]) == (403, "FORBIDDEN"), role
        nowhere = await call(api(role, "globex"), method, f"/api/v1/tenants/nowhere{path}", body)
        assert nowhere.status_code == 403
        assert nowhere.json()["detail"].replace("nowhere", "acme")[-20:] == foreign.json()["detail"][-20:]
        if ROLES.index(role) < least:
            refused = await call(api(role), method, f"/api/v1/tenants/acme{path}", body)
            assert refused.status_code == 403
            assert refused.json()["detail"].startswith(f"{verb} needs the role {POLICY[verb]}")
        elif verb != "events.read":  # a stream that is let in does not end
            passed = await call(api(role), method, f"/api/v1/tenants/acme{path}", body)
            assert passed.status_code not in (401, 403, 500), passed.text
    stranger = await call(api(), method, f"/api/v1/tenants/acme{path}", body)
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
