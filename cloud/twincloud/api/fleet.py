"""The fleet as one answer: health by numbers, freshness, and what needs attention, over all twins of a tenant."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from twincloud.api.alarm_views import attention_of, counts_view
from twincloud.api.diagnosis import diagnose_gateway, diagnose_twin, severity
from twincloud.api.threads import Threads
from twincloud.api.times import to_text
from twincloud.api.v1.schemas import Attention, FleetSummary, GatewayView, Health, SiteHealth, TwinView
from twincloud.api.views import freshness_s, gateway_view, lag_s, twin_view
from twincloud.storage.contract import Gateway, GatewayKey, Page, Store, Twin, TwinKey
from twincloud.storage.records_alarms import NO_MARKS, Alarm, AlarmChoice, AlarmMarks
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import TwinError

T = TypeVar("T")

ATTENTION_MAX = 100
PAGE = 500
PAGES_MAX = 400
KEEP_NS = SECOND_NS
TENANTS_MAX = 64

GatewayName = tuple[str, str]


class Listing(Protocol[T]):
    """A paged listing of the store."""

    def __call__(self, tenant: str, *, site: str = "", limit: int = 100, token: str = "") -> Page[T]:
        """One page."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one pass over a tenant gave.

    Attributes:
        summary: the numbers.
        gateways: by (site, gateway).
        twins_of: how many twins a gateway serves.
        health: health and reason of each twin by (site, twin).
        taken_boot_ns: when.
    """

    summary: FleetSummary
    gateways: Mapping[GatewayName, Gateway]
    twins_of: Mapping[GatewayName, int]
    health: Mapping[GatewayName, Health]
    taken_boot_ns: int


def every(listing: Listing[T], tenant: str) -> Iterator[T]:
    """All items of a paged listing, within a bound."""
    token = ""
    for _ in range(PAGES_MAX):
        page = listing(tenant, limit=PAGE, token=token)
        yield from page.items
        token = page.next_token
        if not token:
            return


def nearest_rank(values: Sequence[float], percent: float) -> float | None:
    """The nearest-rank percentile: the smallest value with at least `percent` % of all at or below it."""
    if not values:
        return None
    ranked = sorted(values)
    return ranked[max(0, math.ceil(percent / 100 * len(ranked)) - 1)]


def summarise(
    tenant: str,
    sites: Iterable[str],
    gateways: Mapping[GatewayName, Gateway],
    twins: Iterable[Twin],
    *,
    now_ns: int,
    stale_ns: int,
    last_event: int,
    taken_boot_ns: int = 0,
    marks: AlarmMarks = NO_MARKS,
    alarms: Sequence[Alarm] = (),
) -> Snapshot:
    """One pass over a tenant's twins; keeps numbers, not twins."""
    counts: dict[str, Counter[str]] = {site: Counter() for site in sites}
    twins_of: Counter[GatewayName] = Counter()
    versions: Counter[str] = Counter()
    health_of: dict[GatewayName, Health] = {}
    fresh: list[float] = []
    lags: list[float] = []
    attention: list[Attention] = []
    for twin in twins:
        site, name = twin.key.site, twin.key.twin
        gateway = gateways.get((site, twin.gateway))
        age_s = freshness_s(twin, now_ns)
        health, why = diagnose_twin(twin, gateway, fresh_s=age_s, now_ns=now_ns, stale_ns=stale_ns)
        counts.setdefault(site, Counter())[health] += 1
        twins_of[site, twin.gateway] += 1
        health_of[site, name] = health
        if twin.model.running:
            versions[twin.model.running] += 1
        # A gateway that is away is told by its health; its old values say nothing of how fast the others come.
        lag = lag_s(twin)
        if gateway is not None and gateway.connected and age_s is not None and lag is not None:
            fresh.append(age_s)
            lags.append(lag)
        if health != "ok":
            attention.append(Attention(severity=health, kind="twin", site=site, name=name, why=why))
    for (site, name), gateway in gateways.items():
        counts.setdefault(site, Counter())["gateways"] += 1
        counts[site]["gateways_connected"] += gateway.connected
        health, why = diagnose_gateway(gateway, now_ns=now_ns, stale_ns=stale_ns)
        if health != "ok":
            attention.append(Attention(severity=health, kind="gateway", site=site, name=name, why=why))
    attention += attention_of(alarms)
    attention.sort(key=lambda a: (severity(a.severity), a.kind, a.site, a.name))
    total = sum(counts.values(), Counter())
    summary = FleetSummary(
        tenant=tenant,
        ok=total["ok"],
        warn=total["warn"],
        bad=total["bad"],
        offline=total["offline"],
        gateways=total["gateways"],
        gateways_connected=total["gateways_connected"],
        freshness_p50_s=nearest_rank(fresh, 50),
        freshness_p95_s=nearest_rank(fresh, 95),
        lag_p95_s=nearest_rank(lags, 95),
        backlog_bytes=sum(g.backlog_bytes for g in gateways.values()),
        backlog_samples=sum(g.backlog_samples for g in gateways.values()),
        samples=sum(g.samples for g in gateways.values()),
        sites=[_site_health(site, counts[site]) for site in sorted(counts)],
        versions=dict(sorted(versions.items())),
        attention=attention[:ATTENTION_MAX],
        alarms=counts_view(marks),
        last_event=last_event,
        server_time=to_text(now_ns),
    )
    return Snapshot(summary, gateways, twins_of, health_of, taken_boot_ns)


def _site_health(site: str, count: Mapping[str, int]) -> SiteHealth:
    return SiteHealth(
        site=site,
        ok=count["ok"],
        warn=count["warn"],
        bad=count["bad"],
        offline=count["offline"],
        gateways=count["gateways"],
        gateways_connected=count["gateways_connected"],
    )


