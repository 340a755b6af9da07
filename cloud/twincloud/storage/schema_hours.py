"""The tables of compacted history: points, their hours, where the samples came from, buckets, and what is kept.

    points ─┬─ hours (one row per point, hour and part) ─── hour_parts (the blocks a part was made of)
            └─ buckets (min, max, mean, last, count)         commits (number -> time), commit_spans (the same, packed)

A part is what one step of compaction brought to an hour; late data make a further part, and parts are merged later.
`commits` is of the whole database, as the counter that numbers them: a commit may hold items of several tenants.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, SmallInteger, String, Table, UniqueConstraint

from twincloud.storage.schema import Id, big, blob, metadata, text


def _tenant() -> Column[str]:
    return Column("tenant", String, primary_key=True)


def _gateway() -> Column[int]:
    return Column("gateway_id", Id, ForeignKey("gateways.id"), primary_key=True, autoincrement=False)


def _key(name: str) -> Column[int]:
    return Column(name, BigInteger, primary_key=True, autoincrement=False)


points = Table(
    "points",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("tenant", String, nullable=False),
    Column("gateway_id", Id, ForeignKey("gateways.id"), nullable=False),
    text("signal"),
    Column("kind", SmallInteger, nullable=False),
    text("unit"),
    # How its values and times are packed; a point whose packing changes is a new one.
    big("exponent"),
    big("step", 1),
    big("period_ns"),
    big("time_step_ns"),
    # Event times before which retention keeps no samples, and no buckets: equal for all points of a signal, multiples
    # of a day. They only grow; what lies before them is in no answer, deleted or not.
    big("raw_from_ns"),
    big("buckets_from_ns"),
    UniqueConstraint(
        "tenant",
        "gateway_id",
        "signal",
        "kind",
        "unit",
        "exponent",
        "step",
        "period_ns",
        "time_step_ns",
        name="uq_points_tenant",
    ),
)

hours = Table(
    "hours",
    metadata,
    _tenant(),
    _gateway(),
    _key("point_id"),
    _key("hour_ns"),
    _key("part"),
    _key("piece"),
    big("count"),
    blob("payload"),
    Index("ix_hours_tenant", "tenant", "gateway_id", "hour_ns"),
)

hour_parts = Table(
    "hour_parts",
    metadata,
    _tenant(),
    _gateway(),
    _key("hour_ns"),
    _key("part"),
    big("samples"),
    big("block_min"),
    big("block_max"),
    Column("bucketed", Boolean, nullable=False, default=False, server_default="0"),
    blob("payload"),
    Index("ix_hour_parts_tenant", "tenant", "gateway_id", "block_max"),
    Index("ix_hour_parts_bucketed", "bucketed", "hour_ns"),
)

buckets = Table(
    "buckets",
    metadata,
    _tenant(),
    _gateway(),
    _key("point_id"),
    _key("width_ns"),
    _key("start_ns"),
    blob("payload"),
)

commits = Table(
    "commits",
    metadata,
    Column("number", Id, primary_key=True, autoincrement=False),
    big("time_ns"),
    Index(None, "time_ns"),
)

commit_spans = Table(
    "commit_spans",
    metadata,
    Column("first_number", Id, primary_key=True, autoincrement=False),
    big("last_number"),
    big("first_ns"),
    big("last_ns"),
    blob("payload"),
    Index(None, "first_ns"),
)

retention = Table(
    "retention",
    metadata,
    _tenant(),
    Column("pattern", String, primary_key=True),
    # See `twins.retention.Policy`.
    big("raw_days"),
    big("buckets_days"),
    big("archive_days"),
    big("changed_ns"),
    text("changed_by"),
)
