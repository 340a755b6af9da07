"""Retention: says from when on signals are kept, then deletes what lies before, a little at a time.

    policies ─▶ let go: points say from when on ─▶ hidden in every answer ─▶ rows deleted ─▶ archived files given up
                  (once all before is in buckets)                              (in steps)      (deleted by the archive)

What points say only grows: longer policies bring nothing back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, bindparam, delete, exists, func, insert, or_, select, update

from twincloud.storage import schema as t
from twincloud.storage import schema_hours as h
from twincloud.storage.contract import GatewayKey, TwinKey
from twincloud.storage.contract_retention import Check
from twincloud.storage.kept import Kept, kept_of
from twincloud.storage.part import take_numbers
from twincloud.storage.readings import twin_row
from twincloud.storage.records_archives import DAY_NS, FileState, archive_of
from twincloud.storage.records_exports import Plan
from twincloud.storage.records_retention import Holder
from twincloud.storage.schema_archives import archives as a
from twincloud.storage.timeline import TimelineStore
from twincloud.twins.buckets import MINUTE_NS
from twincloud.twins.retention import Policy, Table, kept_from
from twincloud.twins.state import signals_of

ROWS_MAX: Final = 2_000
"""Rows that one step deletes of each table: commits wait for it."""
FILES_MAX: Final = 100
"""Archived files that one step looks at."""
POINTS_MAX: Final = 500
STUCK_NS: Final = DAY_NS
"""Blocks are compacted within hours; what came longer ago and is not yet, limits wait for."""
RETENTION = "retention"
"""The counter whose row orders changes of policies."""


class RetentionStore(TimelineStore):
    """See `Retention`."""

    def retention(self, tenant: str) -> tuple[Policy, ...]:
        """See `Retention.retention`."""
        with self._database.read(tenant) as connection:
            return policies_of(connection, tenant).policies

    def set_retention(
        self, tenant: str, policies: Sequence[Policy], *, by: str, now_ns: int, check: Check
    ) -> tuple[Policy, ...]:
        """See `Retention.set_retention`."""
        table = Table(policies)
        with self._database.write(tenant) as connection:
            take_numbers(connection, RETENTION, 1)  # others wait here, and then see what was changed
            check(policies_of(connection, tenant).policies)
            connection.execute(delete(h.retention).where(h.retention.c.tenant == tenant))
            rows = [
                {"tenant": tenant, "pattern": one.pattern, "raw_days": one.raw_days, "buckets_days": one.buckets_days,
                 "archive_days": one.archive_days, "changed_ns": now_ns, "changed_by": by}
                for one in table.policies
            ]  # fmt: skip
            if rows:
                connection.execute(insert(h.retention), rows)
        return table.policies

    def holders(self, *, archiving: bool) -> tuple[Holder, ...]:
        """See `Retention.holders`."""
        with self._database.read() as connection:
            rows = connection.execute(_HOLDERS).all()
            archived = {tenant: archiving or has_archive(connection, tenant) for tenant in {row[0] for row in rows}}
        return tuple(Holder(tenant, gateway_id, archived[tenant]) for tenant, gateway_id in rows)

    def let_go(self, holder: Holder, now_ns: int) -> int:
        """See `Retention.let_go`."""
        changed: dict[tuple[int, int], list[int]] = {}
        asked = {"tenant": holder.tenant, "gateway_id": holder.gateway_id, "stuck_ns": now_ns - STUCK_NS}
        with self._database.read(holder.tenant) as connection:
            table = policies_of(connection, holder.tenant)
            waiting = (connection.execute(one, asked).scalar() for one in (_UNBUCKETED, _UNCOMPACTED))
            ready_ns = min((one for one in waiting if one is not None), default=now_ns) // DAY_NS * DAY_NS
            for point in connection.execute(_POINTS, asked):
                policy = table.policy_of(point.signal)
                raw_ns = min(ready_ns, kept_from(policy.days(archived=holder.archived), now_ns))
                buckets_ns = min(ready_ns, kept_from(policy.buckets_days, now_ns))
                limits = (max(raw_ns, point.raw_from_ns), max(buckets_ns, point.buckets_from_ns))
                if limits != (point.raw_from_ns, point.buckets_from_ns):
                    changed.setdefault(limits, []).append(point.id)
        if changed:
            with self._database.write(holder.tenant) as connection:
                for (raw_ns, buckets_ns), ids in changed.items():
                    for n in range(0, len(ids), POINTS_MAX):
                        statement = update(h.points).where(h.points.c.id.in_(ids[n : n + POINTS_MAX]))
                        connection.execute(statement.values(raw_from_ns=raw_ns, buckets_from_ns=buckets_ns))
        return sum(map(len, changed.values()))

    def delete_expired(self, holder: Holder) -> int:
        """See `Retention.delete_expired`."""
        of = {"tenant": holder.tenant, "gateway_id": holder.gateway_id}
        with self._database.read(holder.tenant) as connection:  # nobody waits while they are looked for
            if not (_gone(connection, of, _HOURS, 1) or _gone(connection, of, _BUCKETS, 1)):
                return 0
        with self._database.write(holder.tenant) as connection:
            hours = _gone(connection, of, _HOURS, ROWS_MAX)
            buckets = _gone(connection, of, _BUCKETS, ROWS_MAX)
            fewer: dict[tuple[int, int], int] = {}
            for row in hours:
                fewer[row.hour_ns, row.part] = fewer.get((row.hour_ns, row.part), 0) + row.samples
            keys = [{"of_tenant": holder.tenant, "of_gateway": holder.gateway_id, "of_hour": hour_ns, "of_part": part}
                    for hour_ns, part in fewer]  # fmt: skip
            write = self._database.write_many
            write(connection, _DELETE_HOURS, [
                {**of, "point_id": r.point_id, "hour_ns": r.hour_ns, "part": r.part, "piece": r.piece} for r in hours
            ])  # fmt: skip
            counts = [{**key, "fewer": count} for key, count in zip(keys, fewer.values(), strict=True)]
            write(connection, _FEWER, counts)
            write(connection, _DELETE_PARTS, keys)
            write(connection, _DELETE_BUCKETS, [
                {**of, "point_id": r.point_id, "width_ns": r.width_ns, "start_ns": r.start_ns} for r in buckets
            ])  # fmt: skip
        return len(hours) + len(buckets)

    def expire_archives(self, holder: Holder, after_ns: int, now_ns: int) -> int:
        """See `Retention.expire_archives`."""
        asked = {"tenant": holder.tenant, "gateway_id": holder.gateway_id, "after_ns": after_ns, "limit": FILES_MAX}
        with self._database.read(holder.tenant) as connection:
            since = {row.signal: int(row.raw_from_ns) for row in connection.execute(_POINTS, asked)}
            before_ns = max(since.values(), default=0) - DAY_NS
            rows = connection.execute(_FILES, {**asked, "before_ns": before_ns}).mappings().all()
        files = [archive_of(dict(row)) for row in rows]
        gone = [f for f in files if all(f.day.day_ns + DAY_NS <= since.get(g.signal, 0) for g in f.groups)]
        if gone:
            with self._database.write(holder.tenant) as connection:
                # Who reads it at this moment may go on for a while: it goes the way of all that is superseded.
                for file in gone:
                    connection.execute(_SUPERSEDE, {
                        "of_tenant": holder.tenant, "of_gateway": holder.gateway_id, "of_day": file.day.day_ns,
                        "of_generation": file.generation, "now_ns": now_ns,
                    })  # fmt: skip
        return files[-1].day.day_ns if len(files) == FILES_MAX else 0

    def kept(self, key: TwinKey, prop: str, roles: Sequence[str]) -> Mapping[str, Kept]:
        """See `Retention.kept`."""
        with self._database.read(key.tenant) as connection:
            names, owners = self._names(connection, key, prop, roles)
            return {
                role: kept_of(connection, key.tenant, owners, set(by_schema.values()) - {""})
                for role, by_schema in names.items()
            }

    def kept_of_twin(self, key: TwinKey) -> Kept:
        """See `Retention.kept_of_twin`."""
        with self._database.read(key.tenant) as connection:
            row = twin_row(connection, key)
            catalogue = self._catalogue_by_id(connection, row["schema_id"])
            names = {catalogue.signals[signal].name for signal in signals_of(catalogue).get(key.twin, ())}
            return kept_of(connection, key.tenant, self._owners(connection, row["id"]), names)

    def kept_of_plan(self, plan: Plan) -> Kept:
        """See `Retention.kept_of_plan`."""
        wanted = plan.wanted
        with self._database.read(wanted.tenant) as connection:
            return kept_of(connection, wanted.tenant, wanted.gateways, wanted.signals)

    def kept_of_signals(self, gateway: GatewayKey, signals: Sequence[str]) -> Kept:
        """See `Retention.kept_of_signals`."""
        with self._database.read(gateway.tenant) as connection:
            return kept_of(connection, gateway.tenant, [self._gateway_id(connection, gateway)], signals)


def policies_of(connection: Connection, tenant: str) -> Table:
    """The policies of a tenant."""
    c = h.retention.c
    columns = (c.pattern, c.raw_days, c.buckets_days, c.archive_days)
    return Table([Policy(*row) for row in connection.execute(select(*columns).where(c.tenant == tenant))])


def has_archive(connection: Connection, tenant: str) -> bool:
    """Whether any day of a tenant lies in the archive: no policy for databases may delete it."""
    kept = select(a.c.day_ns).where(a.c.tenant == tenant, a.c.state == int(FileState.KEPT)).limit(1)
    return connection.execute(kept).first() is not None


def _gone(connection: Connection, of: Mapping[str, Any], rows_of: Select[Any], limit: int) -> list[Row[Any]]:
    """Keys of rows that are hidden; point by point, for what others keep may be a thousand times as much."""
    column = "raw_from_ns" if rows_of is _HOURS else "buckets_from_ns"
    limits: dict[int, list[int]] = {}
    for point in connection.execute(_POINTS, of):
        before_ns = getattr(point, column)
        if before_ns:
            limits.setdefault(before_ns, []).append(point.id)
    found: list[Row[Any]] = []
    for before_ns, ids in limits.items():
        for n in range(0, len(ids), POINTS_MAX):
            if len(found) < limit:
                some = {**of, "points": ids[n : n + POINTS_MAX], "before_ns": before_ns, "limit": limit - len(found)}
                found += connection.execute(rows_of, some).all()
    return found


_HOLDERS = (
    select(h.points.c.tenant, h.points.c.gateway_id)
    .where(
        or_(
            h.points.c.tenant.in_(select(h.retention.c.tenant)),
            h.points.c.raw_from_ns > 0,
            h.points.c.buckets_from_ns > 0,
        )
    )
    .distinct()
    .order_by(h.points.c.tenant, h.points.c.gateway_id)
)
_OF_GATEWAY = (h.points.c.tenant == bindparam("tenant"), h.points.c.gateway_id == bindparam("gateway_id"))
_POINTS = select(h.points.c.id, h.points.c.signal, h.points.c.raw_from_ns, h.points.c.buckets_from_ns).where(
    *_OF_GATEWAY
)
_UNBUCKETED = select(func.min(h.hour_parts.c.hour_ns)).where(
    h.hour_parts.c.tenant == bindparam("tenant"),
    h.hour_parts.c.gateway_id == bindparam("gateway_id"),
    h.hour_parts.c.bucketed.is_(False),
)
_UNCOMPACTED = select(func.min(t.blocks.c.t_min_ns)).where(
    t.blocks.c.gateway_id == bindparam("gateway_id"), t.blocks.c.received_ns < bindparam("stuck_ns")
)
_HOURS = (
    select(h.hours.c.point_id, h.hours.c.hour_ns, h.hours.c.part, h.hours.c.piece, h.hours.c.count.label("samples"))
    .where(
        h.hours.c.tenant == bindparam("tenant"),
        h.hours.c.gateway_id == bindparam("gateway_id"),
        h.hours.c.point_id.in_(bindparam("points", expanding=True)),
        h.hours.c.hour_ns < bindparam("before_ns"),
    )
    .limit(bindparam("limit"))
)
_BUCKETS = (
    select(h.buckets.c.point_id, h.buckets.c.width_ns, h.buckets.c.start_ns)
    .where(
        h.buckets.c.tenant == bindparam("tenant"),
        h.buckets.c.gateway_id == bindparam("gateway_id"),
        h.buckets.c.point_id.in_(bindparam("points", expanding=True)),
        h.buckets.c.width_ns == MINUTE_NS,
        h.buckets.c.start_ns < bindparam("before_ns"),
    )
    .limit(bindparam("limit"))
)
_DELETE_HOURS = delete(h.hours).where(
    *(h.hours.c[name] == bindparam(name) for name in ("tenant", "gateway_id", "point_id", "hour_ns", "part", "piece"))
)
_DELETE_BUCKETS = delete(h.buckets).where(
    *(h.buckets.c[name] == bindparam(name) for name in ("tenant", "gateway_id", "point_id", "width_ns", "start_ns"))
)
_THIS_PART = (
    h.hour_parts.c.tenant == bindparam("of_tenant"),
    h.hour_parts.c.gateway_id == bindparam("of_gateway"),
    h.hour_parts.c.hour_ns == bindparam("of_hour"),
    h.hour_parts.c.part == bindparam("of_part"),
)
_FEWER = update(h.hour_parts).where(*_THIS_PART).values(samples=h.hour_parts.c.samples - bindparam("fewer"))
_DELETE_PARTS = delete(h.hour_parts).where(
    *_THIS_PART,
    ~exists().where(
        h.hours.c.tenant == h.hour_parts.c.tenant,
        h.hours.c.gateway_id == h.hour_parts.c.gateway_id,
        h.hours.c.hour_ns == h.hour_parts.c.hour_ns,
        h.hours.c.part == h.hour_parts.c.part,
    ),
)
_FILES = (
    select(a)
    .where(
        a.c.tenant == bindparam("tenant"),
        a.c.gateway_id == bindparam("gateway_id"),
        a.c.state == int(FileState.KEPT),
        a.c.day_ns > bindparam("after_ns"),
        a.c.day_ns <= bindparam("before_ns"),
    )
    .order_by(a.c.day_ns)
    .limit(bindparam("limit"))
)
_SUPERSEDE = (
    update(a)
    .where(
        a.c.tenant == bindparam("of_tenant"),
        a.c.gateway_id == bindparam("of_gateway"),
        a.c.day_ns == bindparam("of_day"),
        a.c.generation == bindparam("of_generation"),
        a.c.state == int(FileState.KEPT),
    )
    .values(state=int(FileState.SUPERSEDED), changed_ns=bindparam("now_ns"))
)
