"""Who may trade an old certificate for a new one, and everybody who may not."""

from __future__ import annotations

import base64

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.cloud.identity.test_ca import csr_of
from tests.cloud.plant import Plant
from twincloud.api.enrolment import PEER_BURST, create_enrolment_app
from twincloud.api.metrics import Metrics
from twincloud.identity.ca import Authority, uri_of
from twincloud.identity.ledger import CertificateEntry
from twincloud.storage.contract import GatewayKey, Hello
from twinmodel.clock import SECOND_NS, ClockQuality
from twinmodel.errors import TwinError
from twinsync.channel import peer_identity
from twinsync.item import Boot
from twinsync.renewal import renewal_bytes

DAY_NS = 86_400 * SECOND_NS
GATEWAY = GatewayKey("acme", "north", "gw-1")


class Bench:
    """A coordinator with one gateway, its certificate of 30 days, and what it sends."""

    def __init__(self, plant, client):
        self.plant, self.client = plant, client
        self.key, self.fresh = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        leaf = plant.ca.issue(GATEWAY, csr_of(self.key))
        plant.ledger.add_certificate(CertificateEntry(leaf.serial, leaf.uri, plant.clock.wall_ns(), leaf.not_after_ns))
        self.serial, self.chain_pem = leaf.serial, leaf.chain_pem

    def body(self, *, key=None, csr: bytes | None = None, chain_pem: bytes | None = None, ahead_s: int = 0) -> dict:
        csr = csr or csr_of(self.fresh)
        chain_pem = chain_pem or self.chain_pem
        t_ns = self.plant.clock.wall_ns() + ahead_s * SECOND_NS
        certificate = x509.load_pem_x509_certificate(chain_pem).public_bytes(Encoding.DER)
        signed = renewal_bytes(certificate, x509.load_pem_x509_csr(csr).public_bytes(Encoding.DER), t_ns)
        signature = (key or self.key).sign(signed, ec.ECDSA(hashes.SHA256()))
        return {
            "certificate_pem": chain_pem.decode(),
            "csr_pem": csr.decode(),
            "t_ns": t_ns,
            "signature": base64.b64encode(signature).decode(),
        }

    async def ask(self, body: dict | None = None) -> httpx.Response:
        return await self.client.post("/renew", json=body or self.body())

    async def refused(self, body: dict | None = None) -> tuple[int, str]:
        known = set(self.plant.ledger.content().certificates)
        answer = await self.ask(body)
        assert set(self.plant.ledger.content().certificates) == known
        assert answer.headers["content-type"] == "application/problem+json"
        return answer.status_code, answer.json()["reason"]


@pytest.fixture
async def bench(tmp_path):
    plant = Plant(tmp_path / "state")
    plant.metrics = Metrics()
    plant.gateway("acme", "north", "gw-1")
    rest = plant.app()
    app = create_enrolment_app(
        plant.store, clock=plant.clock, ca=plant.ca, ledger=plant.ledger, addresses=rest.state.addresses,
        threads=rest.state.threads, bus=plant.bus, metrics=plant.metrics,
    )  # fmt: skip
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://twins") as client:
        yield Bench(plant, client)
    rest.state.threads.close()
    plant.close()


async def test_old_key_gets_a_certificate_of_the_same_identity_for_the_new_key(bench):
    bench.plant.clock.advance(15 * DAY_NS)
    foreign = uri_of(GatewayKey("globex", "south", "gw-9"))
    answer = await bench.ask(bench.body(csr=csr_of(bench.fresh, "gw-9", san=foreign)))
    assert answer.status_code == 200, answer.text
    pem = answer.json()["certificate_pem"].encode()
    identity = peer_identity(pem)
    assert (identity.tenant, identity.site, identity.gateway) == ("acme", "north", "gw-1")
    assert x509.load_pem_x509_certificate(pem).public_key() == bench.fresh.public_key()
    assert identity.until_ns >= bench.plant.clock.wall_ns() + 29 * DAY_NS
    assert bench.plant.ledger.content().certificates[identity.serial].uri == uri_of(GATEWAY)
    assert 'outcome="RENEWED"} 1.0' in bench.plant.metrics.text(bench.plant.store.status()).decode()


async def test_repeated_request_gives_nothing_to_whoever_lacks_the_new_key(bench):
    body = bench.body()
    pems = [(await bench.ask(body)).json()["certificate_pem"].encode() for _ in range(2)]
    keys = [x509.load_pem_x509_certificate(pem).public_key() for pem in pems]
    assert keys == [bench.fresh.public_key()] * 2


async def test_expired_certificate_is_renewed_within_the_grace_and_not_after(bench):
    bench.plant.clock.advance(119 * DAY_NS)
    assert (await bench.ask()).status_code == 200
    bench.plant.clock.advance(1 * DAY_NS + SECOND_NS)
    assert await bench.refused() == (403, "CERT_EXPIRED")


