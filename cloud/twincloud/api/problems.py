"""The one place where an error becomes an HTTP answer: RFC 9457 problem documents, never a stack trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from twincloud.api.v1.schemas import NAME, Problem
from twinmodel.errors import REASONS, TwinError

_PLACES = {"t": "tenant", "s": "site", "g": "gateway"}
MEDIA_TYPE = "application/problem+json"
_OF_STATUS = {
    401: "TOKEN_INVALID", 403: "FORBIDDEN", 404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "LIMIT_EXCEEDED",
    415: "MEDIA_UNSUPPORTED", 429: "RATE_LIMITED",
}  # fmt: skip

_RETRY_AFTER_S = {"RATE_LIMITED": 5, "IN_PROGRESS": 1, "NOT_READY": 5}


def problem(
    reason: str, detail: str, *, hint: str | None = None, status: int | None = None, path: str = ""
) -> Response:
    """The answer for a reason of the registry."""
    status = REASONS[reason].http if status is None else status
    body = _body(reason, detail, hint, status, path)
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
    if reason in _RETRY_AFTER_S:
        headers["Retry-After"] = str(_RETRY_AFTER_S[reason])
    return Response(body.model_dump_json(), status, headers, MEDIA_TYPE)


def problem_body(error: TwinError) -> Problem:
    """The document of an error of ours, where it stands inside an answer."""
    return _body(error.reason, error.message, error.hint, REASONS[error.reason].http, "")


def _body(reason: str, detail: str, hint: str | None, status: int, path: str) -> Problem:
    return Problem(
        type=f"urn:hybridtwin:reason:{reason}",
        title=reason.replace("_", " ").capitalize(),
        status=status,
        detail=detail,
        reason=reason,
        hint=REASONS[reason].hint if hint is None else hint,
        instance=path,
    )


def problem_of(error: TwinError, path: str = "") -> Response:
    """The answer for an error of ours."""
    answer = problem(error.reason, error.message, hint=error.hint, path=path)
    if error.facts.get("etag"):
        answer.headers["ETag"] = str(error.facts["etag"])
    return answer


_TRIED = frozenset({"bool", "int", "float", "str"})
_TRIED_OF = ("literal[", "list[")
_CONTROLS = r"^[^\x00-\x1f"


def install(app: FastAPI) -> None:
    """Makes every error of an app a problem document; unknown exceptions are met by `api.shell`."""
    app.add_exception_handler(TwinError, _twin_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)


async def _twin_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TwinError)
    return problem_of(error, request.url.path)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if any(one["loc"] == ("body",) for one in error.errors()) and kind and not kind.endswith(("/json", "+json")):
        return problem("MEDIA_UNSUPPORTED", f"body: {kind[:60]!r} is not read here", path=request.url.path)
    told: dict[str, list[str]] = {}
    for one in error.errors()[:10]:
        place = _place(one)
        told.setdefault(_PLACES.get(place, place), []).append(_said(one))
    text = "; ".join(f"{place}: {_either(some)}" for place, some in told.items())
    return problem("REQUEST_INVALID", text, path=request.url.path)


def _place(fault: Mapping[str, Any]) -> str:
    """The field, without the kinds of a value that may be of several, each of which is tried."""
    parts = [str(part) for part in fault["loc"] if part not in ("body", "query", "path")]
    while parts and (parts[-1] in _TRIED or parts[-1].startswith(_TRIED_OF)):
        parts.pop()
    return "body" if fault["type"] == "json_invalid" else ".".join(parts) or "body"


def _either(said: Sequence[str]) -> str:
    first, *rest = said
    return " or ".join([first, *(one.removeprefix("Input should be ") for one in rest)])


def _said(fault: Mapping[str, Any]) -> str:
    if fault["type"] == "json_invalid":
        return f"it is no JSON, at character {fault['loc'][-1]}: {fault['ctx']['error']}"
    if fault["type"] == "string_pattern_mismatch" and _CONTROLS in fault["ctx"]["pattern"]:
        return "it holds control characters, as line ends are"
    if fault["type"] == "string_pattern_mismatch" and NAME in fault["ctx"]["pattern"]:
        return "a name has letters, digits, - and _, at most 63, and begins with a letter or a digit"
    return str(fault["msg"])


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = _OF_STATUS.get(error.status_code, "REQUEST_INVALID" if error.status_code < 500 else "INTERNAL")
    answer = problem(reason, str(error.detail), status=error.status_code, path=request.url.path)
    answer.headers.update(error.headers or {})
    return answer
