"""The enrolment listener: a gateway that holds an invitation trades its signing request for a certificate.

A listener of its own: TLS with the authority's server certificate and no client certificate, since a joining gateway
has none. `GET /ca` gives the root certificate, which the client compares with the fingerprint of its join line before
it sends the token over a second connection that trusts this root alone.
"""

from __future__ import annotations

from collections import OrderedDict

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
from twincloud.identity.tokens import TOKEN_CHARS_MAX, hash_of
from twincloud.storage.contract import GatewayKey, Store
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import TwinError, UnreachableError

PEER_BURST = 10
PEER_PERIOD_S = 6.0
PEERS_MAX = 10_000

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
            raise UnreachableError("RATE_LIMITED", f"more than {self._burst} enrolments in a short time")
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
) -> FastAPI:
    """The app of the listener; `app.state.addresses` says which gRPC address gateways are told."""
    app = FastAPI(title="hybridtwin enrolment", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.addresses = addresses
    limit = RateLimit(clock)
    problems.install(app)
    app.add_middleware(Shell, clock=clock)

    @app.get("/ca")
    async def authority() -> Response:
        return Response(ca.root_pem, media_type="application/x-pem-file")

    @app.post("/enrol")
    async def enrol(request: Request, wanted: EnrolRequest) -> EnrolView:
        peer = request.client.host if request.client else ""
        try:
            limit.take(peer)
            # A wrong request must not use up the token: it is checked before the token is redeemed.
            check_csr(wanted.csr_pem.encode())
            gateway, leaf, signers = await threads.run(
                _redeem, store, ca, ledger, wanted, now_ns=clock.wall_ns(), days=leaf_days
            )
        except TwinError as refused:
            if metrics is not None:
                metrics.enrolments.labels(refused.reason).inc()
            raise
        if metrics is not None:
            metrics.enrolments.labels("ISSUED").inc()
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

    return app


def _redeem(
    store: Store, ca: Authority, ledger: Ledger, wanted: EnrolRequest, *, now_ns: int, days: float
) -> tuple[GatewayKey, Leaf, dict[str, bytes]]:
    gateway = store.redeem_invite(hash_of(wanted.token), now_ns)
    leaf = ca.issue(gateway, wanted.csr_pem.encode(), days=days)
    ledger.add_certificate(CertificateEntry(leaf.serial, leaf.uri, now_ns, leaf.not_after_ns))
    return gateway, leaf, dict(store.signers(gateway.tenant))
