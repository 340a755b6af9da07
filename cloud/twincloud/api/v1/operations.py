"""Operations: long work that was asked for, how far it is, and what came of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import Field

from twincloud.api.auth import Access, allow
from twincloud.api.times import to_text, to_text_or_none
from twincloud.api.v1.paging import PageSize, PageToken, seal, unseal
from twincloud.api.v1.schemas import Shape
from twincloud.storage.records_operations import Operation

State = Literal["queued", "running", "done", "failed", "cancelled"]

router = APIRouter(prefix="/api/v1/tenants/{t}", tags=["operations"])

Reader = Annotated[Access, Depends(allow("operations.read"))]
Canceller = Annotated[Access, Depends(allow("operations.cancel"))]
Number = Annotated[int, Path(ge=1, le=2**63 - 1)]


class OperationView(Shape):
    """One operation; `result` is there once it is `done`, `reason` and `hint` once it has `failed`."""

    id: int
    kind: str
    target: str
    state: State
    progress: float = Field(ge=0, le=1)
    cached: bool = Field(description="the answer, or the work on it, was there before it was asked for")
    request: dict[str, Any]
    result: dict[str, Any] | None
    reason: str
    detail: str
    hint: str
    cancelling: bool
    created_by: str
    created: str
    started: str | None
    ended: str | None


class OperationList(Shape):
    """A page of operations, without their results."""

    items: list[OperationView]
    next_page_token: str


def operation_view(operation: Operation, *, whole: bool = True) -> OperationView:
    """An operation as REST shows it; in a list without its result."""
    return OperationView(
        id=operation.number,
        kind=operation.kind,
        target=operation.target,
        state=operation.state,
        progress=operation.progress,
        cached=operation.cached,
        request=dict(operation.request),
        result=dict(operation.result) if whole and operation.result is not None else None,
        reason=operation.reason,
        detail=operation.detail,
        hint=operation.hint,
        cancelling=operation.cancelling,
        created_by=operation.created_by,
        created=to_text(operation.created_ns),
        started=to_text_or_none(operation.started_ns),
        ended=to_text_or_none(operation.ended_ns),
    )


def accepted(request: Request, response: Response, operation: Operation) -> OperationView:
    """The answer to who asked for long work: where to look, and what is known already."""
    request.app.state.wake_operations()
    response.headers["Location"] = f"/api/v1/tenants/{operation.tenant}/operations/{operation.number}"
    return operation_view(operation)


@router.get("/operations")
async def list_operations(
    request: Request,
    access: Reader,
    kind: Annotated[str, Query(max_length=64)] = "",
    state: Annotated[State | Literal[""], Query()] = "",
    target: Annotated[str, Query(max_length=256)] = "",
    page_size: PageSize = 100,
    page_token: PageToken = "",
) -> OperationList:
    """Operations, newest first."""
    app = request.app.state
    listing = f"operations:{access.tenant}:{kind}:{state}:{target}"
    page = await app.threads.run(
        app.store.operations,
        access.tenant,
        kind=kind,
        state=state,
        target=target,
        limit=page_size,
        token=unseal(listing, page_token),
    )
    views = [operation_view(one, whole=False) for one in page.items]
    return OperationList(items=views, next_page_token=seal(listing, page.next_token))


@router.get("/operations/{operation}")
async def get_operation(request: Request, access: Reader, operation: Number) -> OperationView:
    """One operation with its result."""
    app = request.app.state
    return operation_view(await app.threads.run(app.store.operation, access.tenant, operation))


@router.post("/operations/{operation}:cancel")
async def cancel_operation(request: Request, access: Canceller, operation: Number) -> OperationView:
    """Ends what waits, asks what runs to end, and leaves what has ended as it is."""
    app = request.app.state
    now_ns = app.clock.wall_ns()
    found = await app.threads.run(app.store.cancel_operation, access.tenant, operation, now_ns)
    return operation_view(found)
