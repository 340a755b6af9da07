"""Signing in to the console: a token is traded once for a cookie that scripts cannot read."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response, status
from pydantic import Field

from twincloud.api.auth import identify, principal_of, require_same_origin
from twincloud.api.v1.schemas import Shape
from twincloud.identity.sessions import COOKIE, LIFETIME_S
from twincloud.identity.tokens import TOKEN_CHARS_MAX, hash_of

router = APIRouter(prefix="/api/v1/session", tags=["session"])


class SessionRequest(Shape):
    """The API token to sign in with."""

    token: str = Field(min_length=1, max_length=TOKEN_CHARS_MAX)


class SessionView(Shape):
    """Who is signed in; tenant `*` means all."""

    name: str
    tenant: str
    role: str


@router.post("")
async def sign_in(request: Request, response: Response, wanted: SessionRequest) -> SessionView:
    """Opens a session; the cookie lasts twelve hours or until the token ends."""
    if "origin" in request.headers:
        require_same_origin(request)
    token_hash = hash_of(wanted.token.strip())
    principal = await principal_of(request, token_hash)
    response.set_cookie(
        COOKIE,
        request.app.state.sessions.open(token_hash),
        max_age=LIFETIME_S,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return SessionView(name=principal.name, tenant=principal.tenant, role=principal.role)


@router.get("")
async def who(request: Request) -> SessionView:
    """Who is signed in."""
    principal = await identify(request)
    return SessionView(name=principal.name, tenant=principal.tenant, role=principal.role)


@router.delete("", status_code=status.HTTP_204_NO_CONTENT)
async def sign_out(request: Request, response: Response) -> None:
    """Ends the session; without one it is no error."""
    request.app.state.sessions.close(request.cookies.get(COOKIE, ""))
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
