"""Exports: the whole history of a twin as one table, streamed; memory is bounded by a window."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse

from twincloud.api.auth import Access, allow
from twincloud.api.threads import Threads
from twincloud.api.times import parse, to_text
from twincloud.api.v1.paging import Site, TwinName
from twincloud.archive import tables
from twincloud.storage.contract import Store, TwinKey
from twincloud.storage.records_exports import Plan
from twincloud.twins.history import KNOWN_ROLES, ROLES
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError, TwinError, UnreachableError

SPAN_DEFAULT_NS = 86_400 * SECOND_NS
PROPERTIES_MAX = 1_000
KEPT_FROM = "Kept-From"
EXPORTS_MAX = 4
"""Exports at once; each reads as fast as its client takes it."""

_MEDIA = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {media: {"schema": {"type": "string"}} for media in _MEDIA.values()},
        "headers": {
            KEPT_FROM: {
                "description": "of what lies before retention has let go; only where the span begins earlier",
                "schema": {"type": "string"},
            }
        },
    }
}

_log = structlog.get_logger("twincloud.api")

router = APIRouter(prefix="/api/v1/tenants/{t}", tags=["twins"])

Reader = Annotated[Access, Depends(allow("twins.read"))]


@router.get("/sites/{s}/twins/{twin}/export", response_class=StreamingResponse, responses=_ANSWER)
async def export_twin(
    request: Request,
    access: Reader,
    s: Site,
    twin: TwinName,
    format: Annotated[Literal["csv", "parquet"], Query()] = "csv",  # noqa: A002 the parameter's name
    properties: Annotated[str, Query(max_length=20_000, description="comma-separated; all")] = "",
    roles: Annotated[str, Query(max_length=200, description="comma-separated")] = ",".join(ROLES),
    from_: Annotated[str, Query(alias="from", max_length=64, description="RFC 3339; a day before `to`")] = "",
    to: Annotated[str, Query(max_length=64, description="RFC 3339; now")] = "",
) -> StreamingResponse:
    """Every sample of a twin in a span, as CSV or Parquet; a connection that ends early has not told all."""
    state = request.app.state
    to_ns = parse(to, "to") if to else state.clock.wall_ns() + 1
    from_ns = parse(from_, "from") if from_ else to_ns - SPAN_DEFAULT_NS
    if from_ns >= to_ns:
        raise InputError("REQUEST_INVALID", "from: it is not before `to`", field="from")
    wanted = tuple(dict.fromkeys(name.strip() for name in properties.split(",") if name.strip()))
    if len(wanted) > PROPERTIES_MAX:
        raise InputError("LIMIT_EXCEEDED", f"{len(wanted)} properties, at most {PROPERTIES_MAX}", field="properties")
    names = tuple(dict.fromkeys(role.strip() for role in roles.split(",") if role.strip()))
    key = TwinKey(access.tenant, s, twin)
    plan = await state.threads.run(state.store.plan_export, key, wanted, names, from_ns, to_ns)
    running: asyncio.Semaphore = _running(request)
    if running.locked():
        raise UnreachableError("RATE_LIMITED", f"{EXPORTS_MAX} exports run already")
    chunks = (_parquet if format == "parquet" else _csv)(state.store, plan)
    # What is wrong at the beginning is a problem document; what comes later can only end the connection.
    async with running:
        first = await state.threads.run(next, chunks, b"")
    name = f"{twin}.{format}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    since_ns = (await state.threads.run(state.store.kept_of_plan, plan)).raw_ns
    if from_ns < since_ns:
        headers[KEPT_FROM] = to_text(since_ns)
    body = _sent(state.threads, running, first, chunks, name)
    return StreamingResponse(body, media_type=_MEDIA[format], headers=headers)


async def _sent(
    threads: Threads, running: asyncio.Semaphore, first: bytes, chunks: Iterator[bytes], name: str
) -> AsyncIterator[bytes]:
    async with running:
        yield first
        while True:
            try:
                chunk = await threads.run(next, chunks, b"")
            except TwinError as error:
                _log.warning("an export broke off", export=name, reason=error.reason, detail=error.message)
                raise
            if not chunk:
                return
            yield chunk


def _running(request: Request) -> asyncio.Semaphore:
    state = request.app.state
    if getattr(state, "exports", None) is None:
        state.exports = asyncio.Semaphore(EXPORTS_MAX)
    found: asyncio.Semaphore = state.exports
    return found


def _csv(store: Store, plan: Plan) -> Iterator[bytes]:
    columns = sorted(plan.columns, key=lambda column: (column[0], KNOWN_ROLES.index(column[1])))
    yield tables.header(columns, plan.units).encode()
    for window in store.export_windows(plan):
        text = tables.lines(columns, window, to_text)
        if text:
            yield text.encode()


def _parquet(store: Store, plan: Plan) -> Iterator[bytes]:
    from twincloud.archive.parquet import stream  # noqa: PLC0415 pyarrow is heavy

    runs = (run for window in store.export_windows(plan) for column in sorted(window) for run in window[column])
    signals: dict[str, list[str]] = {}
    for (prop, role), by_schema in plan.columns.items():
        for name in by_schema.values():
            signals[name] = [prop, role]
    about = {"tenant": plan.key.tenant, "site": plan.key.site, "twin": plan.key.twin, "signals": signals}
    return (chunk for chunk in stream(runs, about) if chunk)
