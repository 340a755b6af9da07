"""The enrolment app without a network: one-time tokens, their end, bounds and rates."""

from __future__ import annotations

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.cloud.identity.test_ca import csr_of
from twincloud.api.enrolment import PEER_BURST, RateLimit, create_enrolment_app
from twincloud.identity.tokens import hash_of
from twincloud.storage.contract import GatewayKey
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.errors import TwinError
from twinsync.channel import peer_identity


@pytest.fixture
async def enrolment(plant):
    from twincloud.api.metrics import Metrics

    rest = plant.app()
    plant.metrics = Metrics()
    app = create_enrolment_app(
        plant.store, clock=plant.clock, ca=plant.ca, ledger=plant.ledger, addresses=rest.state.addresses,
        threads=rest.state.threads, bus=plant.bus, metrics=plant.metrics,
    )  # fmt: skip
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://twins") as client:
        yield client
    rest.state.threads.close()


def invite(plant, token: str, ttl_s: int = 60) -> str:
    now_ns = plant.clock.wall_ns()
    plant.store.create_tenant("acme", now_ns)
    key = GatewayKey("acme", "north", "gw-1")
    plant.store.create_invite(key, hash_of(token), now_ns, now_ns + ttl_s * SECOND_NS)
    return token


def request(token: str, csr: bytes | None = None) -> dict[str, str]:
    csr = csr or csr_of(ec.generate_private_key(ec.SECP256R1()))
    return {"token": token, "csr_pem": csr.decode()}


async def test_token_enrols_once_and_the_certificate_is_in_the_ledger(plant, enrolment):
    body = request(invite(plant, "one"))
    answer = await enrolment.post("/enrol", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["sync_address"] == "127.0.0.1:8421"
    assert answer.json()["ca_pem"].encode() == plant.ca.root_pem == (await enrolment.get("/ca")).content
    identity = peer_identity(answer.json()["certificate_pem"].encode())
    assert identity.gateway == "gw-1"
    assert identity.serial in plant.ledger.content().certificates
    again = await enrolment.post("/enrol", json=body)
    assert (again.status_code, again.json()["reason"]) == (403, "INVITE_INVALID")
    text = plant.metrics.text(plant.store.status()).decode()
    assert 'twincloud_enrolments_total{outcome="ISSUED"} 1.0' in text
    assert 'twincloud_enrolments_total{outcome="INVITE_INVALID"} 1.0' in text


async def test_token_after_its_time_is_refused(plant, enrolment):
    body = request(invite(plant, "late", ttl_s=60))
    plant.clock.advance(60 * SECOND_NS)
    answer = await enrolment.post("/enrol", json=body)
    assert (answer.status_code, answer.json()["reason"]) == (403, "INVITE_INVALID")


async def test_wrong_request_does_not_use_up_the_token(plant, enrolment):
    token = invite(plant, "kept")
    for body in (
        request(token, b"junk"),
        {"token": token},
        request(token, b"x" * 9_000),
        {**request(token), "site": "s"},
    ):
        answer = await enrolment.post("/enrol", json=body)
        assert (answer.status_code, answer.json()["reason"]) == (422, "REQUEST_INVALID")
    assert (await enrolment.post("/enrol", content=b"x" * 70_000)).status_code == 413
    assert (await enrolment.post("/enrol", json=request(token))).status_code == 200


async def test_guessing_is_slowed_down_per_peer(plant, enrolment):
    for _ in range(PEER_BURST):
        assert (await enrolment.post("/enrol", json=request("guess"))).status_code == 403
    refused = await enrolment.post("/enrol", json=request("guess"))
    assert (refused.status_code, refused.json()["reason"]) == (429, "RATE_LIMITED")
    assert refused.headers["retry-after"] == "5"
    plant.clock.advance(6 * SECOND_NS)
    assert (await enrolment.post("/enrol", json=request("guess"))).status_code == 403


def test_rate_limit_forgets_the_oldest_peer_beyond_its_bound(monkeypatch):
    monkeypatch.setattr("twincloud.api.enrolment.PEERS_MAX", 2)
    limit = RateLimit(ManualClock(), burst=1, period_s=10)
    for peer in ("a", "b", "c"):
        limit.take(peer)
    limit.take("a")
    with pytest.raises(TwinError, match="RATE_LIMITED"):
        limit.take("c")
