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
    ) -> Any:
        """One request below `/api/v1/tenants/TENANT`; raises TwinError with the reason of the problem document."""
        address = f"{self.url}/api/v1/tenants/{quote(self.tenant)}/{path}"
        if query:
            address += "?" + urlencode(query)
        packed = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = Request(address, data=packed, method=method)  # noqa: S310 - http to the coordinator of the demo
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header(
            "Content-Type", "application/octet-stream" if isinstance(body, bytes) else "application/json"
        )
        try:
            with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - see above
                return json.loads(answer.read())
        except HTTPError as refused:
            raise _problem(refused) from refused
        except (URLError, OSError) as silent:
            raise UnreachableError("COORDINATOR_UNREACHABLE", f"{self.url} does not answer: {silent}") from silent

    def pages(self, path: str) -> Iterator[Any]:
        """Every item of a listing, `path?filter=..`."""
        token = ""
        for _ in range(PAGES_MAX):
            way, _, query = path.partition("?")
            asked = {**dict(parse_qsl(query)), "page_size": 100, **({"page_token": token} if token else {})}
            page = self.call("GET", way, query=asked)
            yield from page["items"]
            token = page["next_page_token"]
            if not token:
                return

    def samples(self, site: str, gateway: str) -> Iterator[Any]:
        """Every stored sample of a gateway, in commit order."""
        after = "0"
        for _ in range(PAGES_MAX):
            page = self.call("GET", f"sites/{site}/gateways/{gateway}/samples", query={"after": after})
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
