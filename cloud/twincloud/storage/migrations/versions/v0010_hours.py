"""Compacted history: points, their hours and buckets, the times of commits, and what retention keeps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _big(name: str, default: int = 0) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default=str(default))


def _keys(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=False) for name in names]


def _tenant() -> sa.Column[str]:
    return sa.Column("tenant", sa.String(), nullable=False)


def _gateway() -> sa.Column[int]:
    return sa.Column("gateway_id", ID, autoincrement=False, nullable=False)


def _of_gateway(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["gateway_id"], ["gateways.id"], name=op.f(f"fk_{table}_gateway_id_gateways"))


def _payload() -> sa.Column[bytes]:
    return sa.Column("payload", sa.LargeBinary(), nullable=False)


def upgrade() -> None:
    """Adds the tables, empty but for the times of the commits that are there."""
    identity = ["tenant", "gateway_id", "signal", "kind", "unit", "exponent", "step", "period_ns", "time_step_ns"]
    op.create_table(
        "points",
        sa.Column("id", ID, autoincrement=False, nullable=False), _tenant(), _gateway(),
        sa.Column("signal", sa.String(), nullable=False, server_default=""),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False, server_default=""),
        _big("exponent"), _big("step", 1), _big("period_ns"), _big("time_step_ns"),
        _big("raw_from_ns"), _big("minutes_from_ns"), _big("quarters_from_ns"), _big("hours_from_ns"),
        _of_gateway("points"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_points")),
        sa.UniqueConstraint(*identity, name=op.f("uq_points_tenant")),
    )  # fmt: skip
    keys = ("point_id", "hour_ns", "part", "piece")
    op.create_table(
        "hours",
        _tenant(), _gateway(), *_keys(*keys), _big("count"), _payload(), _of_gateway("hours"),
        sa.PrimaryKeyConstraint("tenant", "gateway_id", *keys, name=op.f("pk_hours")),
    )  # fmt: skip
    op.create_index(op.f("ix_hours_tenant"), "hours", ["tenant", "gateway_id", "hour_ns"])
    op.create_table(
        "hour_parts",
        _tenant(), _gateway(), *_keys("hour_ns", "part"), _big("samples"), _big("block_min"), _big("block_max"),
        sa.Column("bucketed", sa.Boolean(), nullable=False, server_default=sa.false()),
        _payload(), _of_gateway("hour_parts"),
        sa.PrimaryKeyConstraint("tenant", "gateway_id", "hour_ns", "part", name=op.f("pk_hour_parts")),
    )  # fmt: skip
    op.create_index(op.f("ix_hour_parts_tenant"), "hour_parts", ["tenant", "gateway_id", "block_max"])
    op.create_index(op.f("ix_hour_parts_bucketed"), "hour_parts", ["bucketed", "hour_ns"])
    op.create_table(
        "buckets",
        _tenant(), _gateway(), *_keys("point_id", "width_ns", "start_ns"), _payload(), _of_gateway("buckets"),
        sa.PrimaryKeyConstraint(
            "tenant", "gateway_id", "point_id", "width_ns", "start_ns", name=op.f("pk_buckets")
        ),
    )  # fmt: skip
    op.create_table(
        "commits",
        sa.Column("number", ID, autoincrement=False, nullable=False), _big("time_ns"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_commits")),
    )  # fmt: skip
    op.create_index(op.f("ix_commits_time_ns"), "commits", ["time_ns"])
    op.create_table(
        "commit_spans",
        sa.Column("first_number", ID, autoincrement=False, nullable=False),
        _big("last_number"), _big("first_ns"), _big("last_ns"), _payload(),
        sa.PrimaryKeyConstraint("first_number", name=op.f("pk_commit_spans")),
    )  # fmt: skip
    op.create_index(op.f("ix_commit_spans_first_ns"), "commit_spans", ["first_ns"])
    op.create_table(
        "retention",
        _tenant(), sa.Column("pattern", sa.String(), nullable=False),
        _big("raw_days"), _big("minutes_days"), _big("quarters_days"), _big("hours_days"), _big("changed_ns"),
        sa.Column("changed_by", sa.String(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("tenant", "pattern", name=op.f("pk_retention")),
    )  # fmt: skip
    # Clocks may have stepped back between old commits: a commit counts from the latest time before it on.
    op.execute(
        sa.text(
            "INSERT INTO commits (number, time_ns) SELECT commit_no, MAX(MAX(committed_ns)) OVER (ORDER BY commit_no)"
            " FROM blocks GROUP BY commit_no"
        )
    )


def downgrade() -> None:
    """Refused once blocks are compacted: the way back is the backup."""
    raise NotImplementedError("restore the backup made before the upgrade")
