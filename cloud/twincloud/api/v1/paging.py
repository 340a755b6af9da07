"""Pages of a listing: sizes are bounded and tokens are opaque, bound to the list they came from."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable
from typing import Annotated, TypeVar

from fastapi import Path, Query

from twincloud.api.v1.schemas import NAME
from twinmodel.errors import InputError

T = TypeVar("T")
PAGE_MAX = 1_000
TOKEN_CHARS_MAX = 1_024

PageSize = Annotated[int, Query(ge=1, le=PAGE_MAX)]
PageToken = Annotated[str, Query(max_length=TOKEN_CHARS_MAX)]
FilterText = Annotated[str, Query(alias="filter", description="in the filter language, see docs/api.md")]
SiteFilter = Annotated[str, Query(pattern=rf"^$|{NAME}")]
Site = Annotated[str, Path(pattern=NAME)]
GatewayName = Annotated[str, Path(pattern=NAME)]
TwinName = Annotated[str, Path(pattern=NAME)]


def seal(listing: str, store_token: str) -> str:
    """The token a client gets, "" for the last page."""
    if not store_token:
        return ""
    return base64.urlsafe_b64encode(f"{listing}\n{store_token}".encode()).decode().rstrip("=")


def listing_of(*parts: str) -> str:
    """The name of a listing with its filters, as tokens are bound to it; short, whatever the filter's length."""
    *names, text = parts
    return ":".join((*names, hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""))


def slice_of(
    items: Iterable[T], place: Callable[[T], tuple[str, ...]], listing: str, page_size: int, page_token: str
) -> tuple[list[T], str]:
    """A page of a list that is small enough to be at hand, by its places, and the token of the next one.

    Raises:
        InputError: REQUEST_INVALID when the token is not of this list.
    """
    after = tuple(unseal(listing, page_token).split("\n")) if page_token else ()
    rest = sorted((item for item in items if place(item) > after), key=place)
    shown = rest[:page_size]
    return shown, seal(listing, "\n".join(place(shown[-1]))) if len(rest) > page_size else ""


def unseal(listing: str, token: str) -> str:
    """The store's token behind a client's; raises REQUEST_INVALID when it is not of this list."""
    if not token:
        return ""
    try:
        padded = token + "=" * (-len(token) % 4)
        name, separator, inner = base64.b64decode(padded, altchars=b"-_", validate=True).decode().partition("\n")
    except (binascii.Error, ValueError):
        name, separator, inner = "", "", ""
    if not separator or name != listing:
        raise InputError(
            "REQUEST_INVALID",
            "page_token: it is no token of this list",
            hint="pass next_page_token of the page before, with the same filters",
            field="page_token",
        )
    return inner
