"""The short way for what is asked thousands of times a second: one twin, read as it is.

It answers what the route would, byte for byte, without the framework's work for each request; whatever it does not know
at a glance (a cookie, a query, a token that must be looked up, a twin that does not exist) goes the usual way.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from twincloud.api.auth import bearer
from twincloud.api.held import Held, HeldViews
from twincloud.api.metrics import Metrics
from twincloud.api.principals import Principals
from twincloud.api.shell import RAW_HEADERS
from twincloud.identity.policy import authorise
from twincloud.identity.tokens import hash_of
from twincloud.storage.contract import TwinKey
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import DeniedError, TwinError

_NAME = r"([A-Za-z0-9][A-Za-z0-9_-]{0,62})"
_TWIN = re.compile(rf"/api/v1/tenants/{_NAME}/sites/{_NAME}/twins/{_NAME}")
ROUTE = "/api/v1/tenants/{t}/sites/{s}/twins/{twin}"
PLAIN = frozenset({
    b"host", b"authorization", b"accept-encoding", b"user-agent", b"connection", b"traceparent", b"x-request-id",
})  # fmt: skip
"""Headers that change nothing; with any other one a request goes the usual way."""
ACCEPTED = frozenset({b"*/*", b"application/json"})
_FIXED = [*RAW_HEADERS, (b"content-type", b"application/json"), (b"cache-control", b"private, no-cache")]


class Lane:
    """ASGI middleware around everything."""

    def __init__(
        self, app: ASGIApp, *, views: HeldViews, principals: Principals, clock: Clock, metrics: Metrics
    ) -> None:
        self._app = app
        self._views, self._principals, self._clock, self._metrics = views, principals, clock, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or passes on."""
        started_ns = self._clock.boot_ns()
        held = await self._held(scope) if scope["type"] == "http" and scope["method"] == "GET" else None
        if held is None:
            await self._app(scope, receive, send)
            return
        headers = [
            *_FIXED, (b"content-length", b"%d" % len(held.body)), (b"etag", held.tag.encode()),
        ]  # fmt: skip
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": held.body})
        seconds = (self._clock.boot_ns() - started_ns) / SECOND_NS
        self._metrics.request("GET", ROUTE, HTTPStatus.OK, seconds)

    async def _held(self, scope: Scope) -> Held | None:
        named = _TWIN.fullmatch(scope["path"])
        token = _token(scope) if named is not None and not scope["query_string"] else None
        if named is None or token is None:
            return None
        principal = self._principals.held(hash_of(token))
        if principal is None:
            return None
        tenant, site, twin = named.groups()
        try:
            authorise(principal, tenant, "twins.read")
            return await self._views.twin(TwinKey(tenant, site, twin))
        except TwinError:
            return None


def _token(scope: Scope) -> str | None:
    """The token of a request whose headers change nothing else of the answer."""
    token = None
    for name, text in scope["headers"]:
        if name == b"authorization":
            if token is not None:
                return None
            try:
                token = bearer(text.decode("latin-1"))
            except DeniedError:
                return None
        elif name not in PLAIN and not (name == b"accept" and text in ACCEPTED):
            return None
    return token
