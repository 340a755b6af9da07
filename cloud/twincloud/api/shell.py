"""What surrounds every request: body bound, security headers, metrics, and an answer to exceptions nobody expected."""

from __future__ import annotations

import re
from http import HTTPStatus

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twincloud.api.metrics import Metrics
from twincloud.api.problems import problem
from twinmodel.clock import SECOND_NS, Clock

BODY_BYTES_MAX = 64 << 10
CLIENT_GONE = 499
"""Counted for requests whose client hung up before it had said all."""
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
RAW_HEADERS = [(name.encode(), text.encode()) for name, text in HEADERS.items()]
BULK_BYTES_MAX = 4 << 20
_BULK_PATH = re.compile(r"/api/v1/tenants/[^/]+/(?:twins:batch|twinDefinitions|twinGraph:import)")
CONFIGURATION_BYTES_MAX = 1 << 20
"""A configuration has 256 KiB at most, and a character of it up to six bytes as JSON may write it; few need that."""
_CONFIGURATION_PATH = re.compile(r"/api/v1/tenants/[^/]+/sites/[^/]+/gateways/[^/]+/configuration")
_PARAMETER = re.compile(r"\{[^}]+\}")
_MODELS_PATH = re.compile(r"/api/v1/tenants/[^/]+/models/?")
_log = structlog.get_logger("twincloud.api")


class Shell:
    """ASGI middleware; plain functions, since Starlette's own base class buffers event streams."""

    def __init__(self, app: ASGIApp, *, clock: Clock, metrics: Metrics | None = None, model_bytes_max: int = 0) -> None:
        self._app = app
        self._clock = clock
        self._metrics = metrics
        self._model_bytes_max = model_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = scope
        if scope["method"] == "HEAD" and not scope["path"].endswith("/events"):
            scope = {**scope, "method": "GET"}
            send = _headless(send)
        elif scope["method"] == "OPTIONS":
            await _allowed(scope)(scope, receive, send)
            return
        bytes_max = self._bytes_max(scope)
        started_ns = self._clock.boot_ns()
        status = 0

        async def sender(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *_missing(message["headers"])]}
            await send(message)

        try:
            await self._guarded(scope, _bounded(receive, bytes_max), sender, bytes_max)
        except ClientDisconnect:
            status = status or CLIENT_GONE  # nobody is left to be told, and nothing went wrong here
        except Exception:  # noqa: BLE001 the boundary: whatever went wrong, the caller gets a problem, the log one entry
            _log.exception("request failed", method=scope["method"], path=scope["path"])
            if not status:
                answer = problem("INTERNAL", "the coordinator failed at this request", path=scope["path"])
                await answer(scope, receive, sender)
        finally:
            if self._metrics is not None:
                route = getattr(scope.get("route"), "path", "unknown")
                seconds = (self._clock.boot_ns() - started_ns) / SECOND_NS
                self._metrics.request(asked["method"], route, status, seconds)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send, bytes_max: int) -> None:
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > bytes_max:
            await problem("LIMIT_EXCEEDED", _too_large(bytes_max), path=scope["path"])(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _bytes_max(self, scope: Scope) -> int:
        if scope["method"] == "POST" and _BULK_PATH.fullmatch(scope["path"]) is not None:
            return BULK_BYTES_MAX
        if scope["method"] == "PUT" and _CONFIGURATION_PATH.fullmatch(scope["path"]) is not None:
            return CONFIGURATION_BYTES_MAX
        upload = scope["method"] == "POST" and _MODELS_PATH.fullmatch(scope["path"]) is not None
        return max(self._model_bytes_max, BODY_BYTES_MAX) if upload else BODY_BYTES_MAX


def _headless(send: Send) -> Send:
    """Sends what GET would, without the body (RFC 9110, 9.3.2)."""

    async def sender(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return sender


def _allowed(scope: Scope) -> Response:
    """The answer to OPTIONS: methods of the path, to anybody; other origins are granted nothing."""
    found: set[str] = set()
    for path, methods in scope["app"].openapi()["paths"].items():
        if re.fullmatch(_PARAMETER.sub("[^/:]+", path), scope["path"]) is not None:
            found |= {method.upper() for method in methods}
    if not found:
        return problem("NOT_FOUND", "there is no such path", path=scope["path"])
    methods = found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set())
    return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": ", ".join(sorted(methods)), **HEADERS})


def _bounded(receive: Receive, bytes_max: int) -> Receive:
    seen = 0

    async def receiver() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > bytes_max:
            # FastAPI lets only its own exception pass through the reading of a body.
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _too_large(bytes_max))
        return message

    return receiver


def _too_large(bytes_max: int) -> str:
    return f"the body is larger than {bytes_max} bytes"


def _missing(given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    names = {name.lower() for name, _ in given}
    return [(name, text) for name, text in RAW_HEADERS if name not in names]
