"""The enrolment listener: an invitation, or the certificate held until now, is traded for a certificate of a new key.

A listener of its own: TLS with the authority's server certificate and no client certificate, since a joining gateway
has none. `GET /ca` gives the root certificate, which the client compares with the fingerprint of its join line before
it sends the token over a second connection that trusts this root alone. `POST /renew` asks for no token but for a
signature of the old key, since a certificate that has expired opens no mutual TLS.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

import structlog
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from twincloud.api import problems
from twincloud.api.addresses import Addresses
from twincloud.api.metrics import Metrics
from twincloud.api.shell import Shell
from twincloud.api.threads import Threads
from twincloud.events.bus import Bus
from twincloud.identity.ca import CSR_BYTES_MAX, Authority, Leaf, check_csr
from twincloud.identity.ledger import CertificateEntry, Ledger
from twincloud.identity.renewal import Renewal, check_renewal
from twincloud.identity.tokens import TOKEN_CHARS_MAX, hash_of
from twincloud.storage.contract import GatewayKey, Store
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import TwinError, UnreachableError

PEER_BURST = 10
PEER_PERIOD_S = 6.0
PEERS_MAX = 10_000
CHAIN_CHARS_MAX = 16_384
SIGNATURE_CHARS_MAX = 256

T = TypeVar("T")

_log = structlog.get_logger("twincloud.enrolment")


class EnrolRequest(BaseModel):
    """The token of the join line and a PKCS#10 request signed by the gateway's new key."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(min_length=1, max_length=TOKEN_CHARS_MAX)
    csr_pem: str = Field(min_length=1, max_length=CSR_BYTES_MAX)


class EnrolView(BaseModel):
    """Everything a gateway needs from now on; `certificate_pem` is its leaf and the issuing certificate."""

    certificate_pem: str
    ca_pem: str
    tenant: str
    site: str
    gateway: str
    sync_address: str
    signers: dict[str, str]


class RenewRequest(BaseModel):
    """The certificate held until now, a request for a new key, and the old key's signature over both and the time."""

    model_config = ConfigDict(extra="forbid")

    certificate_pem: str = Field(min_length=1, max_length=CHAIN_CHARS_MAX)
    csr_pem: str = Field(min_length=1, max_length=CSR_BYTES_MAX)
    t_ns: int = Field(ge=0, lt=1 << 63)
    signature: str = Field(min_length=1, max_length=SIGNATURE_CHARS_MAX)


class RenewView(BaseModel):
    """All that changes by a renewal: the leaf and the issuing certificate."""

    certificate_pem: str


class RateLimit:
    """A token bucket per peer; when too many peers are known, the one seen longest ago is forgotten."""

    def __init__(self, clock: Clock, *, burst: int = PEER_BURST, period_s: float = PEER_PERIOD_S) -> None:
        self._clock = clock
        self._burst = burst
        self._period_ns = round(period_s * SECOND_NS)
        # The boot time at which a peer's bucket is full again.
        self._full_at_ns: OrderedDict[str, int] = OrderedDict()

    def take(self, peer: str) -> None:
        """Counts one request of a peer; raises RATE_LIMITED when its bucket is empty."""
        now_ns = self._clock.boot_ns()
        full_at_ns = max(self._full_at_ns.get(peer, now_ns), now_ns) + self._period_ns
        if full_at_ns - now_ns > self._burst * self._period_ns:
            raise UnreachableError("RATE_LIMITED", f"more than {self._burst} requests in a short time")
        self._full_at_ns[peer] = full_at_ns
        self._full_at_ns.move_to_end(peer)
        while len(self._full_at_ns) > PEERS_MAX:
            self._full_at_ns.popitem(last=False)


def create_enrolment_app(
    store: Store,
    *,
    clock: Clock,
    ca: Authority,
    ledger: Ledger,
    addresses: Addresses,
    threads: Threads,
    bus: Bus,
    metrics: Metrics | None = None,
    leaf_days: float = 30.0,
    renew_grace_days: float = 90.0,
) -> FastAPI:
    """The app of the listener; `app.state.addresses` says which gRPC address gateways are told."""
    app = FastAPI(title="hybridtwin enrolment", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.addresses = addresses
    # Two buckets: a fleet that renews behind one address keeps nobody there from joining.
    joins, renewals = RateLimit(clock), RateLimit(clock)
    problems.install(app)
    app.add_middleware(Shell, clock=clock)

    async def served(limit: RateLimit, outcome: str, peer: str, work: Callable[[], T]) -> T:
        try:
            limit.take(peer)
            done = await threads.run(work)
        except TwinError as refused:
            if metrics is not None:
                metrics.enrolments.labels(refused.reason).inc()
            raise
        if metrics is not None:
            metrics.enrolments.labels(outcome).inc()
        return done

    @app.get("/ca")
    async def authority() -> Response:
        return Response(ca.root_pem, media_type="application/x-pem-file")

    @app.post("/enrol")
    async def enrol(request: Request, wanted: EnrolRequest) -> EnrolView:
        peer = _peer(request)
        gateway, leaf, signers = await served(
            joins, "ISSUED", peer, lambda: _redeem(store, ca, ledger, wanted, now_ns=clock.wall_ns(), days=leaf_days)
        )
        bus.notify_gateway(gateway)
        _log.info("gateway enrolled", uri=leaf.uri, serial=leaf.serial, peer=peer)
        return EnrolView(
            certificate_pem=leaf.chain_pem.decode(),
            ca_pem=ca.root_pem.decode(),
            tenant=gateway.tenant,
            site=gateway.site,
            gateway=gateway.gateway,
            sync_address=app.state.addresses.sync,
            signers={key_id: pem.decode() for key_id, pem in signers.items()},
        )

    @app.post("/renew")
    async def renew(request: Request, wanted: RenewRequest) -> RenewView:
        peer = _peer(request)
        asked = Renewal(wanted.certificate_pem.encode(), wanted.csr_pem.encode(), wanted.t_ns, wanted.signature)

        def work() -> Leaf:
            now_ns = clock.wall_ns()
            gateway = check_renewal(
                asked, ca=ca, ledger=ledger, store=store, now_ns=now_ns, grace_days=renew_grace_days
            )
            return _issue(ca, ledger, gateway, asked.csr_pem, now_ns=now_ns, days=leaf_days)

        leaf = await served(renewals, "RENEWED", peer, work)
        _log.info("certificate renewed", uri=leaf.uri, serial=leaf.serial, peer=peer)
        return RenewView(certificate_pem=leaf.chain_pem.decode())

    return app


def _peer(request: Request) -> str:
    return request.client.host if request.client else ""


def _redeem(
    store: Store, ca: Authority, ledger: Ledger, wanted: EnrolRequest, *, now_ns: int, days: float
) -> tuple[GatewayKey, Leaf, dict[str, bytes]]:
    # A wrong request must not use up the token: it is checked before the token is redeemed.
    check_csr(wanted.csr_pem.encode())
    gateway = store.redeem_invite(hash_of(wanted.token), now_ns)
    leaf = _issue(ca, ledger, gateway, wanted.csr_pem.encode(), now_ns=now_ns, days=days)
    return gateway, leaf, dict(store.signers(gateway.tenant))


def _issue(ca: Authority, ledger: Ledger, gateway: GatewayKey, csr_pem: bytes, *, now_ns: int, days: float) -> Leaf:
    leaf = ca.issue(gateway, csr_pem, days=days)
    ledger.add_certificate(CertificateEntry(leaf.serial, leaf.uri, now_ns, leaf.not_after_ns))
    return leaf
