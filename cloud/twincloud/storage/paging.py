"""Page tokens: the place of the last item shown, opaque to clients, so that pages stay right while rows come and go."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from twincloud.storage.contract import Page
from twinmodel.errors import InputError

T = TypeVar("T")


def page_of(found: Sequence[T], limit: int, place: Callable[[T], tuple[object, ...]]) -> Page[T]:
    """A page of at most `limit` of the items found; one more found means that there is a next page."""
    limit = max(1, limit)
    shown = tuple(found[:limit])
    return Page(shown, token_of(place(shown[-1])) if len(found) > limit else "")


def place_of(token: str, *kinds: type) -> tuple[Any, ...]:
    """The place a token stands for; raises InputError REQUEST_INVALID when no page gave it."""
    try:
        place = json.loads(base64.urlsafe_b64decode(token.encode() + b"==="))
    except (ValueError, binascii.Error, RecursionError):
        place = None
    if not isinstance(place, list) or [type(value) for value in place] != list(kinds):
        raise InputError("REQUEST_INVALID", "page token is not one that a page gave", field="page_token")
    return tuple(place)


def token_of(place: tuple[object, ...]) -> str:
    """The token of a place."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).rstrip(b"=").decode()
