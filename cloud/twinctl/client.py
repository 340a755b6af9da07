"""The REST API as Python calls: pages, problems as `TwinError`s, retries of safe reads, events with reconnect."""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn
from urllib.parse import quote

import httpx

from twinctl.contexts import Context, check_token, check_url
from twinctl.paths import gateway_path, twin_path
from twinmodel.errors import (
    REASONS,
    ConflictError,
    DeniedError,
    Exit,
    InputError,
    MissingError,
    StorageError,
    TwinError,
    UnreachableError,
)

Json = dict[str, Any]
TRIES = 3
PAGE_SIZE = 200
PAGES_MAX = 10_000
NAMES_MAX = 5_000
_RETRY_STATUS = {502, 503, 504}
_BY_STATUS = {
    400: ("REQUEST_INVALID", InputError),
    401: ("TOKEN_INVALID", DeniedError),
    403: ("FORBIDDEN", DeniedError),
    404: ("NOT_FOUND", MissingError),
    409: ("ALREADY_EXISTS", ConflictError),
    412: ("PRECONDITION_FAILED", ConflictError),
    413: ("LIMIT_EXCEEDED", InputError),
    422: ("REQUEST_INVALID", InputError),
    507: ("STORE_FULL", StorageError),
}


class Client:
    """A client of one tenant of one coordinator.

    Args:
        context: where and as whom.
        timeout_s: longest wait for one answer.
        transport: takes the place of the network in tests.
        pause: waits some seconds between tries.
    """

    def __init__(
        self,
        context: Context,
        timeout_s: float = 10.0,
        *,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        check_url(context.url)
        check_token(context.token)
        self.context = context
        self._pause = pause
        headers = {"accept": "application/json"}
        if context.token:
            headers["authorization"] = f"Bearer {context.token}"
        try:
            self._http = httpx.Client(
                base_url=f"{context.url.rstrip('/')}/api/v1/tenants/{quote(context.tenant, safe='')}",
                headers=headers,
                timeout=timeout_s,
                transport=transport,
                trust_env=False,
            )
        except httpx.InvalidURL as cause:
            raise InputError("REQUEST_INVALID", f"cannot use the URL {context.url!r}: {cause}") from cause

    def close(self) -> None:
        """Ends its connections."""
        self._http.close()

    def get(self, path: str, **query: object) -> Json:
        """Reads one resource; tried again when the coordinator does not answer."""
        return self._object(self._ask("GET", path, query=query, tries=TRIES))

    def get_tagged(self, path: str) -> tuple[Json, str]:
        """Reads one document, and the ETag that a change of it has to name."""
        answer = self._ask("GET", path, tries=TRIES)
        return self._object(answer), answer.headers.get("etag", "")

    def pages(self, path: str, *, limit: int = 0, **query: object) -> Iterator[Json]:
        """All items of a listing, page after page; `limit` 0 means all."""
        token, given = "", 0
        for _ in range(PAGES_MAX):
            page = self.get(path, page_size=PAGE_SIZE, page_token=token, **query)
            for item in page["items"]:
                yield item
                given += 1
                if given == limit:
                    return
            token = page.get("next_page_token", "")
            if not token:
                return

    def send(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, **query: object
    ) -> Json:
        """Changes something; never tried twice by itself. An answer without content is an empty object."""
        answer = self._ask(method, path, headers=dict(headers or {}), json=body, query=query)
        return {} if answer.status_code == httpx.codes.NO_CONTENT else self._object(answer)

    def upload(self, path: str, blob: bytes) -> Json:
        """Sends bytes."""
        headers = {"content-type": "application/octet-stream"}
        return self._object(self._ask("POST", path, content=blob, headers=headers))

    def download(self, path: str) -> bytes:
        """Reads bytes; tried again when the coordinator does not answer."""
        return self._ask("GET", path, tries=TRIES).content

    def stream(
        self, path: str, heads: Callable[[Mapping[str, str]], None] = lambda _: None, **query: object
    ) -> Iterator[bytes]:
        """Reads bytes as they come; one that ends early is COORDINATOR_UNREACHABLE, and what came is not all.

        `heads` is given the headers of the answer.
        """
        try:
            with self._http.stream("GET", path, params=_query(query), timeout=httpx.Timeout(120, connect=10)) as answer:
                if not answer.is_success:
                    answer.read()
                    self._refuse(answer)
                heads(answer.headers)
                yield from answer.iter_bytes()
        except httpx.TransportError as cause:
            raise self._unreachable(cause) from cause

    def events(self, **query: object) -> Iterator[Json]:
        """Views as they change, for ever, each with its kind as `event`; reconnects and resumes where it was.

        A coordinator that does not answer at the first try is COORDINATOR_UNREACHABLE; later it is waited for.
        """
        last, pause_s, opened = "", 0.5, False
        while True:
            headers = {"accept": "text/event-stream"} | ({"last-event-id": last} if last else {})
            try:
                with self._http.stream(
                    "GET", "/events", params=_query(query), headers=headers, timeout=httpx.Timeout(60, connect=10)
                ) as answer:
                    if answer.status_code != httpx.codes.OK:
                        answer.read()
                        self._refuse(answer)
                    opened, pause_s = True, 0.5
                    for number, event in _parse_events(answer.iter_lines()):
                        last = number or last
                        yield event
            except httpx.TransportError as cause:
                if not opened:
                    raise self._unreachable(cause) from cause
            self._pause(pause_s)
            pause_s = min(10.0, pause_s * 2)

    def twin(self, name: str) -> tuple[str, str]:
        """Site and name of a twin; see `_resolve`."""
        return self._resolve("twin", "/twins", name)

    def gateway(self, name: str) -> tuple[str, str]:
        """Site and name of a gateway; see `_resolve`."""
        return self._resolve("gateway", "/gateways", name)

    def twin_view(self, site: str, twin: str) -> Json:
        """One twin; UNKNOWN_TWIN says which names are near."""
        return self._known("twin", "/twins", twin_path(site, twin), f"{site}/{twin}")

    def gateway_view(self, site: str, gateway: str) -> Json:
        """One gateway; UNKNOWN_GATEWAY says which names are near."""
        return self._known("gateway", "/gateways", gateway_path(site, gateway), f"{site}/{gateway}")

    def _resolve(self, noun: str, listing: str, name: str) -> tuple[str, str]:
        """Site and name of `site/name`, or of a name that is unique in the tenant.

        Raises:
            MissingError: UNKNOWN_TWIN or UNKNOWN_GATEWAY with the nearest names.
            InputError: REQUEST_INVALID naming the candidates when several sites have it.
        """
        site, slash, rest = name.partition("/")
        if slash and site and rest and "/" not in rest:
            return site, rest
        if slash or not name:
            raise InputError("REQUEST_INVALID", f"{name!r} is no {noun}", hint=f"write SITE/{noun.upper()} or its name")
        every = [(str(row["site"]), str(row[noun])) for row in self.pages(listing)]
        found = [pair for pair in every if pair[1] == name]
        if len(found) == 1:
            return found[0]
        if found:
            candidates = ", ".join("/".join(pair) for pair in found)
            hint = f"name the site: {candidates}"
            raise InputError("REQUEST_INVALID", f"{noun} {name!r} exists at {len(found)} sites", hint=hint)
        raise unknown(noun, name, ["/".join(pair) for pair in every])

    def _known(self, noun: str, listing: str, path: str, name: str) -> Json:
        try:
            return self.get(path)
        except MissingError as refused:
            if refused.reason != f"UNKNOWN_{noun.upper()}":
                raise
            every = [f"{row['site']}/{row[noun]}" for row in self.pages(listing, limit=NAMES_MAX)]
            raise unknown(noun, name, every) from refused

    def _ask(
        self, method: str, path: str, *, query: Mapping[str, object] | None = None, tries: int = 1, **more: Any
    ) -> httpx.Response:
        for left in reversed(range(tries)):
            try:
                answer = self._http.request(method, path, params=_query(query or {}), **more)
            except httpx.TransportError as cause:
                if not left or isinstance(cause, httpx.ConnectError):
                    raise self._unreachable(cause) from cause
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as cause:
                raise InputError("REQUEST_INVALID", f"cannot ask {self.context.url}: {cause}") from cause
            else:
                if answer.is_success:
                    return answer
                if not left or answer.status_code not in _RETRY_STATUS:
                    self._refuse(answer)
            self._pause(0.2 * 2 ** (tries - 1 - left))
        raise AssertionError("unreachable: the last try returns or raises")

    def _object(self, answer: httpx.Response) -> Json:
        try:
            body = answer.json()
        except ValueError as cause:
            raise self._unreachable("it answers, but not as a coordinator") from cause
        if not isinstance(body, dict):
            raise self._unreachable("it answers, but not as a coordinator")
        return body

    def _unreachable(self, cause: object) -> UnreachableError:
        hint = "check the address with `twinctl context show` and that the coordinator runs"
        if "WRONG_VERSION_NUMBER" in str(cause):
            hint = "this address speaks no TLS: write http:// instead of https://"
        text = f"{self.context.url} does not answer: {cause or type(cause).__name__}"
        return UnreachableError("COORDINATOR_UNREACHABLE", text, hint=hint)

    def _refuse(self, answer: httpx.Response) -> NoReturn:
        """Raises the error an answer stands for."""
        try:
            problem = answer.json()
        except ValueError:
            problem = {}
        problem = problem if isinstance(problem, dict) else {}
        reason, kind = _BY_STATUS.get(answer.status_code, ("COORDINATOR_UNREACHABLE", UnreachableError))
        detail = str(problem.get("detail") or f"HTTP {answer.status_code} from {self.context.url}")
        said = str(problem.get("reason") or "")
        if said in REASONS:
            reason, kind = said, _kind(said, kind)
        hint = str(problem.get("hint") or "") or None
        if reason == "TOKEN_INVALID":
            hint = "run `twinctl login`, or set HYBRIDTWIN_TOKEN"
        raise kind(reason, detail, hint=hint)


def unknown(noun: str, name: str, every: list[str]) -> MissingError:
    """UNKNOWN_TWIN or UNKNOWN_GATEWAY with the names most like the one asked for."""
    short = {full.rpartition("/")[2]: full for full in every}
    near = difflib.get_close_matches(name, every if "/" in name else list(short), n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(short.get(n, n) for n in near)}? See `twinctl {noun} list`" if near else None
    return MissingError(f"UNKNOWN_{noun.upper()}", f"no {noun} {name!r}", hint=hint)


def _kind(reason: str, otherwise: type[TwinError]) -> type[TwinError]:
    by_exit = {Exit.USAGE: InputError, Exit.NOT_ALLOWED: DeniedError, Exit.UNREACHABLE: UnreachableError}
    by_exit |= {Exit.UNHEALTHY: StorageError}
    by_http = {404: MissingError, 409: ConflictError}
    return by_exit.get(REASONS[reason].exit) or by_http.get(REASONS[reason].http) or otherwise


def _query(query: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in query.items() if value not in (None, "")}


def _parse_events(lines: Iterator[str]) -> Iterator[tuple[str, Json]]:
    number, kind, parts = "", "message", list[str]()
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "id":
                number = value
            elif field == "event":
                kind = value
            elif field == "data":
                parts.append(value)
            continue
        if parts:
            try:
                body = json.loads("\n".join(parts))
            except ValueError:
                body = {}
            if isinstance(body, dict):
                yield number, {**body, "event": kind}
        kind = "message"
        parts = []
