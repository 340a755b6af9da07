"""The operator's side of the demo: what `twinctl` would do, over the public REST API with the standard library."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qsl, quote, urlencode
from urllib.request import Request, urlopen

from twinmodel.errors import REASONS, TwinError, UnreachableError

TIMEOUT_S = 20.0
TRIES = 4
"""For what is read once, at the end: a machine that is busy elsewhere shall not cost a whole run."""
PAGES_MAX = 10_000


class Operator:
    """A client of one tenant with one token."""

    def __init__(self, url: str, tenant: str, token: str) -> None:
        self.url = url.rstrip("/")
        self.tenant = tenant
        self.token = token

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, object] | bytes | None = None,
        query: Mapping[str, object] | None = None,
        tries: int = 1,
    ) -> Any:
        """One request below `/api/v1/tenants/TENANT`.

        Args:
            method: of HTTP.
            path: below the tenant.
            body: JSON, or bytes as they are.
            query: of the address.
            tries: how often a GET is sent while each is answered too late; all else is sent once.

        Raises:
            TwinError: with the reason of the problem document; COORDINATOR_UNREACHABLE where there is no answer.
        """
        address = f"{self.url}/api/v1/tenants/{quote(self.tenant)}/{path}"
        if query:
            address += "?" + urlencode(query)
        packed = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = Request(address, data=packed, method=method)  # noqa: S310 - http to the coordinator of the demo
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header(
            "Content-Type", "application/octet-stream" if isinstance(body, bytes) else "application/json"
        )
        left = tries if method == "GET" else 1
        while True:
            left -= 1
            try:
                with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - see above
                    return json.loads(answer.read())
            except HTTPError as refused:
                raise _problem(refused) from refused
            except (URLError, OSError) as silent:
                late = isinstance(getattr(silent, "reason", silent), TimeoutError)
                if not late or left <= 0:
                    text = f"{self.url} does not answer: {silent}"
                    raise UnreachableError("COORDINATOR_UNREACHABLE", text) from silent

    def pages(self, path: str, tries: int = 1) -> Iterator[Any]:
        """Every item of a listing, `path?filter=..`; see `call` for `tries`."""
        token = ""
        for _ in range(PAGES_MAX):
            way, _, query = path.partition("?")
            asked = {**dict(parse_qsl(query)), "page_size": 100, **({"page_token": token} if token else {})}
            page = self.call("GET", way, query=asked, tries=tries)
            yield from page["items"]
            token = page["next_page_token"]
            if not token:
                return

    def samples(self, site: str, gateway: str) -> Iterator[Any]:
        """Every stored sample of a gateway, in commit order."""
        after = "0"
        for _ in range(PAGES_MAX):
            page = self.call("GET", f"sites/{site}/gateways/{gateway}/samples", query={"after": after}, tries=TRIES)
            yield from page["items"]
            after = page["next_page_token"]
            if not after:
                return


def _problem(refused: HTTPError) -> TwinError:
    try:
        problem = json.loads(refused.read())
        reason = problem["reason"] if problem["reason"] in REASONS else "REQUEST_INVALID"
        return TwinError(reason, f"{problem['title']}: {problem['detail']}", hint=problem["hint"])
    except (ValueError, KeyError):
        return TwinError("REQUEST_INVALID", f"the coordinator answered {refused.code}")
