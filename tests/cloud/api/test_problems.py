"""Errors of every kind become problem documents, and every answer carries the security headers."""

from __future__ import annotations

import structlog

from twinmodel.errors import REASONS


async def test_unknown_things_are_problems_with_reason_and_hint(plant, api):
    plant.gateway("acme", "north", "gw-1", "tank-1")
    client = api("operator")
    for path, reason in (
        ("/sites/north/twins/tank-9", "UNKNOWN_TWIN"),
        ("/sites/north/gateways/gw-9", "UNKNOWN_GATEWAY"),
        ("/models/none/versions/1.0", "UNKNOWN_MODEL"),
        (f"/artifacts/{'0' * 64}", "NOT_FOUND"),
        ("/nothing", "NOT_FOUND"),
    ):
        answer = await client.get(f"/api/v1/tenants/acme{path}")
        problem = answer.json()
        assert answer.status_code == problem["status"] == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["reason"] == reason
        assert problem["instance"] == f"/api/v1/tenants/acme{path}"
        assert problem["hint"]


async def test_wrong_request_names_the_field(plant, api):
    plant.gateway("acme", "north", "gw-1", "tank-1")
    client = api("operator")
    for body, field in (
        ({"site": "north"}, "gateway"),
        ({"site": "no/slash", "gateway": "a"}, "site"),
        ({"site": "a", "gateway": "b", "more": 1}, "more"),
        ({"site": "a", "gateway": "b", "ttl_s": 1}, "ttl_s"),
    ):
        answer = await client.post("/api/v1/tenants/acme/gateways:invite", json=body)
        assert (answer.status_code, answer.json()["reason"]) == (422, "REQUEST_INVALID")
        assert answer.json()["detail"].startswith(f"{field}: ")
    broken = await client.post(
        "/api/v1/tenants/acme/gateways:invite", content=b"{", headers={"content-type": "application/json"}
    )
    assert broken.status_code == 422
    no_name = (await client.get("/api/v1/tenants/a%20b/twins")).json()["detail"]
    assert no_name.startswith("tenant: a name has letters")
    wrong_page = await client.get("/api/v1/tenants/acme/twins?page_size=0")
    assert wrong_page.json()["detail"].startswith("page_size: ")


async def test_body_beyond_its_bound_is_refused_declared_or_not(plant, api):
    plant.gateway("acme", "north", "gw-1")
    client = api("admin")

    async def endless():
        for _ in range(100):
            yield b"x" * 4096

    for content in (b"x" * 70_000, endless()):
        answer = await client.post(
            "/api/v1/tenants/acme/gateways:invite", content=content, headers={"content-type": "application/json"}
        )
        assert (answer.status_code, answer.json()["reason"]) == (413, "LIMIT_EXCEEDED")
    model = await client.post("/api/v1/tenants/acme/models", content=b"big@" + b"1" * 200_000)
    assert model.status_code != 413


async def test_unexpected_exception_is_logged_once_and_tells_nothing(plant, api, monkeypatch):
    def explode(*_):
        raise RuntimeError("secret detail")

    client = api("viewer")
    monkeypatch.setattr(type(plant.store), "sites", explode)
    with structlog.testing.capture_logs() as lines:
        answer = await client.get("/api/v1/tenants/acme/fleet")
    assert (answer.status_code, answer.json()["reason"]) == (500, "INTERNAL")
    assert "secret" not in answer.text
    assert [line["event"] for line in lines] == ["request failed"]


async def test_every_answer_has_the_security_headers(api):
    client = api()
    for path in ("/healthz", "/api/v1/tenants/acme/fleet", "/nothing"):
        headers = (await client.get(path)).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


async def test_documentation_that_would_load_foreign_scripts_is_off(api):
    client = api()
    assert (await client.get("/docs")).status_code == 404
    assert (await client.get("/redoc")).status_code == 404
    assert (await client.get("/openapi.json")).json()["openapi"].startswith("3.")


def test_reasons_of_http_are_in_the_registry():
    from twincloud.api import problems

    assert set(problems._OF_STATUS.values()) <= set(REASONS)


async def test_methods_nobody_knows_are_counted_as_one(plant, api):
    client = api()
    for method in ("BREW", "WHEN", "get"):
        assert (await client.request(method, "/healthz")).status_code in (200, 405)
    counted = [line for line in (await client.get("/metrics")).text.splitlines() if "http_requests_total" in line]
    assert any('method="other"' in line for line in counted)
    assert not any("BREW" in line or "WHEN" in line for line in counted)


async def test_numbers_and_times_beyond_64_bits_are_wrong_requests_not_failures(plant, api):
    plant.gateway("acme", "north", "gw-1", "tank-1")
    client = api("operator")
    history = "/api/v1/tenants/acme/sites/north/twins/tank-1/history?property=level"
    for span in (
        "&from=1970-01-01T00:00:00Z&to=9999-12-31T00:00:00Z",
        "&from=0001-01-01T00:00:00Z",
        "&to=9999999999999999999",
        "&from=-9223372036854775809",
    ):
        answer = await client.get(history + span)
        assert (answer.status_code, answer.json()["reason"]) == (422, "REQUEST_INVALID"), span
    assert (await client.get(f"{history}&from=1700-01-01T00:00:00Z&to=2250-01-01T00:00:00Z")).status_code == 200
    samples = "/api/v1/tenants/acme/sites/north/gateways/gw-1/samples?after="
    for after in ("9" * 20, "9223372036854775808", "\u0663"):
        assert (await client.get(samples + after)).status_code == 422
    assert (await client.get(samples + "9223372036854775807")).status_code == 200
