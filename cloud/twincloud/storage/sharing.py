"""What coordinators that share a database do for one another: leases, presence, and news of what others committed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy import and_, bindparam, func, or_, select

from twincloud.storage import schema as t
from twincloud.storage.artifacts import Documents
from twincloud.storage.contract import GatewayKey
from twincloud.storage.part import Part

WOKEN_MAX = 10_000


class SharingStore(Part):
    """See `Sharing`."""

    def lease(self, name: str) -> AbstractContextManager[bool]:
        """See `Sharing.lease`."""
        return self._database.lease(name)

    def announce(self, ring: Callable[[], None]) -> AbstractContextManager[None]:
        """See `Sharing.announce`."""
        return self._database.announce(self._replica, ring)

    def documents(self) -> Documents:
        """See `Sharing.documents`."""
        return Documents(self._database)

    def addressed(self, after: int) -> tuple[int, tuple[GatewayKey, ...]]:
        """See `Sharing.addressed`."""
        with self._database.read() as connection:
            rows = connection.execute(_ADDRESSED, {"after": after, "limit": WOKEN_MAX}).all()
            # Of the same moment: commits of a day without news for anybody are not looked through at each of them.
            newest = int(connection.execute(_NEWEST).scalar() or 0)
        last = rows[-1].id if len(rows) == WOKEN_MAX else max(newest, after)
        return last, tuple(dict.fromkeys(GatewayKey(*row[1:]) for row in rows))

    def reclaim(self) -> int:
        """See `Sharing.reclaim`."""
        return self._database.reclaim()


# The event of a directive or a command names its twin, what else a gateway is told names the gateway.
_ADDRESSED = (
    select(t.events.c.id, t.gateways.c.tenant, t.gateways.c.site, t.gateways.c.gateway)
    .select_from(t.events)
    .outerjoin(
        t.twins,
        and_(
            t.events.c.kind.in_(("directive", "command")),
            t.twins.c.tenant == t.events.c.tenant,
            t.twins.c.site == t.events.c.site,
            t.twins.c.twin == t.events.c.subject,
        ),
    )
    .join(
        t.gateways,
        or_(
            t.gateways.c.id == t.twins.c.gateway_id,
            and_(
                t.events.c.kind == "gateway",
                t.gateways.c.tenant == t.events.c.tenant,
                t.gateways.c.site == t.events.c.site,
                t.gateways.c.gateway == t.events.c.subject,
            ),
        ),
    )
    .where(t.events.c.id > bindparam("after"), t.events.c.kind.in_(("directive", "command", "gateway")))
    .order_by(t.events.c.id)
    .limit(bindparam("limit"))
)
_NEWEST = select(func.max(t.events.c.id))
