"""Server-sent events of a tenant: `twin`, `gateway` and `directive`, each with the current view."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.types import Receive, Scope, Send

from twincloud.api.auth import Access, allow, identify
from twincloud.api.v1.paging import SiteFilter
from twincloud.identity.policy import authorise

router = APIRouter(prefix="/api/v1/tenants/{t}", tags=["events"])

Reader = Annotated[Access, Depends(allow("events.read"))]
_OK: dict[int | str, dict[str, Any]] = {
    200: {"description": "an endless stream of events", "content": {"text/event-stream": {}}}
}


class EventStream(Response):
    """An endless answer that ends when the stream does or when the client hangs up, whichever is first."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._events = events
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 ASGI's signature
        """Sends events until either side ends."""
        async with aclosing(self._events), asyncio.TaskGroup() as group:  # type: ignore[type-var] # it is a generator
            sending = group.create_task(self._send(send), name="events: send")
            hang_up = group.create_task(_hung_up(receive), name="events: hang-up")
            await asyncio.wait({sending, hang_up}, return_when=asyncio.FIRST_COMPLETED)
            sending.cancel()
            hang_up.cancel()

    async def _send(self, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": self.raw_headers})
            async for event in self._events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except OSError:
            return  # the client is gone


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@router.get("/events", response_class=Response, responses=_OK)
async def watch_events(
    request: Request,
    access: Reader,
    site: SiteFilter = "",
    twin: SiteFilter = "",
    after: Annotated[int | None, Query(ge=0, le=2**63 - 1, description="as Last-Event-ID")] = None,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> Response:
    """Changes as they are committed; with Last-Event-ID first the current views of all that changed since."""
    known = int(last_event_id) if last_event_id is not None and last_event_id.isdecimal() else after

    async def still_allowed() -> None:
        authorise(await identify(request), access.tenant, "events.read")

    events = await request.app.state.stream.watch(
        access.tenant,
        site=site,
        twin=twin,
        after=known,
        holder=access.principal.name,
        still_allowed=still_allowed,
    )
    return EventStream(events)
