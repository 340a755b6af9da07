"""Model packages, their bytes, and the keys whose signature counts."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response, status

from twincloud.api.auth import Access, allow
from twincloud.api.filtering import filter_of
from twincloud.api.v1.paging import (
    PAGE_MAX,
    FilterText,
    PageSize,
    PageToken,
    listing_of,
    seal,
    slice_of,
    unseal,
)
from twincloud.api.v1.schemas import ModelList, ModelView, SignerList, SignerRequest, SignerView
from twincloud.api.views import model_view
from twincloud.storage.selection import MODEL_FIELDS
from twinmodel.errors import InputError

router = APIRouter(prefix="/api/v1/tenants/{t}", tags=["models"])

Reader = Annotated[Access, Depends(allow("models.read"))]
Pusher = Annotated[Access, Depends(allow("models.push"))]
Fetcher = Annotated[Access, Depends(allow("artifacts.read"))]
SignerReader = Annotated[Access, Depends(allow("signers.read"))]
SignerAdder = Annotated[Access, Depends(allow("signers.add"))]

MEDIA_TYPE = "application/octet-stream"
_BODY = {"requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}}
_BYTES: dict[int | str, dict[str, Any]] = {200: {"description": "the package", "content": {MEDIA_TYPE: {}}}}


@router.get("/models")
async def list_models(
    request: Request,
    access: Reader,
    filter_text: FilterText = "",
    page_size: PageSize = 100,
    page_token: PageToken = "",
) -> ModelList:
    """Model versions by name and version."""
    state = request.app.state
    chosen = filter_of(filter_text, MODEL_FIELDS)
    listing = listing_of("models", access.tenant, filter_text)
    token = unseal(listing, page_token)
    page = await state.threads.run(state.store.models, access.tenant, chosen=chosen, limit=page_size, token=token)
    return ModelList(items=[model_view(m) for m in page.items], next_page_token=seal(listing, page.next_token))


@router.post("/models", status_code=status.HTTP_201_CREATED, openapi_extra=_BODY)
async def push_model(request: Request, access: Pusher) -> ModelView:
    """Keeps a signed package; the same bytes twice are no error."""
    state = request.app.state
    blob = await request.body()
    if not blob:
        raise InputError("REQUEST_INVALID", "body: it is empty", hint="send the bytes of a .twin file", field="body")
    now_ns = state.clock.wall_ns()
    model = await state.threads.run(state.store.put_model, access.tenant, blob, now_ns)
    # Twins may have waited for this very model.
    assign = partial(state.store.assign_defaults, gateway=None, now_ns=now_ns)
    for directive in await state.threads.run(assign, access.tenant):
        state.on_directive(directive.gateway)
    return model_view(model)


@router.get("/models/{name}/versions/{version}")
async def get_model(
    request: Request,
    access: Reader,
    name: Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")],
    version: Annotated[str, Path(pattern=r"^[0-9A-Za-z.+-]{1,40}$")],
) -> ModelView:
    """One model version."""
    state = request.app.state
    return model_view(await state.threads.run(state.store.model, access.tenant, f"{name}@{version}"))


@router.get("/artifacts/{digest}", response_class=Response, responses=_BYTES)
async def get_artifact(
    request: Request, access: Fetcher, digest: Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
) -> Response:
    """The bytes of a package by their SHA-256."""
    state = request.app.state
    blob = await state.threads.run(state.store.artifact, access.tenant, digest)
    headers = {"ETag": f'"{digest}"', "Cache-Control": "private, immutable, max-age=31536000"}
    return Response(blob, media_type=MEDIA_TYPE, headers=headers)


@router.get("/signers")
async def list_signers(
    request: Request, access: SignerReader, page_size: PageSize = PAGE_MAX, page_token: PageToken = ""
) -> SignerList:
    """All keys the tenant trusts."""
    state = request.app.state
    signers = await state.threads.run(state.store.signers, access.tenant)
    views = [SignerView(key_id=k, public_key_pem=pem.decode()) for k, pem in signers.items()]
    items, following = slice_of(views, lambda one: (one.key_id,), f"signers:{access.tenant}", page_size, page_token)
    return SignerList(items=items, next_page_token=following)


@router.post("/signers", status_code=status.HTTP_201_CREATED)
async def add_signer(request: Request, access: SignerAdder, wanted: SignerRequest) -> SignerView:
    """Trusts a public key for the tenant's models."""
    state = request.app.state
    pem = wanted.public_key_pem.encode()
    key_id = await state.threads.run(state.store.add_signer, access.tenant, wanted.name, pem, state.clock.wall_ns())
    return SignerView(key_id=key_id, public_key_pem=wanted.public_key_pem)
