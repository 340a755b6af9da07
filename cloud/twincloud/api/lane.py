"""The short way for requests that come through the framework's server: ASGI middleware around everything."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twincloud.api.short import FIXED, Answer, Headers, Short, plain
from twincloud.storage.contract import Principal, TwinKey
from twinmodel.errors import TwinError


class Lane:
    """Answers what `Short` can, and passes on everything else."""

    def __init__(self, app: ASGIApp, *, short: Short) -> None:
        self._app = app
        self._short = short

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or passes on."""
        if scope["type"] == "http" and not scope["query_string"]:
            wanted = self._short.wants(scope["method"], scope["path"])
            if wanted is not None and await self._answered(scope, receive, send, *wanted):
                return
        await self._app(scope, receive, send)

    async def _answered(self, scope: Scope, receive: Receive, send: Send, key: TwinKey, change: bool) -> bool:  # noqa: FBT001 - of `wants`
        started_ns = self._short.boot_ns()
        headers = plain(scope["headers"], change=change)
        principal = self._short.allowed(key, headers, change=change)
        if principal is None or headers is None:
            return False
        if change:
            body = await _body(receive)
            if body is not None:  # else the client hung up
                await _send(send, await self._change(key, headers, body, principal, scope["path"], started_ns))
            return True
        try:
            found = self._short.read(key)
            answer = found if isinstance(found, Answer) else self._short.held_answer(await found, started_ns)
        except Exception:  # noqa: BLE001 whatever it is, the usual way meets it again and tells it
            return False
        await _send(send, answer)
        return True

    async def _change(
        self, key: TwinKey, headers: Headers, body: bytes, principal: Principal, path: str, started_ns: int
    ) -> Answer:
        try:
            record = await self._short.change(key, headers, body, principal)
        except TwinError as error:
            return self._short.refusal(error, path, started_ns)
        except Exception as error:  # noqa: BLE001 the boundary: the caller gets a problem, the log one entry
            return self._short.failure(error, path, started_ns)
        assert record is not None
        return self._short.record_answer(record, started_ns)


async def _body(receive: Receive) -> bytes | None:
    parts = []
    while True:
        message: Message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _send(send: Send, answer: Answer) -> None:
    headers = list(answer.headers)
    if answer.tag:
        headers = [*FIXED, (b"content-length", b"%d" % len(answer.body)), (b"etag", answer.tag.encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
