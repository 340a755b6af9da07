"""The short way for what is asked thousands of times a second: one twin, read as it is, and a change of its record.

It answers what the route would, byte for byte, without the framework's work for each request; whatever it does not know
at a glance (a cookie, a query, a token that must be looked up, a twin that does not exist) goes the usual way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twincloud.api.auth import bearer
from twincloud.api.bodies import MERGE_PATCH, demand_of, parse_json
from twincloud.api.changes import Changes
from twincloud.api.conditional import condition_of, tag_of
from twincloud.api.held import HeldViews
from twincloud.api.metrics import Metrics
from twincloud.api.principals import Principals
from twincloud.api.problems import problem_of
from twincloud.api.shell import BODY_BYTES_MAX, RAW_HEADERS
from twincloud.api.twin_views import record_view
from twincloud.identity.policy import authorise
from twincloud.identity.tokens import hash_of
from twincloud.storage.contract import Principal, TwinKey
from twincloud.storage.records_twins import TwinChange
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import DeniedError, TwinError

_NAME = r"([A-Za-z0-9][A-Za-z0-9_-]{0,62})"
_TWIN = re.compile(rf"/api/v1/tenants/{_NAME}/sites/{_NAME}/twins/{_NAME}(/record)?")
ROUTE = "/api/v1/tenants/{t}/sites/{s}/twins/{twin}"
RECORD = ROUTE + "/record"
PLAIN = frozenset({b"host", b"accept-encoding", b"user-agent", b"connection", b"traceparent", b"x-request-id"})
"""Headers that change nothing; with any other one a request goes the usual way."""
OF_A_PATCH = frozenset({b"content-type", b"content-length", b"if-match"})
ACCEPTED = frozenset({b"*/*", b"application/json"})
PATCHES = frozenset({MERGE_PATCH.encode(), b"application/json"})
_FIXED = [*RAW_HEADERS, (b"content-type", b"application/json"), (b"cache-control", b"private, no-cache")]


class Lane:
    """ASGI middleware around everything."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        views: HeldViews,
        changes: Changes,
        principals: Principals,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._views, self._changes, self._principals = views, changes, principals
        self._clock, self._metrics = clock, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or passes on."""
        named = _TWIN.fullmatch(scope["path"]) if scope["type"] == "http" and not scope["query_string"] else None
        if named is not None:
            tenant, site, twin, record = named.groups()
            key = TwinKey(tenant, site, twin)
            if scope["method"] == "GET" and record is None and await self._read(scope, send, key):
                return
            if scope["method"] == "PATCH" and record is not None and await self._patch(scope, receive, send, key):
                return
        await self._app(scope, receive, send)

    async def _read(self, scope: Scope, send: Send, key: TwinKey) -> bool:
        started_ns = self._clock.boot_ns()
        headers = _headers(scope, PLAIN)
        principal = self._principal(headers, key.tenant, "twins.read")
        if principal is None:
            return False
        try:
            held = await self._views.twin(key)
        except TwinError:
            return False
        await _send(send, held.body, held.tag)
        self._metrics.request("GET", ROUTE, HTTPStatus.OK, (self._clock.boot_ns() - started_ns) / SECOND_NS)
        return True

    async def _patch(self, scope: Scope, receive: Receive, send: Send, key: TwinKey) -> bool:
        started_ns = self._clock.boot_ns()
        headers = _headers(scope, PLAIN | OF_A_PATCH)
        principal = self._principal(headers, key.tenant, "twins.write")
        length = headers.get(b"content-length", b"") if headers is not None else b""
        if principal is None or headers is None or headers.get(b"content-type") not in PATCHES:
            return False
        if not (length.isdigit() and len(length) < 9 and int(length) <= BODY_BYTES_MAX):
            return False
        body = await _body(receive)
        if body is None:
            return True  # the client hung up
        status = HTTPStatus.OK
        try:
            demand = demand_of(condition_of(Request(scope)))
            record = await self._changes.make(TwinChange(key, parse_json(body), principal.name, demand=demand))
            assert record is not None
            await _send(send, record_view(record).model_dump_json().encode(), tag_of(record.revision))
        except TwinError as error:
            answer = problem_of(error, scope["path"])
            status = HTTPStatus(answer.status_code)
            await _refuse(scope, receive, send, answer)
        self._metrics.request("PATCH", RECORD, status, (self._clock.boot_ns() - started_ns) / SECOND_NS)
        return True

    def _principal(self, headers: Mapping[bytes, bytes] | None, tenant: str, verb: str) -> Principal | None:
        """Who may do what is asked, when that is known at a glance."""
        if headers is None or b"authorization" not in headers:
            return None
        try:
            principal = self._principals.held(hash_of(bearer(headers[b"authorization"].decode("latin-1"))))
            if principal is not None:
                authorise(principal, tenant, verb)
        except DeniedError:
            return None
        return principal


def _headers(scope: Scope, plain: frozenset[bytes]) -> dict[bytes, bytes] | None:
    """The headers, None when there is one twice, or one that may change the answer."""
    found: dict[bytes, bytes] = {}
    for name, text in scope["headers"]:
        if name in found:
            return None
        if name not in plain and name != b"authorization" and not (name == b"accept" and text in ACCEPTED):
            return None
        found[name] = text
    return found


async def _body(receive: Receive) -> bytes | None:
    parts = []
    while True:
        message: Message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _send(send: Send, body: bytes, tag: str) -> None:
    headers = [*_FIXED, (b"content-length", b"%d" % len(body)), (b"etag", tag.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _refuse(scope: Scope, receive: Receive, send: Send, answer: Response) -> None:
    answer.raw_headers = [*answer.raw_headers, *RAW_HEADERS]
    await answer(scope, receive, send)
