"""From when on samples of signals are kept: what every tier leaves out, and what answers say of it.

What retention lets go is hidden the moment it says so, before any of it is deleted, so no answer tells how far the
deletion has come.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, func, select

from twincloud.storage.schema_hours import points as p
from twincloud.storage.tiers import Wanted


@dataclass(frozen=True, slots=True)
class Kept:
    """Event times before which retention has let go of some signals; 0 where it has not.

    Attributes:
        raw_ns: of samples.
        buckets_ns: of buckets, which live at least as long as samples.
    """

    raw_ns: int = 0
    buckets_ns: int = 0


ALL: Final = Kept()


def since_of(connection: Connection, wanted: Wanted) -> dict[tuple[int, str], int]:
    """(gateway, signal) -> the time before which its samples are kept no more, where there is one."""
    rows = connection.execute(_SINCE, _asked(wanted.tenant, wanted.gateways, wanted.signals)).all()
    return {(row.gateway_id, row.signal): int(row.raw_ns) for row in rows if row.raw_ns}


def kept_of(connection: Connection, tenant: str, gateways: Iterable[int], signals: Iterable[str]) -> Kept:
    """From when on there is all of some signals: the latest time of any of them."""
    rows = connection.execute(_SINCE, _asked(tenant, gateways, signals)).all()
    raw_ns = max((int(row.raw_ns) for row in rows), default=0)
    return Kept(raw_ns, max((min(int(row.raw_ns), int(row.buckets_ns)) for row in rows), default=0))


def _asked(tenant: str, gateways: Iterable[int], signals: Iterable[str]) -> dict[str, object]:
    return {"tenant": tenant, "gateways": sorted(gateways), "signals": sorted(signals)}


_SINCE = (
    select(
        p.c.gateway_id,
        p.c.signal,
        func.max(p.c.raw_from_ns).label("raw_ns"),
        func.max(p.c.buckets_from_ns).label("buckets_ns"),
    )
    .where(
        p.c.tenant == bindparam("tenant"),
        p.c.gateway_id.in_(bindparam("gateways", expanding=True)),
        p.c.signal.in_(bindparam("signals", expanding=True)),
        (p.c.raw_from_ns > 0) | (p.c.buckets_from_ns > 0),
    )
    .group_by(p.c.gateway_id, p.c.signal)
)
