"""Directives that went down, and blocks that could not be read on their way up."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request

from twincloud.api.auth import Access, allow
from twincloud.api.v1.paging import PageSize, PageToken, listing_of, seal, unseal
from twincloud.api.v1.schemas import DeadLetterList, DirectiveList, RequeueView
from twincloud.api.views import dead_letter_view, directive_view

router = APIRouter(prefix="/api/v1/tenants/{t}", tags=["directives"])

Reader = Annotated[Access, Depends(allow("directives.read"))]
Auditor = Annotated[Access, Depends(allow("deadletters.read"))]
Mender = Annotated[Access, Depends(allow("deadletters.requeue"))]


@router.get("/directives")
async def list_directives(
    request: Request,
    access: Reader,
    target: Annotated[str, Query(max_length=256)] = "",
    page_size: PageSize = 100,
    page_token: PageToken = "",
) -> DirectiveList:
    """The newest directives first, of one target when it is named."""
    state = request.app.state
    listing = listing_of("directives", access.tenant, target)
    token = unseal(listing, page_token)
    page = await state.threads.run(
        state.store.directive_page, access.tenant, target=target, limit=page_size, token=token
    )
    views = [directive_view(one) for one in page.items]
    return DirectiveList(items=views, next_page_token=seal(listing, page.next_token))


@router.get("/deadLetters")
async def list_dead_letters(
    request: Request, access: Auditor, page_size: PageSize = 100, page_token: PageToken = ""
) -> DeadLetterList:
    """Dead letters, newest first."""
    state = request.app.state
    listing = f"deadLetters:{access.tenant}"
    token = unseal(listing, page_token)
    page = await state.threads.run(state.store.dead_letters, access.tenant, limit=page_size, token=token)
    views = [dead_letter_view(letter) for letter in page.items]
    return DeadLetterList(items=views, next_page_token=seal(listing, page.next_token))


@router.post("/deadLetters/{letter}:requeue")
async def requeue_dead_letter(
    request: Request, access: Mender, letter: Annotated[int, Path(ge=1, le=2**63 - 1)]
) -> RequeueView:
    """Reads a dead letter again, with what this coordinator can read now, and takes it into history."""
    state = request.app.state
    now_ns = state.clock.wall_ns()
    samples = await state.threads.run(state.store.requeue_dead_letter, access.tenant, letter, now_ns)
    return RequeueView(id=letter, samples=samples)
