"""Who asks, and whether the tenant and the verb are theirs: the one gate in front of every route.

A program sends `Authorization: Bearer TOKEN`. A browser sends the cookie the console set; since a browser sends it by
itself, a request that changes something must also come from a page of this very host.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Path, Request

from twincloud.api.v1.schemas import NAME
from twincloud.identity.policy import authorise
from twincloud.identity.tokens import TOKEN_CHARS_MAX, hash_of
from twincloud.storage.contract import Principal
from twinmodel.errors import DeniedError, InputError

COOKIE = "hybridtwin_token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Access:
    """A request that may go on: who makes it and for which tenant."""

    principal: Principal
    tenant: str


def allow(verb: str) -> Callable[..., Awaitable[Access]]:
    """The dependency of a route: lets through who may do `verb` on the tenant of the path."""

    async def gate(request: Request, t: Annotated[str, Path(pattern=NAME, description="tenant")]) -> Access:
        principal = await identify(request)
        authorise(principal, t, verb)
        _check_query(request)
        return Access(principal, t)

    return gate


async def identify(request: Request) -> Principal:
    """Who makes a request.

    Raises:
        DeniedError: TOKEN_INVALID without a valid token or session, FORBIDDEN for a change from a foreign page.
    """
    principal: Principal = await request.app.state.principals.of(_credential(request))
    return principal


def _check_query(request: Request) -> None:
    """Raises REQUEST_INVALID for a parameter that is given twice: nobody could say which one counts."""
    if b"&" not in request.scope["query_string"]:
        return
    names = [name for name, _ in request.query_params.multi_items()]
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise InputError("REQUEST_INVALID", f"{twice[:60]}: it is given twice", hint="give it once", field=twice[:60])


def bearer(header: str) -> str:
    """The token of an Authorization header; raises TOKEN_INVALID when it holds none."""
    scheme, _, secret = header.partition(" ")
    if scheme.lower() != "bearer" or not 0 < len(secret) <= TOKEN_CHARS_MAX:
        raise DeniedError("TOKEN_INVALID", "the Authorization header is not `Bearer TOKEN`")
    return secret.strip()


def _credential(request: Request) -> bytes:
    header = request.headers.get("authorization", "")
    if header:
        return hash_of(bearer(header))
    cookie = request.cookies.get(COOKIE, "")
    if not 0 < len(cookie) <= TOKEN_CHARS_MAX:
        raise DeniedError("TOKEN_INVALID", "the request carries no token")
    if request.method not in SAFE_METHODS:
        _require_same_origin(request)
    return hash_of(cookie)


def _require_same_origin(request: Request) -> None:
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site")
    if origin is not None:
        passed = urlsplit(origin).netloc == request.headers.get("host")
    else:
        passed = site in ("same-origin", "none")
    if not passed:
        raise DeniedError("FORBIDDEN", "the request comes from another site", hint="use the console's own pages")
