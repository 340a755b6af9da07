"""From a fleet as it stands to shapes of the API: pure functions over a given `now_ns`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twincloud.api.diagnosis import AWAY_MAX_NS
from twincloud.api.times import to_text
from twincloud.api.v1.fleet_shapes import (
    CommonView,
    FleetAggregate,
    FleetView,
    MemberName,
    Missing,
    MissingMember,
    OutlierList,
    OutlierView,
    PeerView,
    PropertyAggregate,
    Quantile,
    Role,
    Uncertainty,
)
from twincloud.storage.contract import TwinKey
from twincloud.storage.records_fleets import ESTIMATED, FleetRecord, FleetStanding, PropertyStanding
from twincloud.twins.aggregate import Aggregate, Grade
from twincloud.twins.peers import Middle, middle_of, outliers, rank_of, scores
from twinmodel.clock import SECOND_NS

MISSING_MAX: Final = 100
OUTLIERS_MAX: Final = 100
_WHY: Final[tuple[Missing, ...]] = ("never", "offline", "stale", "bad", "uncertain", "unit", "kind")
_BY_GRADE: Final = {Grade.NEVER: 0, Grade.BAD: 3, Grade.UNCERTAIN: 4, Grade.UNIT: 5, Grade.KIND: 6}


def fleet_view(record: FleetRecord, *, members: bool) -> FleetView:
    """A fleet; with its members where they are named and asked for."""
    named = [MemberName(site=key.site, twin=key.twin) for key in record.spec.members]
    return FleetView(
        tenant=record.tenant,
        fleet=record.name,
        kind="filter" if record.spec.filter else "static",
        description=record.spec.description,
        filter=record.spec.filter,
        members=named if members and not record.spec.filter else None,
        revision=record.revision,
        created=to_text(record.created_ns),
        updated=to_text(record.updated_ns),
        updated_by=record.updated_by,
    )


def aggregate_view(
    fleet: str, standing: FleetStanding, now_ns: int, stale_ns: int, *, prop: str = "", role: str = ""
) -> FleetAggregate:
    """A fleet in numbers."""
    chosen = chosen_of(standing, prop, role)
    return FleetAggregate(
        fleet=fleet,
        time=to_text(now_ns),
        stale_s=stale_ns / SECOND_NS,
        members=len(standing),
        properties=[_property_view(standing, one, now_ns, stale_ns) for one in chosen],
    )


def chosen_of(standing: FleetStanding, prop: str, role: str) -> list[PropertyStanding]:
    """The properties of a name and a role, all where these are empty."""
    return [one for one in standing.properties if prop in ("", one.name) and role in ("", one.role)]


def outliers_view(fleet: str, standing: FleetStanding, now_ns: int, *, prop: str = "", role: str = "") -> OutlierList:
    """The outliers of a fleet, the farthest first."""
    found = [view for one in chosen_of(standing, prop, role) for view in _outliers(standing, one)]
    found.sort(key=lambda view: -abs(view.z) / view.limit)
    return OutlierList(fleet=fleet, time=to_text(now_ns), items=found[:OUTLIERS_MAX])


def peer_views(fleet: str, standing: FleetStanding, now_ns: int, stale_ns: int, key: TwinKey) -> list[PeerView]:
    """How the properties of a twin stand in a fleet, none when it is no member."""
    names = zip(standing.sites, standing.twins, strict=True)
    member = next((n for n, name in enumerate(names) if name == (key.site, key.twin)), None)
    if member is None:
        return []
    views = []
    for one in standing.properties:
        place = np.flatnonzero(one.members == member)
        if len(place):
            views.append(_peer(fleet, standing, one, int(place[0]), now_ns, stale_ns))
    return views


def _property_view(standing: FleetStanding, one: PropertyStanding, now_ns: int, stale_ns: int) -> PropertyAggregate:
    found = one.standing.read(standing.models)
    places, why = missing_of(standing, one, now_ns, stale_ns)
    members = len(one.standing)
    units = {apart.member: apart.unit for apart in one.apart}
    values, sigmas = _counting(one)
    middle = middle_of(values)
    return PropertyAggregate(
        property=one.name,
        role=_role(one),
        unit=one.unit,
        members=members,
        count=found.count,
        completeness=found.count / members if members else None,
        mean=_finite(found.mean),
        total=_finite(found.total),
        minimum=found.minimum,
        maximum=found.maximum,
        quantiles=[Quantile(q=q, value=value) for q, value in found.quantiles],
        uncertainty=_uncertainty(found),
        missing={_WHY[n]: count for n, count in sorted(Counter(why.tolist()).items())},
        missing_members=[
            MissingMember(site=standing.sites[m], twin=standing.twins[m], why=_WHY[w], unit=units.get(m, ""))
            for m, w in zip(one.members[places].tolist()[:MISSING_MAX], why.tolist(), strict=False)
        ],
        outliers=0 if middle is None else len(outliers(values, sigmas, middle)),
    )


def missing_of(
    standing: FleetStanding, one: PropertyStanding, now_ns: int, stale_ns: int
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Places of members that do not count, and why, by place in `_WHY`."""
    readings = one.standing.readings
    places = np.flatnonzero(~one.standing.counts)
    grade = readings.grade[places]
    why = np.full(len(places), _BY_GRADE[Grade.BAD], np.int64)
    for value, number in _BY_GRADE.items():
        why[grade == value] = number
    old = (readings.t_ns[places] < now_ns - stale_ns) & (grade < Grade.NEVER)
    gateway = standing.gateway[one.members[places]]
    away = ~standing.connected & (now_ns - standing.last_seen_ns > AWAY_MAX_NS)
    off = away[gateway] if len(away) else np.zeros(len(places), bool)
    why[old] = np.where(off, _WHY.index("offline"), _WHY.index("stale"))[old]
    return places, why


