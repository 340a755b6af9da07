"""The outbox: what happened, in the order of the commits; bounded by age and rows, ids are never given twice."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, func, select

from twincloud.storage import schema as t
from twincloud.storage.contract import Event
from twincloud.storage.packing import unpack
from twincloud.storage.part import NUMBERS, Part
from twinmodel.clock import SECOND_NS

EVENTS_MAX = 100_000
EVENTS_AGE_NS = 24 * 3_600 * SECOND_NS
PRUNE_ROWS = 1_000
"""Rows one step deletes at most, so that no commit waits long for it."""


class OutboxStore(Part):
    """Reads events; see `Twins`."""

    def events(self, tenant: str, *, after: int, limit: int = 500) -> tuple[Event, ...]:
        """See `Twins.events`."""
        with self._database.read(tenant) as connection:
            rows = connection.execute(_AFTER, {"tenant": tenant, "after": after, "limit": max(1, limit)}).all()
        return tuple(Event(r.id, r.tenant, r.site, r.kind, r.subject, r.t_ns, unpack(r.body)) for r in rows)

    def first_event(self) -> int:
        """See `Twins.first_event`."""
        with self._database.read() as connection:
            return int(connection.execute(_FIRST).scalar() or 0)

    def last_event(self) -> int:
        """See `Twins.last_event`."""
        with self._database.read() as connection:
            newest = connection.execute(_LAST).scalar()
            # All pruned: the last number given is not smaller than the last event's.
            return int(newest or connection.execute(_GIVEN, {"name": NUMBERS}).scalar() or 0)


def prune_events(
    connection: Connection, now_ns: int, *, rows_max: int = EVENTS_MAX, age_ns: int = EVENTS_AGE_NS
) -> int:
    """Deletes the oldest events beyond the bounds, one small step of them; returns how many."""
    total = int(connection.execute(_COUNT).scalar_one())
    oldest = connection.execute(_OLDEST, {"limit": PRUNE_ROWS}).all()
    excess = max(0, total - rows_max)
    doomed = [row.id for place, row in enumerate(oldest) if place < excess or row.t_ns < now_ns - age_ns]
    if doomed:
        connection.execute(_PRUNE, {"ids": doomed})
    return len(doomed)


_AFTER = (
    select(t.events)
    .where(t.events.c.tenant == bindparam("tenant"), t.events.c.id > bindparam("after"))
    .order_by(t.events.c.id)
    .limit(bindparam("limit"))
)
_FIRST = select(func.min(t.events.c.id))
_LAST = select(func.max(t.events.c.id))
_GIVEN = select(t.counters.c.value).where(t.counters.c.name == bindparam("name"))
_COUNT = select(func.count()).select_from(t.events)
_OLDEST = select(t.events.c.id, t.events.c.t_ns).order_by(t.events.c.id).limit(bindparam("limit"))
_PRUNE = delete(t.events).where(t.events.c.id.in_(bindparam("ids", expanding=True)))
