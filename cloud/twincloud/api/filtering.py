"""Filters over listings: columns in SQL, all else here, page by page within a bound.

A page of a filtered listing may hold fewer items than asked for, even none, and still have a next one: at most
`SCAN_MAX` rows are looked at for it, and its token goes on behind the last of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol, TypeVar

from twincloud.api.diagnosis import diagnose_gateway, diagnose_twin
from twincloud.api.views import freshness_s
from twincloud.filters import Fields, Filter, parse
from twincloud.filters.sql import Columns
from twincloud.storage.contract import Gateway, Page, Property, Twin, Value
from twincloud.storage.paging import token_of
from twinmodel.clock import SECOND_NS
from twinmodel.quality import class_of

T = TypeVar("T")

SCAN_MAX: Final = 5_000
STEP_MIN: Final = 100


class Rows(Protocol[T]):
    """A listing of the store with all but its page given."""

    def __call__(self, *, limit: int, token: str) -> Page[T]:
        """One page."""
        ...


def filter_of(text: str, fields: Fields) -> Filter | None:
    """The filter of a request, None for an empty one; raises FILTER_INVALID."""
    return parse(text, fields) if text.strip() else None


def scan(
    rows: Rows[T], passes: Callable[[T], bool], place: Callable[[T], tuple[object, ...]], *, limit: int, token: str
) -> Page[T]:
    """A page of the rows that pass; see the module."""
    found: list[T] = []
    looked = 0
    while True:
        page = rows(limit=max(STEP_MIN, limit), token=token)
        for at, row in enumerate(page.items):
            if not passes(row):
                continue
            found.append(row)
            if len(found) == limit:
                last = at + 1 == len(page.items) and not page.next_token
                return Page(tuple(found), "" if last else token_of(place(row)))
        looked += len(page.items)
        token = page.next_token
        if not token or looked >= SCAN_MAX:
            return Page(tuple(found), token)


def left(chosen: Filter | None, columns: Columns) -> Filter | None:
    """The filter, where something of it is left to look at in memory."""
    return None if chosen is None or chosen.exact(columns) else chosen


class Facts(Mapping[str, Any]):
    """A record whose values are found when they are asked for."""

    def __init__(self, parts: Mapping[str, Callable[[], object]]) -> None:
        self._parts = parts

    def __getitem__(self, name: str) -> object:
        return self._parts[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def twin_facts(twin: Twin, gateway: Gateway | None, *, now_ns: int, stale_ns: int) -> Facts:
    """A twin as filters see it; see `storage.selection.TWIN_FIELDS`."""

    def health() -> str:
        fresh_s = freshness_s(twin, now_ns)
        return diagnose_twin(twin, gateway, fresh_s=fresh_s, now_ns=now_ns, stale_ns=stale_ns)[0]

    def values(of: Callable[[Property], Value | None]) -> Callable[[], object]:
        return lambda: {p.name: _value(of(p), now_ns) for p in twin.properties}

    def freshness() -> int | None:
        found = freshness_s(twin, now_ns)
        return None if found is None else round(found * SECOND_NS)

    model = twin.model
    return Facts(
        {
            "site": lambda: twin.key.site,
            "twin": lambda: twin.key.twin,
            "gateway": lambda: twin.gateway or None,
            "definition": lambda: twin.definition or None,
            "state": lambda: twin.state,
            "run": lambda: twin.run,
            "tags": lambda: twin.tags,
            "health": health,
            "drifting": lambda: twin.drifting,
            "revision": lambda: twin.revision,
            "updated": lambda: twin.updated_ns or None,
            "freshness": freshness,
            "model": lambda: {
                "desired": model.desired or None,
                "running": model.running or None,
                "tier": model.tier or None,
                "outcome": model.outcome or None,
            },
            "properties": lambda: frozenset(p.name for p in twin.properties),
            "innovation": lambda: {p.name: p.innovation for p in twin.properties},
            "drift": lambda: {p.name: p.drift for p in twin.properties},
            "reported": values(lambda p: p.reported),
            "estimated": values(lambda p: p.estimated),
            "predicted": values(lambda p: p.predicted),
            "desired": values(lambda p: p.desired),
        }
    )


def gateway_facts(gateway: Gateway, *, now_ns: int, stale_ns: int) -> Facts:
    """A gateway as filters see it; see `storage.selection.GATEWAY_FIELDS`."""
    return Facts(
        {
            "site": lambda: gateway.key.site,
            "gateway": lambda: gateway.key.gateway,
            "state": lambda: gateway.state,
            "connected": lambda: gateway.connected,
            "health": lambda: diagnose_gateway(gateway, now_ns=now_ns, stale_ns=stale_ns)[0],
            "agent_version": lambda: gateway.agent_version,
            "clock": lambda: gateway.clock.name,
            "last_seen": lambda: gateway.last_seen_ns or None,
            "backlog_bytes": lambda: gateway.backlog_bytes,
            "backlog_samples": lambda: gateway.backlog_samples,
            "oldest": lambda: gateway.oldest_ns or None,
            "samples": lambda: gateway.samples,
            "certificate_until": lambda: gateway.certificate_until_ns or None,
        }
    )


def gateway_place(gateway: Gateway) -> tuple[object, ...]:
    """The place of a gateway in listings."""
    return (gateway.key.site, gateway.key.gateway)


def _value(value: Value | None, now_ns: int) -> dict[str, object] | None:
    if value is None:
        return None
    return {
        "value": value.value,
        "sigma": value.sigma,
        "unit": value.unit,
        "quality": class_of(value.quality).name.lower(),
        "t_event": value.t_event_ns,
        "age": max(0, now_ns - value.t_event_ns),
    }