def _uncertainty(found: Aggregate) -> Uncertainty | None:
    if found.sigma is None or found.sigma_independent is None or found.sigma_common is None:
        return None
    versions = [CommonView(model=c.model, count=c.count, sigma_common=c.sigma, source=c.source) for c in found.common]
    return Uncertainty(
        mean=found.sigma,
        total=found.sigma * found.count,
        independent=found.sigma_independent,
        common=found.sigma_common,
        versions=versions,
    )


def _counting(one: PropertyStanding) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    counts = one.standing.counts
    return one.standing.readings.value[counts], one.standing.readings.sigma[counts]


def _outliers(standing: FleetStanding, one: PropertyStanding) -> Iterator[OutlierView]:
    values, sigmas = _counting(one)
    middle = middle_of(values)
    if middle is None:
        return
    places = outliers(values, sigmas, middle)[:OUTLIERS_MAX]
    z = scores(values, sigmas, middle)
    members = one.members[one.standing.counts]
    for place in places.tolist():
        value, sigma, member = float(values[place]), float(sigmas[place]), int(members[place])
        known = math.isfinite(sigma)
        side = "above" if z[place] > 0 else "below"
        yield OutlierView(
            site=standing.sites[member],
            twin=standing.twins[member],
            property=one.name,
            role=_role(one),
            unit=one.unit,
            value=value,
            sigma=sigma if known else None,
            median=middle.median,
            mad=middle.mad,
            scale=math.hypot(middle.scale, sigma if known else 0.0),
            z=float(z[place]),
            limit=middle.limit,
            direction="above" if side == "above" else "below",
            peers=middle.count - 1,
            why=_sentence(one, value, float(z[place]), middle),
        )


def _sentence(one: PropertyStanding, value: float, z: float, middle: Middle) -> str:
    unit = f" {one.unit}" if one.unit else ""
    side = "above" if z > 0 else "below"
    what = f"{one.role} {one.name} {value:.5g}{unit} is {abs(z):.3g} robust sigmas {side} the median"
    return f"{what} {middle.median:.5g}{unit} of {middle.count} twins (limit {middle.limit:.3g})"


def _peer(
    fleet: str, standing: FleetStanding, one: PropertyStanding, place: int, now_ns: int, stale_ns: int
) -> PeerView:
    readings, counts = one.standing.readings, one.standing.counts
    values, sigmas = _counting(one)
    middle = middle_of(values)
    shown = {"fleet": fleet, "property": one.name, "role": _role(one), "unit": one.unit}
    if not counts[place] or middle is None:
        places, why = missing_of(standing, one, now_ns, stale_ns)
        reason = _WHY[int(why[int(np.flatnonzero(places == place)[0])])]
        return PeerView(
            **shown, value=None, sigma=None, peers=len(values), missing=reason, rank=None, percentile=None,
            median=None if middle is None else middle.median, mad=None if middle is None else middle.mad,
            z=None, limit=None, outlier=False,
        )  # fmt: skip
    among = int(counts[:place].sum())
    rank = rank_of(among, values, sigmas, middle)
    sigma = float(readings.sigma[place])
    return PeerView(
        **shown, value=float(values[among]), sigma=sigma if math.isfinite(sigma) else None, peers=middle.count - 1,
        missing=None, rank=int((values < values[among]).sum()) + 1, percentile=rank.percentile, median=middle.median,
        mad=middle.mad, z=rank.z, limit=middle.limit if math.isfinite(middle.limit) else None, outlier=rank.outlier,
    )  # fmt: skip


def _role(one: PropertyStanding) -> Role:
    return "estimated" if one.role == ESTIMATED else "measured"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
