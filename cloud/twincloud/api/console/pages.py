"""Routes of the console: sign in and out, the fleet page, the twin page, static files.

A page holds no values: its script reads them from the REST API with the cookie set here, so that the console can do
exactly what any other client can. Mounted at the root after the API: `app.include_router(console_router())`; of
`app.state` it uses `threads`, `principal_of(token) -> Principal` and what `api.auth.identify` uses.
"""

from __future__ import annotations

import functools
import re
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from twincloud.api.auth import COOKIE, identify
from twincloud.api.console.assets import Assets, load_assets
from twincloud.api.v1.schemas import NAME
from twincloud.identity.policy import authorise
from twincloud.identity.tokens import TOKEN_CHARS_MAX
from twincloud.storage.contract import Principal
from twinmodel.errors import DeniedError

DEFAULT_TENANT = "default"
COOKIE_AGE_S = 30 * 86_400
"""A wall display stays signed in; the token's own end and its revocation count all the same."""

_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    # `no-referrer` would make browsers send `Origin: null` with our own forms
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@functools.lru_cache(maxsize=8)
def console_router(*, default_tenant: str = DEFAULT_TENANT) -> APIRouter:
    """Makes the routes of the console; apps of one process share them.

    Args:
        default_tenant: where a principal of all tenants (`*`) arrives first.
    """
    router = APIRouter(include_in_schema=False)
    pages = _Pages(load_assets(), default_tenant)
    router.add_api_route("/", pages.root)
    router.add_api_route("/login", pages.login)
    router.add_api_route("/login", pages.submit, methods=["POST"])
    router.add_api_route("/logout", pages.logout, methods=["GET", "POST"])
    router.add_api_route("/t/{tenant}", pages.tenant)
    router.add_api_route("/t/{tenant}/fleet", pages.fleet)
    router.add_api_route("/t/{tenant}/alarms", pages.alarms)
    router.add_api_route("/t/{tenant}/sites/{site}/twins/{twin}", pages.twin)
    router.add_api_route("/static/{version}/{path:path}", pages.static)
    router.add_api_route("/favicon.ico", pages.favicon)
    return router


class _Pages:
    """The pages over one set of assets."""

    def __init__(self, assets: Assets, default_tenant: str) -> None:
        self._assets = assets
        self._default_tenant = default_tenant

    async def root(self, request: Request) -> Response:
        """The fleet of whoever is signed in."""
        principal = await _signed_in(request)
        return _redirect(self._home(principal) if principal else "/login")

    async def login(self, request: Request, code: str = "", next: str = "") -> Response:  # noqa: A002 the query's name
        """The form; with `code`, an API token, signs in and leads on to an address without it."""
        if code:
            return await self._sign_in(request, code, _local(next))
        return self._page("login.html", problem="", after=_local(next))

    async def submit(
        self, request: Request, token: Annotated[str, Form()] = "", after: Annotated[str, Form()] = ""
    ) -> Response:
        """Takes the form."""
        _refuse_foreign(request)
        return await self._sign_in(request, token, _local(after))

    async def logout(self, request: Request) -> Response:
        """Ends the session."""
        _refuse_foreign(request)
        answer = _redirect("/login")
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    async def tenant(self, tenant: str) -> Response:
        """The short address of a tenant."""
        return _redirect(f"/t/{quote(tenant, safe='')}/fleet")

    async def fleet(self, request: Request, tenant: str) -> Response:
        """All twins of a tenant."""
        return await self._inside(request, "fleet.html", tenant=tenant)

    async def alarms(self, request: Request, tenant: str) -> Response:
        """All alarms of a tenant."""
        return await self._inside(request, "alarms.html", tenant=tenant)

    async def twin(self, request: Request, tenant: str, site: str, twin: str) -> Response:
        """One twin."""
        return await self._inside(request, "twin.html", tenant=tenant, site=site, twin=twin)

    async def static(self, request: Request, version: str, path: str) -> Response:
        """A file of this package; addressed by hash, it may be kept for ever."""
        asset = self._assets.files.get(path)
        if asset is None:
            return Response(status_code=HTTPStatus.NOT_FOUND)
        known = version == self._assets.version
        headers = {"vary": "accept-encoding", "x-content-type-options": "nosniff"}
        headers["cache-control"] = "public, max-age=31536000, immutable" if known else "no-cache"
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(asset.packed, media_type=asset.media_type, headers=headers | {"content-encoding": "gzip"})
        return Response(asset.body, media_type=asset.media_type, headers=headers)

    async def favicon(self) -> Response:
        """The icon, for browsers that ask at the old place."""
        icon = self._assets.files["favicon.svg"]
        return Response(icon.body, media_type=icon.media_type, headers={"cache-control": "max-age=86400"})

    async def _sign_in(self, request: Request, token: str, after: str) -> Response:
        token, state = token.strip(), request.app.state
        try:
            principal: Principal = await state.threads.run(state.principal_of, token[: TOKEN_CHARS_MAX + 1])
        except DeniedError:
            problem = "This token is not known here, or it has expired."
            return self._page("login.html", status=HTTPStatus.UNAUTHORIZED, problem=problem, after=after)
        answer = _redirect(after or self._home(principal))
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, token, max_age=COOKIE_AGE_S, secure=secure, httponly=True, samesite="strict")
        return answer

    async def _inside(self, request: Request, template: str, **names: str) -> Response:
        principal = await _signed_in(request)
        if principal is None:
            return _redirect(f"/login?next={quote(request.url.path)}")
        if not all(re.fullmatch(NAME, name) for name in names.values()):
            detail = "A name in this address is not valid."
            return self._page("problem.html", status=HTTPStatus.NOT_FOUND, title="No such page", detail=detail)
        try:
            authorise(principal, names["tenant"], "twins.read")
        except DeniedError as refused:
            return self._page("problem.html", status=HTTPStatus.FORBIDDEN, title="Not allowed", detail=refused.message)
        values: dict[str, Any] = {**names, "principal": principal}
        return self._page(template, **values)

    def _page(self, template: str, *, status: int = HTTPStatus.OK, **values: Any) -> Response:
        text = _TEMPLATES.get_template(template).render(static=f"/static/{self._assets.version}", **values)
        return Response(text, status, media_type="text/html; charset=utf-8", headers=_HEADERS)

    def _home(self, principal: Principal) -> str:
        return f"/t/{self._default_tenant if principal.tenant == '*' else principal.tenant}/fleet"


async def _signed_in(request: Request) -> Principal | None:
    try:
        return await identify(request)
    except DeniedError:
        return None


def _refuse_foreign(request: Request) -> None:
    """Refuses a form that a page of another host sends; raises FORBIDDEN."""
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign or request.headers.get("sec-fetch-site") == "cross-site":
        raise DeniedError("FORBIDDEN", "the form comes from another site", hint="use the console's own pages")


def _local(path: str) -> str:
    """`path` when it is a page of this console, else ""; what follows a sign-in never leads to another host."""
    return path if re.fullmatch(r"/t/[A-Za-z0-9_/-]{1,300}", path) else ""


def _redirect(path: str) -> Response:
    headers = {"cache-control": "no-store", "referrer-policy": "no-referrer"}
    return RedirectResponse(path, HTTPStatus.SEE_OTHER, headers=headers)
