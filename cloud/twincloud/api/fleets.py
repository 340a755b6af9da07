"""Fleets as they stand: gathered at most once a second, shared by all who ask meanwhile.

    who asks ─▶ Fleets ─▶ kept muster, one thread at a time ─▶ standings ─▶ api.standing: aggregate, outliers, peers

A fleet whose filter tests what is no column (health, values) is filtered in memory, at most once in `MEMBERS_NS`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from twincloud.api.filtering import Facts, left, scan, twin_facts
from twincloud.api.fleet import every
from twincloud.filters import Filter, parse
from twincloud.storage.contract import Page, Store, Twin, TwinKey
from twincloud.storage.gathered import Muster
from twincloud.storage.records_fleets import FleetRecord, FleetStanding
from twincloud.storage.selection import TWIN_COLUMNS, TWIN_FIELDS
from twinmodel.clock import SECOND_NS, Clock

T = TypeVar("T")

KEEP_NS: Final = SECOND_NS
MEMBERS_NS: Final = 5 * SECOND_NS
KEPT_MAX: Final = 32
VIEWS_MAX: Final = 64
FLEETS_OF_TWIN_MAX: Final = 50
"""Fleets looked through for the peers of a twin, when none is named."""


@dataclass(slots=True)
class Kept:
    """What is kept of a fleet; `lock` is held while it is refreshed or read."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    revision: int = -1
    muster: Muster | None = None
    taken_boot_ns: int = 0
    settled_ns: int = 0
    members: tuple[TwinKey, ...] | None = None
    members_boot_ns: int = 0
    views: dict[object, Any] = field(default_factory=dict)


class Fleets:
    """Reads fleets; its methods block and are called in threads."""

    def __init__(self, store: Store, clock: Clock, *, stale_ns: int) -> None:
        self._store = store
        self._clock = clock
        self.stale_ns = stale_ns
        self._kept: OrderedDict[tuple[str, str], Kept] = OrderedDict()
        self._lock = threading.Lock()

    def members(self, tenant: str, name: str, *, limit: int, token: str) -> Page[TwinKey]:
        """A page of members of this moment; raises UNKNOWN_FLEET."""
        record = self._store.fleet(tenant, name)
        chosen = filter_of_fleet(record)
        rest = left(chosen, TWIN_COLUMNS)
        if rest is None:
            return self._store.fleet_names(record, chosen, limit=limit, token=token)
        page = self._scan(tenant, rest, limit=limit, token=token)
        return Page(tuple(twin.key for twin in page.items), page.next_token)

    def read(self, tenant: str, name: str, view: Callable[[FleetStanding, int], T], asked: object = None) -> T:
        """What `view(standing, now_ns)` makes of a fleet, at most a second old; raises UNKNOWN_FLEET.

        Args:
            tenant: whose.
            name: of the fleet.
            view: a pure function.
            asked: what tells this view from others; those who ask the same within a second share one, None for none.
        """
        record = self._store.fleet(tenant, name)
        kept = self._keep(tenant, name)
        with kept.lock:
            now_ns = self._refresh(record, kept)
            assert kept.muster is not None, "it was just refreshed"
            if asked is None:
                return view(kept.muster.standing, now_ns)
            known: T | None = kept.views.get(asked)
            if known is None:
                known = view(kept.muster.standing, now_ns)
                if len(kept.views) < VIEWS_MAX:
                    kept.views[asked] = known
            return known

    def fleets_of(self, key: TwinKey) -> list[str]:
        """Names of the fleets a twin is a member of, among the first of the tenant."""
        found = []
        for record in self._store.fleets(key.tenant, limit=FLEETS_OF_TWIN_MAX).items:
            full = record if record.spec.filter else self._store.fleet(key.tenant, record.name)
            if self._has(full, key):
                found.append(record.name)
        return found

    def _has(self, record: FleetRecord, key: TwinKey) -> bool:
        chosen = filter_of_fleet(record)
        if chosen is None:
            return key in record.spec.members
        twin = self._store.twin(key)
        return chosen.matches(self._facts(key.tenant)(twin))

    def _keep(self, tenant: str, name: str) -> Kept:
        with self._lock:
            kept = self._kept.setdefault((tenant, name), Kept())
            self._kept.move_to_end((tenant, name))
            while len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
            return kept

    def _refresh(self, record: FleetRecord, kept: Kept) -> int:
        now_ns, boot_ns = self._clock.wall_ns(), self._clock.boot_ns()
        if kept.revision != record.revision:
            kept.muster, kept.members, kept.revision = None, None, record.revision
        if kept.muster is not None and boot_ns - kept.taken_boot_ns < KEEP_NS:
            return kept.settled_ns
        chosen = filter_of_fleet(record)
        rest = left(chosen, TWIN_COLUMNS)
        if rest is not None and (kept.members is None or boot_ns - kept.members_boot_ns >= MEMBERS_NS):
            kept.members, kept.members_boot_ns = self._matching(record.tenant, rest), boot_ns
        kept.muster = self._store.fleet_muster(record, chosen, kept.muster, kept.members)
        for prop in kept.muster.standing.properties:
            prop.standing.settle(now_ns - self.stale_ns)
        kept.taken_boot_ns, kept.settled_ns = boot_ns, now_ns
        kept.views.clear()
        return now_ns

    def _matching(self, tenant: str, chosen: Filter) -> tuple[TwinKey, ...]:
        found: list[TwinKey] = []
        token = ""
        while True:
            page = self._scan(tenant, chosen, limit=1_000, token=token)
            found += [twin.key for twin in page.items]
            token = page.next_token
            if not token:
                return tuple(found)

    def _scan(self, tenant: str, chosen: Filter, *, limit: int, token: str) -> Page[Twin]:
        facts = self._facts(tenant)
        rows = partial(self._store.twins, tenant, chosen=chosen)
        return scan(rows, lambda t: chosen.matches(facts(t)), twin_place, limit=limit, token=token)

    def _facts(self, tenant: str) -> Callable[[Twin], Facts]:
        gateways = {(g.key.site, g.key.gateway): g for g in every(self._store.gateways, tenant)}
        now_ns = self._clock.wall_ns()
        return lambda t: twin_facts(t, gateways.get((t.key.site, t.gateway)), now_ns=now_ns, stale_ns=self.stale_ns)


def filter_of_fleet(record: FleetRecord) -> Filter | None:
    """The filter of a fleet, None for a static one."""
    return parse(record.spec.filter, TWIN_FIELDS) if record.spec.filter else None


def twin_place(twin: Twin) -> tuple[object, ...]:
    """The place of a twin in listings."""
    return (twin.key.site, twin.key.twin)