class Fleet:
    """Reads the store for views; a tenant's snapshot is shared by all who ask within a second."""

    def __init__(self, store: Store, threads: Threads, clock: Clock, *, stale_ns: int) -> None:
        self._store = store
        self._threads = threads
        self._clock = clock
        self.stale_ns = stale_ns
        self._kept: OrderedDict[str, Snapshot] = OrderedDict()
        self._gateways: OrderedDict[str, tuple[int, Mapping[GatewayName, Gateway]]] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}

    async def snapshot(self, tenant: str, *, fresh: bool = False) -> Snapshot:
        """The tenant in one pass, at most a second old, or of this moment when `fresh`."""
        lock = self._locks.setdefault(tenant, asyncio.Lock())
        async with lock:
            kept = self._kept.get(tenant)
            if kept is None or fresh or self._clock.boot_ns() - kept.taken_boot_ns >= KEEP_NS:
                kept = await self._threads.run(self._take, tenant)
                self._kept[tenant] = kept
                while len(self._kept) > TENANTS_MAX:
                    old, _ = self._kept.popitem(last=False)
                    self._locks.pop(old, None)
            return kept

    async def summary(self, tenant: str) -> FleetSummary:
        """The FLEET page in numbers."""
        return (await self.snapshot(tenant)).summary

    async def gateways(self, tenant: str) -> Mapping[GatewayName, Gateway]:
        """Gateways by (site, gateway), at most a second old; a page of twins must not wait for a look at all twins."""
        async with self._locks.setdefault(f"{tenant}/gateways", asyncio.Lock()):
            boot_ns, known = self._gateways.get(tenant, (0, None))
            if known is None or self._clock.boot_ns() - boot_ns >= KEEP_NS:
                boot_ns, known = self._clock.boot_ns(), await self._threads.run(self._read_gateways, tenant)
                self._gateways[tenant] = boot_ns, known
                while len(self._gateways) > TENANTS_MAX:
                    old, _ = self._gateways.popitem(last=False)
                    self._locks.pop(f"{old}/gateways", None)
            return known

    def _read_gateways(self, tenant: str) -> Mapping[GatewayName, Gateway]:
        return {(g.key.site, g.key.gateway): g for g in every(self._store.gateways, tenant)}

    async def twin_views(self, tenant: str, twins: Collection[Twin]) -> list[TwinView]:
        """Views of a page of twins."""
        gateways = await self.gateways(tenant)
        marks = await self._threads.run(self._store.twin_marks, tenant, {twin.key.twin for twin in twins})
        now_ns = self._clock.wall_ns()
        return [self._view(twin, gateways.get((twin.key.site, twin.gateway)), now_ns, marks) for twin in twins]

    async def twin_view(self, key: TwinKey) -> TwinView:
        """A twin of this moment; raises UNKNOWN_TWIN."""
        return await self._threads.run(self.read_twin, key)

    def read_twin(self, key: TwinKey) -> TwinView:
        """The same, blocking."""
        (view,) = self.read_twins(key.tenant, [key])
        if isinstance(view, TwinError):
            raise view
        return view

    def read_twins(self, tenant: str, keys: Sequence[TwinKey]) -> list[TwinView | TwinError]:
        """Twins of a tenant at this moment, or UNKNOWN_TWIN in the place of one; blocking."""
        found = self._store.twins_of(tenant, [(key.site, key.twin) for key in keys])
        marks = self._store.twin_marks(tenant, {key.twin for key in keys})
        now_ns = self._clock.wall_ns()
        return [one if isinstance(one, TwinError) else self._view(*one, now_ns, marks) for one in found]

    async def gateway_view(self, key: GatewayKey) -> GatewayView:
        """A gateway of this moment; raises UNKNOWN_GATEWAY."""
        gateway = await self._threads.run(self._store.gateway, key)
        return (await self.gateway_views(key.tenant, [gateway]))[0]

    def read_gateway(self, key: GatewayKey) -> GatewayView:
        """The same, blocking; how many twins it serves is of the last snapshot."""
        kept = self._kept.get(key.tenant)
        twins = kept.twins_of.get((key.site, key.gateway), 0) if kept is not None else 0
        gateway = self._store.gateway(key)
        return gateway_view(gateway, twins=twins, now_ns=self._clock.wall_ns(), stale_ns=self.stale_ns)

    async def gateway_views(self, tenant: str, gateways: Iterable[Gateway]) -> list[GatewayView]:
        """Views of a page of gateways."""
        twins_of = (await self.snapshot(tenant)).twins_of
        now_ns = self._clock.wall_ns()
        return [
            gateway_view(g, twins=twins_of.get((g.key.site, g.key.gateway), 0), now_ns=now_ns, stale_ns=self.stale_ns)
            for g in gateways
        ]

    def _view(
        self, twin: Twin, gateway: Gateway | None, now_ns: int, marks: Mapping[GatewayName, AlarmMarks]
    ) -> TwinView:
        alarms = marks.get((twin.key.site, twin.key.twin), NO_MARKS)
        return twin_view(twin, gateway, now_ns=now_ns, stale_ns=self.stale_ns, alarms=alarms)

    def _take(self, tenant: str) -> Snapshot:
        gateways = {(g.key.site, g.key.gateway): g for g in every(self._store.gateways, tenant)}
        return summarise(
            tenant,
            self._store.sites(tenant),
            gateways,
            every(self._store.twins, tenant),
            now_ns=self._clock.wall_ns(),
            stale_ns=self.stale_ns,
            last_event=self._store.last_event(),
            taken_boot_ns=self._clock.boot_ns(),
            marks=self._store.alarm_marks(tenant),
            alarms=self._store.alarms(tenant, AlarmChoice(standing=True), limit=ATTENTION_MAX).items,
        )
