"""Idempotency-Key: a change that is sent again, because its answer never came, is made once and answered alike.

A key belongs to tenant, token, method and path, and is kept for a day. What is sent again under it gets the kept answer
with `Idempotency-Replayed: true`; the same key with another body or query is KEY_REUSED. While the first one is carried
out, on whichever replica, the second gets IN_PROGRESS with Retry-After.

An answer is kept before it is sent. Each write transaction of the request marks the key (`storage.stamps`), so that
after a crash a change that was not committed is made by the next try, and one that was is never made twice: its answer
is gone, and ANSWER_LOST says so. Refusals (4xx, 5xx) that changed nothing are not kept: the key can be used again.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twincloud.api.auth import identify
from twincloud.api.problems import problem, problem_of
from twincloud.identity.policy import ALL_TENANTS
from twincloud.storage.records_requests import Answer, Claim
from twincloud.storage.requests import BODY_BYTES_MAX
from twincloud.storage.stamps import under
from twinmodel.errors import InputError, TwinError

HEADER = "Idempotency-Key"
REPLAYED = (b"idempotency-replayed", b"true")
METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_KEPT_HEADERS = frozenset({b"content-type", b"etag", b"location", b"cache-control"})
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_TENANT = re.compile(r"/api/v1/tenants/([A-Za-z0-9][A-Za-z0-9_-]{0,62})/")
_OWNER_BYTES = 16
_log = structlog.get_logger("twincloud.api")


class Idempotency:
    """ASGI middleware around the routes; requests without the header pass untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        keys = _keys(scope)
        tenant = _TENANT.match(scope["path"]) if keys else None
        if tenant is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            key = _checked(keys)
            principal = await identify(request)
            if principal.tenant not in (ALL_TENANTS, tenant[1]):
                await self._app(scope, receive, send)  # the route says no; a stranger fills no table
                return
            body = await _body(receive)
        except TwinError as error:
            await problem_of(error, scope["path"])(scope, receive, send)
            return
        except HTTPException as error:
            await problem("LIMIT_EXCEEDED", error.detail, path=scope["path"])(scope, receive, send)
            return
        if body is None:
            return  # the client hung up before it had said what it wants
        claim = Claim(tenant[1], _digest(key, principal.name, scope), secrets.token_bytes(_OWNER_BYTES))
        try:
            kept = await scope["app"].state.threads.run(
                scope["app"].state.store.claim_request, claim, _fingerprint(scope, body), _now_ns(scope)
            )
        except TwinError as error:
            await problem_of(error, scope["path"])(scope, receive, send)
            return
        if kept is None:
            await self._carry_out(scope, _Replay(body, receive), send, claim)
        else:
            await _replayed(kept)(scope, receive, send)

    async def _carry_out(self, scope: Scope, receive: Receive, send: Send, claim: Claim) -> None:
        state = scope["app"].state
        held = _Held(send)
        try:
            with under([claim]):
                await self._app(scope, receive, held)
        except Exception:
            await _settle(state.threads.run(state.store.release_request, claim))
            raise
        if HTTPStatus.OK <= held.status < HTTPStatus.BAD_REQUEST:
            answer = Answer(held.status, tuple(held.headers), bytes(held.body))
            await _settle(state.threads.run(state.store.keep_answer, claim, answer, _now_ns(scope)))
        else:
            await _settle(state.threads.run(state.store.release_request, claim))
        await held.let_go()


async def _settle(kept: Awaitable[None]) -> None:
    """Whatever the store says, the client gets the answer of what was done: the key then says that it is lost."""
    try:
        await kept
    except TwinError as error:
        _log.warning("answer under an idempotency key not kept", reason=error.reason, detail=error.message)


@dataclass(slots=True)
class _Held:
    """An answer that waits until it is kept; one that grows too large to be kept goes on its way at once."""

    send: Send
    messages: list[Message] = field(default_factory=list)
    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = [(n.lower(), text) for n, text in message["headers"] if n.lower() in _KEPT_HEADERS]
        elif len(self.body) <= BODY_BYTES_MAX:
            self.body += message.get("body", b"")
        self.messages.append(message)
        if len(self.body) > BODY_BYTES_MAX:
            await self.let_go()

    async def let_go(self) -> None:
        """Sends what waits."""
        waiting, self.messages = self.messages, []
        for message in waiting:
            await self.send(message)


class _Replay:
    """Gives the route the body that was read already."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._first: Message | None = {"type": "http.request", "body": body, "more_body": False}
        self._receive = receive

    async def __call__(self) -> Message:
        first, self._first = self._first, None
        return first if first is not None else await self._receive()


def _keys(scope: Scope) -> Sequence[str]:
    if scope["type"] != "http" or scope["method"] not in METHODS:
        return ()
    return Headers(scope=scope).getlist(HEADER)


def _checked(keys: Sequence[str]) -> str:
    key = keys[0].strip()
    if len(key) > 1 and key[0] == key[-1] == '"':  # as the IETF's draft writes it
        key = key[1:-1]
    if len(keys) > 1 or _KEY.fullmatch(key) is None:
        raise InputError(
            "REQUEST_INVALID",
            f"{HEADER}: it is not one key of 1 to 255 visible ASCII characters",
            hint="send a random UUID, the same for each try of one request",
            field=HEADER,
        )
    return key


async def _body(receive: Receive) -> bytes | None:
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _digest(key: str, principal: str, scope: Scope) -> bytes:
    return hashlib.sha256("\n".join((key, principal, scope["method"], scope["path"])).encode()).digest()


def _fingerprint(scope: Scope, body: bytes) -> bytes:
    kind = Headers(scope=scope).get("content-type", "").encode("latin-1")
    return hashlib.sha256(b"\n".join((scope["query_string"], kind, body))).digest()


def _now_ns(scope: Scope) -> int:
    now_ns: int = scope["app"].state.clock.wall_ns()
    return now_ns


def _replayed(kept: Answer) -> Response:
    answer = Response(kept.body, kept.status)
    answer.raw_headers = [*((n, t) for n, t in answer.raw_headers if n == b"content-length"), *kept.headers, REPLAYED]
    return answer


def openapi_parameter() -> dict[str, Any]:
    """The header as the OpenAPI document tells of it, for every route that changes something."""
    return {
        "name": HEADER,
        "in": "header",
        "required": False,
        "description": "one for each change; sent again with it, the change is made once and answered alike",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$", "minLength": 1, "maxLength": 255},
    }
