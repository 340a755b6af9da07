"""What retention would let go of, counted without changing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, bindparam, func, select

from twincloud.storage import schema_hours as h
from twincloud.storage.records_archives import DAY_NS, FileState, archive_of
from twincloud.storage.records_retention import Going, RetentionPlan
from twincloud.storage.retention import RetentionStore, has_archive, policies_of
from twincloud.storage.schema_archives import archives as a
from twincloud.twins.retention import FOR_EVER, Policy, Table, kept_from

IDS_MAX: Final = 500
FILES_AT_ONCE: Final = 100


@dataclass(slots=True)
class _Count:
    """What goes by one policy, so far."""

    policy: Policy
    signals: set[tuple[int, str]] = field(default_factory=set)
    samples: int = 0
    bytes: int = 0
    archived: int = 0
    buckets: int = 0
    from_ns: int = 0
    to_ns: int = 0

    def span(self, from_ns: int, to_ns: int) -> None:
        """Takes in a stretch of time."""
        self.from_ns = from_ns if not self.to_ns else min(self.from_ns, from_ns)
        self.to_ns = max(self.to_ns, to_ns)

    def going(self) -> Going:
        """As a record."""
        return Going(
            self.policy, len(self.signals), self.samples, self.bytes, self.archived, self.buckets, self.from_ns,
            self.to_ns,
        )  # fmt: skip


class RetentionPlanStore(RetentionStore):
    """See `Retention.plan_retention`."""

    def plan_retention(
        self, tenant: str, policies: Sequence[Policy] | None, now_ns: int, *, archiving: bool
    ) -> RetentionPlan:
        """See `Retention.plan_retention`."""
        asked = None if policies is None else Table(policies)
        files = file_bytes = 0
        with self._database.read(tenant) as connection:
            table = asked or policies_of(connection, tenant)
            archived = archiving or has_archive(connection, tenant)
            counts = {policy.pattern: _Count(policy) for policy in table.policies}
            bare = _Count(FOR_EVER)
            since: dict[tuple[int, str], int] = {}
            of_count: dict[tuple[int, str], _Count] = {}
            points: dict[tuple[int, int, int, int], list[int]] = {}
            chosen: dict[int, _Count] = {}
            for point in connection.execute(_POINTS, {"tenant": tenant}):
                policy = table.policy_of(point.signal)
                count = bare if policy is FOR_EVER else counts[policy.pattern]
                count.signals.add((point.gateway_id, point.signal))
                raw_ns = max(point.raw_from_ns, kept_from(policy.days(archived=archived), now_ns))
                buckets_ns = max(point.buckets_from_ns, kept_from(policy.buckets_days, now_ns))
                since[point.gateway_id, point.signal] = raw_ns
                of_count[point.gateway_id, point.signal] = count
                if raw_ns or buckets_ns:
                    points.setdefault((point.gateway_id, id(count), raw_ns, buckets_ns), []).append(point.id)
                    chosen[id(count)] = count
            for (gateway_id, number, raw_ns, buckets_ns), ids in points.items():
                for n in range(0, len(ids), IDS_MAX):
                    some = {"tenant": tenant, "gateway_id": gateway_id, "points": ids[n : n + IDS_MAX]}
                    _count_rows(connection, some, chosen[number], raw_ns, buckets_ns)
            place = (0, 0)
            before_ns = max(since.values(), default=0)
            while before_ns:
                span = {"tenant": tenant, "gateway_id": place[0], "day_ns": place[1], "before_ns": before_ns}
                rows = connection.execute(_FILES, span).mappings().all()
                for file in (archive_of(dict(row)) for row in rows):
                    end_ns = file.day.day_ns + DAY_NS
                    gone = [g for g in file.groups if end_ns <= since.get((file.day.gateway_id, g.signal), 0)]
                    for group in gone:
                        count = of_count[file.day.gateway_id, group.signal]
                        count.archived += group.rows
                        count.span(file.day.day_ns, end_ns)
                    if len(gone) == len(file.groups):
                        files += 1
                        file_bytes += file.size
                if len(rows) < FILES_AT_ONCE:
                    break
                place = (rows[-1]["gateway_id"], rows[-1]["day_ns"])
        going = [count.going() for count in counts.values()]
        return RetentionPlan(archived, (*going, *([bare.going()] if bare.signals else [])), files, file_bytes)


def _count_rows(connection: Connection, some: dict[str, object], count: _Count, raw_ns: int, buckets_ns: int) -> None:
    samples, size, first_ns, last_ns = connection.execute(_HOURS, {**some, "before_ns": raw_ns}).one()
    if samples:
        count.samples += int(samples)
        count.bytes += int(size)
        count.span(first_ns, last_ns + _HOUR_NS)
    rows, size, first_ns, last_ns = connection.execute(_BUCKETS, {**some, "before_ns": buckets_ns}).one()
    if rows:
        count.buckets += int(rows)
        count.bytes += int(size)
        count.span(first_ns, last_ns + _HOUR_NS)


_HOUR_NS: Final = DAY_NS // 24
_POINTS = select(
    h.points.c.id, h.points.c.gateway_id, h.points.c.signal, h.points.c.raw_from_ns, h.points.c.buckets_from_ns
).where(h.points.c.tenant == bindparam("tenant"))
_HOURS = select(
    func.sum(h.hours.c.count), func.sum(func.length(h.hours.c.payload)), func.min(h.hours.c.hour_ns),
    func.max(h.hours.c.hour_ns),
).where(
    h.hours.c.tenant == bindparam("tenant"),
    h.hours.c.gateway_id == bindparam("gateway_id"),
    h.hours.c.point_id.in_(bindparam("points", expanding=True)),
    h.hours.c.hour_ns < bindparam("before_ns"),
)  # fmt: skip
_BUCKETS = select(
    func.count(), func.sum(func.length(h.buckets.c.payload)), func.min(h.buckets.c.start_ns),
    func.max(h.buckets.c.start_ns),
).where(
    h.buckets.c.tenant == bindparam("tenant"),
    h.buckets.c.gateway_id == bindparam("gateway_id"),
    h.buckets.c.point_id.in_(bindparam("points", expanding=True)),
    h.buckets.c.start_ns < bindparam("before_ns"),
)  # fmt: skip
_FILES = (
    select(a)
    .where(
        a.c.tenant == bindparam("tenant"),
        a.c.state == int(FileState.KEPT),
        a.c.day_ns < bindparam("before_ns"),
        (a.c.gateway_id > bindparam("gateway_id"))
        | ((a.c.gateway_id == bindparam("gateway_id")) & (a.c.day_ns > bindparam("day_ns"))),
    )
    .order_by(a.c.gateway_id, a.c.day_ns)
    .limit(FILES_AT_ONCE)
)
