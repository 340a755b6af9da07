"""Bodies that are read as JSON and not as a shape: in a merge patch null and absence differ."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, NoReturn

from starlette.exceptions import HTTPException
from starlette.requests import Request

from twincloud.api.conditional import Condition
from twincloud.storage.records_twins import Demand
from twinmodel.errors import InputError

MERGE_PATCH = "application/merge-patch+json"
_TYPES = frozenset({MERGE_PATCH, "application/json"})


async def json_of(request: Request) -> Any:
    """The body of a request; raises InputError REQUEST_INVALID when it is no JSON (RFC 8259, no NaN)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _TYPES:
        text = f"the body is {kind or 'of no type'}, not {MERGE_PATCH} or application/json"
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text, {"Accept-Patch": MERGE_PATCH})
    return parse_json(await request.body())


def parse_json(body: bytes) -> Any:
    """The value of a JSON text; raises InputError REQUEST_INVALID."""
    try:
        return json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as wrong:
        raise InputError("REQUEST_INVALID", f"body: it is no JSON: {str(wrong)[:200]}", field="body") from None


def demand_of(condition: Condition) -> Demand:
    """What a condition asks of a record."""
    match, none_match = condition.if_match, condition.if_none_match
    if none_match is not None and not none_match.everything:
        raise InputError("REQUEST_INVALID", "If-None-Match: only * is known where something is changed")
    return Demand(condition.revisions, present=match is not None, absent=none_match is not None)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
