"""Shapes of fleets, their aggregates and peers.

GET    /api/v1/tenants/{t}/fleets?page_size=&page_token=                FleetList
GET    /api/v1/tenants/{t}/fleets/{f}                                   FleetView, ETag
PUT    /api/v1/tenants/{t}/fleets/{f}                                   FleetRequest -> FleetView, If-(None-)Match
DELETE /api/v1/tenants/{t}/fleets/{f}                                   If-Match
GET    /api/v1/tenants/{t}/fleets/{f}/members?page_size=&page_token=    MemberList
GET    /api/v1/tenants/{t}/fleets/{f}/aggregate?property=&role=         FleetAggregate
GET    /api/v1/tenants/{t}/fleets/{f}/outliers?property=&role=          OutlierList
GET    /api/v1/tenants/{t}/sites/{s}/twins/{twin}/peers?fleet=          PeerList
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from twincloud.api.v1.schemas import NAME, Shape

MEMBERS_MAX = 10_000
Role = Literal["measured", "estimated"]
Missing = Literal["never", "offline", "stale", "bad", "uncertain", "unit", "kind"]


class MemberName(Shape):
    """A twin of a fleet."""

    site: str = Field(pattern=NAME)
    twin: str = Field(pattern=NAME)


class FleetRequest(Shape):
    """A fleet: either a filter over twins, which follows them as they change, or its members by name."""

    description: str = Field("", max_length=1_000)
    filter: str = Field("", max_length=1_000, description="in the filter language")
    members: list[MemberName] = Field(default_factory=list, max_length=MEMBERS_MAX)


class FleetView(Shape):
    """A fleet; `members` is given of static ones, and never in lists."""

    tenant: str
    fleet: str
    kind: Literal["static", "filter"]
    description: str
    filter: str
    members: list[MemberName] | None = None
    revision: int
    created: str
    updated: str
    updated_by: str


class FleetList(Shape):
    """Page of fleets."""

    items: list[FleetView]
    next_page_token: str = ""


class MemberList(Shape):
    """Page of members."""

    items: list[MemberName]
    next_page_token: str = ""


class Quantile(Shape):
    """A value that a share `q` of the members lie below."""

    q: float
    value: float


class CommonView(Shape):
    """What twins of one model version are off together, one standard deviation, and where that is known from.

    `given` by the model, `innovation`: from the newest innovations of at least 8 members; `rule`: nothing is known, so
    that all of their sigma counts as shared.
    """

    model: str
    count: int
    sigma_common: float
    source: Literal["given", "innovation", "rule"]


class Uncertainty(Shape):
    """One standard deviation of the mean and of the sum; of the mean also its two parts."""

    mean: float
    total: float
    independent: float
    common: float
    versions: list[CommonView]


class MissingMember(Shape):
    """A member whose value does not count, and why."""

    site: str
    twin: str
    why: Missing
    unit: str = ""


class PropertyAggregate(Shape):
    """One property over the members that have it.

    `members` have it, `count` of them count: a plainly good value, no older than the limit. `completeness` is their
    share. `uncertainty` is null where a member that counts has no sigma, as measurements have none.
    """

    property: str
    role: Role
    unit: str
    members: int
    count: int
    completeness: float | None
    mean: float | None
    total: float | None
    minimum: float | None
    maximum: float | None
    quantiles: list[Quantile]
    uncertainty: Uncertainty | None
    missing: dict[str, int] = Field(description="why -> members")
    missing_members: list[MissingMember] = Field(description="at most 100 of them")
    outliers: int


class FleetAggregate(Shape):
    """A fleet in numbers at a time, at most a second old; values older than `stale_s` do not count."""

    fleet: str
    time: str
    stale_s: float
    members: int
    properties: list[PropertyAggregate]


class OutlierView(Shape):
    """A twin too far from its peers.

    `z` is the distance from the median in scales, where `scale` is of the fleet (from the MAD) and of the twin's own
    sigma together; `limit` is the z that about one fleet in 100 of alike twins exceeds.
    """

    site: str
    twin: str
    property: str
    role: Role
    unit: str
    value: float
    sigma: float | None
    median: float
    mad: float
    scale: float
    z: float
    limit: float
    direction: Literal["above", "below"]
    peers: int
    why: str


class OutlierList(Shape):
    """Outliers, the farthest first; at most 100."""

    fleet: str
    time: str
    items: list[OutlierView]
    next_page_token: str = ""


class PeerView(Shape):
    """How one property of a twin stands among its peers; no numbers where it does not count, see `missing`."""

    fleet: str
    property: str
    role: Role
    unit: str
    value: float | None
    sigma: float | None
    peers: int
    missing: Missing | None
    rank: int | None = Field(description="1 is the lowest")
    percentile: float | None
    median: float | None
    mad: float | None
    z: float | None
    limit: float | None = Field(description="null below 5 peers: nobody is an outlier then")
    outlier: bool


class PeerList(Shape):
    """A twin among its peers, by fleet, property and role."""

    site: str
    twin: str
    time: str
    items: list[PeerView]
    next_page_token: str = ""
