"""The short way for what is asked thousands of times a second: one twin, read as it is, and a change of its record.

    connection (a whole request in one piece) ─┐
    ASGI (Lane) ───────────────────────────────┴▶ Short ─▶ answer at once, or when the store has answered

It answers what the route would, byte for byte, without the framework's work for each request; whatever it does not know
at a glance (a cookie, a query, a token that must be looked up, a twin that does not exist) goes the usual way.
"""

from __future__ import annotations

import re
from asyncio import Future
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from starlette.responses import Response

from twincloud.api.auth import bearer
from twincloud.api.bodies import MERGE_PATCH, demand_of, parse_json
from twincloud.api.changes import Changes
from twincloud.api.conditional import condition_of_tags, tag_of
from twincloud.api.held import Held, HeldViews
from twincloud.api.metrics import Metrics
from twincloud.api.principals import Principals
from twincloud.api.problems import problem, problem_of
from twincloud.api.shell import BODY_BYTES_MAX, RAW_HEADERS
from twincloud.api.twin_views import record_view
from twincloud.identity.policy import authorise
from twincloud.identity.tokens import hash_of
from twincloud.storage.contract import Principal, TwinKey
from twincloud.storage.records_twins import TwinChange, TwinRecord
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import TwinError

_NAME = r"([A-Za-z0-9][A-Za-z0-9_-]{0,62})"
_TWIN = re.compile(rf"/api/v1/tenants/{_NAME}/sites/{_NAME}/twins/{_NAME}(/record)?")
ROUTE = "/api/v1/tenants/{t}/sites/{s}/twins/{twin}"
RECORD = ROUTE + "/record"
PLAIN = frozenset({b"host", b"accept-encoding", b"user-agent", b"connection", b"traceparent", b"x-request-id"})
"""Headers that change nothing; with any other one a request goes the usual way."""
OF_A_PATCH = frozenset({b"content-type", b"content-length", b"if-match"})
ACCEPTED = frozenset({b"*/*", b"application/json"})
PATCHES = frozenset({MERGE_PATCH.encode(), b"application/json"})
FIXED = [*RAW_HEADERS, (b"content-type", b"application/json"), (b"cache-control", b"private, no-cache")]

_log = structlog.get_logger("twincloud.api")

Headers = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent; `tag` "" for a refusal, whose headers say all."""

    status: int
    body: bytes
    tag: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Short:
    """Answers the requests of the short way."""

    def __init__(
        self, *, views: HeldViews, changes: Changes, principals: Principals, clock: Clock, metrics: Metrics
    ) -> None:
        self._views, self._changes, self._principals = views, changes, principals
        self._clock, self._metrics = clock, metrics

    def wants(self, method: str, path: str) -> tuple[TwinKey, bool] | None:
        """The twin that is read (False) or whose record is changed (True), None for all other requests."""
        named = _TWIN.fullmatch(path)
        if named is None:
            return None
        tenant, site, twin, record = named.groups()
        if (method, record is None) not in (("GET", True), ("PATCH", False)):
            return None
        return TwinKey(tenant, site, twin), record is not None

    def allowed(self, key: TwinKey, headers: Headers | None, *, change: bool) -> Principal | None:
        """Who asks, when it is known at a glance that they may; of a change also that its body is one of ours."""
        if headers is None or b"authorization" not in headers:
            return None
        if change:
            length = headers.get(b"content-length", b"")
            if headers.get(b"content-type") not in PATCHES:
                return None
            if not (length.isdigit() and len(length) < 9 and int(length) <= BODY_BYTES_MAX):
                return None
        try:
            principal = self._principals.held(hash_of(bearer(headers[b"authorization"].decode("latin-1"))))
            if principal is not None:
                authorise(principal, key.tenant, "twins.write" if change else "twins.read")
        except TwinError:
            return None  # the usual way says why: a refusal, or a ledger that cannot be read
        return principal

    def read(self, key: TwinKey) -> Answer | Future[Held]:
        """A twin; the answer of `held_answer` once the store has answered."""
        held = self._views.now(key)
        return self._views.ask(key) if held is None else self.held_answer(held, self._clock.boot_ns())

    def held_answer(self, held: Held, started_ns: int) -> Answer:
        """The answer to a read."""
        self._count("GET", ROUTE, HTTPStatus.OK, started_ns)
        return Answer(HTTPStatus.OK, held.body, held.tag)

    def change(self, key: TwinKey, headers: Headers, body: bytes, principal: Principal) -> Future[TwinRecord | None]:
        """Makes a change; raises TwinError for one that is none."""
        tags = headers.get(b"if-match")
        demand = demand_of(condition_of_tags(None if tags is None else tags.decode("latin-1")))
        return self._changes.ask(TwinChange(key, parse_json(body), principal.name, demand=demand))

    def record_answer(self, record: TwinRecord, started_ns: int) -> Answer:
        """The answer to a change."""
        self._count("PATCH", RECORD, HTTPStatus.OK, started_ns)
        return Answer(HTTPStatus.OK, record_view(record).model_dump_json().encode(), tag_of(record.revision))

    def refusal(self, error: TwinError, path: str, started_ns: int) -> Answer:
        """The answer to a change that is refused."""
        return self._problem(problem_of(error, path), started_ns)

    def failure(self, error: BaseException | None, path: str, started_ns: int) -> Answer:
        """The answer to a change that broke off for a reason nobody expected, which is logged."""
        _log.error("request failed", method="PATCH", path=path, exc_info=error)
        return self._problem(problem("INTERNAL", "the coordinator failed at this request", path=path), started_ns)

    def boot_ns(self) -> int:
        """The clock durations are measured with."""
        return self._clock.boot_ns()

    def _problem(self, answer: Response, started_ns: int) -> Answer:
        self._count("PATCH", RECORD, answer.status_code, started_ns)
        return Answer(answer.status_code, bytes(answer.body), "", (*answer.raw_headers, *RAW_HEADERS))

    def _count(self, method: str, route: str, status: int, started_ns: int) -> None:
        self._metrics.request(method, route, status, (self._clock.boot_ns() - started_ns) / SECOND_NS)


def plain(headers: list[tuple[bytes, bytes]], *, change: bool) -> dict[bytes, bytes] | None:
    """Headers by their lower-case names, None when there is one twice, or one that may change the answer."""
    found: dict[bytes, bytes] = {}
    for name, text in headers:
        if name in found:
            return None
        known = name in PLAIN or name == b"authorization" or (change and name in OF_A_PATCH)
        if not known and not (name == b"accept" and text in ACCEPTED):
            return None
        found[name] = text
    return found