async def test_revoked_certificate_is_refused_also_long_after_its_end(bench):
    plant = bench.plant
    plant.ledger.revoke_certificate(bench.serial, plant.clock.wall_ns())
    assert await bench.refused() == (403, "CERT_INVALID")
    plant.clock.advance(60 * DAY_NS)
    # Each certificate that is issued sweeps the ledger; the revoked one must outlive that.
    plant.ledger.add_certificate(CertificateEntry("abc", "x", plant.clock.wall_ns(), plant.clock.wall_ns() + 1))
    assert await bench.refused() == (403, "CERT_INVALID")
    plant.clock.advance(400 * DAY_NS)
    plant.ledger.add_certificate(CertificateEntry("abd", "x", plant.clock.wall_ns(), plant.clock.wall_ns() + 1))
    assert set(plant.ledger.content().certificates) == {"abd"}


async def test_certificate_of_a_foreign_authority_is_refused(bench, tmp_path):
    foreign = Authority.create(tmp_path / "foreign", bench.plant.clock)
    chain_pem = foreign.issue(GATEWAY, csr_of(bench.key)).chain_pem
    assert await bench.refused(bench.body(chain_pem=chain_pem)) == (403, "CERT_INVALID")


async def test_certificates_of_ours_that_are_no_gateways_are_refused(bench):
    ca = bench.plant.ca
    server_pem, _ = ca.server_pair()
    for pem in (server_pem.read_bytes(), bench.chain_pem.partition(b"-----END CERTIFICATE-----\n")[2], ca.root_pem):
        assert await bench.refused(bench.body(chain_pem=pem)) == (403, "CERT_INVALID")


async def test_signature_that_is_not_of_the_old_key_over_exactly_this_is_refused(bench):
    other = csr_of(ec.generate_private_key(ec.SECP256R1()))
    good = bench.body()
    for wrong in (
        bench.body(key=bench.fresh),
        good | {"csr_pem": other.decode()},
        good | {"t_ns": good["t_ns"] + 1},
        good | {"signature": "not base64!"},
        good | {"signature": base64.b64encode(b"junk").decode()},
        good | {"certificate_pem": "junk"},
    ):
        assert await bench.refused(wrong) == (403, "CERT_INVALID")


@pytest.mark.parametrize("ahead_s", [-601, 601])
async def test_request_of_another_time_is_refused_with_a_word_about_the_clock(bench, ahead_s):
    answer = await bench.ask(bench.body(ahead_s=ahead_s))
    assert (answer.status_code, answer.json()["reason"]) == (403, "CERT_INVALID")
    assert "clock" in answer.json()["hint"]


async def test_gateway_that_is_shut_out_or_unknown_is_refused(bench):
    plant = bench.plant
    plant.store.suspend_gateway(GATEWAY, suspended=True, now_ns=plant.clock.wall_ns())
    assert await bench.refused() == (403, "SUSPENDED")
    plant.store.suspend_gateway(GATEWAY, suspended=False, now_ns=plant.clock.wall_ns())
    boot = Boot(b"another disk".ljust(16), b"", 1, 0, ClockQuality.FREE)
    with pytest.raises(TwinError, match="IDENTITY_FORK"):
        plant.store.open_session(GATEWAY, Hello((boot,), "0", ClockQuality.FREE, (), (), "", 0), plant.clock.wall_ns())
    assert await bench.refused() == (409, "IDENTITY_FORK")
    stranger = plant.ca.issue(GatewayKey("acme", "north", "gw-2"), csr_of(bench.key)).chain_pem
    assert await bench.refused(bench.body(chain_pem=stranger)) == (404, "UNKNOWN_GATEWAY")


async def test_malformed_request_is_refused_before_anything_is_looked_up(bench):
    good = bench.body()
    weak = csr_of(ec.generate_private_key(ec.SECP384R1()))
    for wrong in (
        good | {"csr_pem": "junk"},
        bench.body(csr=weak),
        good | {"t_ns": -1},
        good | {"t_ns": 1 << 63},
        good | {"signature": "A" * 300},
        good | {"certificate_pem": "A" * 17_000},
        good | {"gateway": "gw-2"},
    ):
        assert await bench.refused(wrong) == (422, "REQUEST_INVALID")


async def test_renewals_are_slowed_down_per_peer_without_slowing_joins(bench):
    for _ in range(PEER_BURST):
        await bench.ask()
    assert await bench.refused() == (429, "RATE_LIMITED")
    join = await bench.client.post("/enrol", json={"token": "guess", "csr_pem": csr_of(bench.fresh).decode()})
    assert join.json()["reason"] == "INVITE_INVALID"
