"""Is it alive, is it ready, what does it count: the three questions machines ask, without a token."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from twincloud.api.metrics import CONTENT_TYPE
from twinmodel.errors import UnreachableError

READY_TIMEOUT_S = 2.0

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="The process answers")
async def healthz(request: Request) -> dict[str, str]:
    """Alive: the event loop turns."""
    # Background work that fails is named, and makes nobody restart us: a restart would not mend it.
    upkeep = getattr(request.app.state, "upkeep", None)
    failing = [f"{fare.name}: {fare.reason}: {fare.detail}" for fare in (upkeep.failing if upkeep else ())]
    return {"status": "ok"} | ({"upkeep": "; ".join(failing)} if failing else {})


@router.get("/readyz", summary="The store answers, so that requests can be served")
async def readyz(request: Request) -> dict[str, str]:
    """Ready: the store answered within two seconds and the event streams run."""
    state = request.app.state
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            status = await state.threads.run(state.store.status)
    except TimeoutError:
        raise UnreachableError("NOT_READY", f"the store did not answer within {READY_TIMEOUT_S:g} s") from None
    if not state.stream.alive:
        raise UnreachableError("NOT_READY", "the event streams do not run")
    return {"status": "ok", "engine": status.engine, "schema": status.schema}


@router.get("/metrics", summary="Prometheus metrics")
async def metrics(request: Request) -> Response:
    """The exposition of `twincloud_*`."""
    state = request.app.state
    status = await state.threads.run(state.store.status)
    return Response(state.metrics.text(status), media_type=CONTENT_TYPE)
