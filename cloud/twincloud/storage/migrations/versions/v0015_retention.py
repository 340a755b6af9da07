"""Retention keeps samples, the buckets of them and archived days: a column for each, in the place of two tiers less."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing has written these tables' columns so far."""
    with op.batch_alter_table("retention") as batch:
        batch.alter_column("minutes_days", new_column_name="buckets_days")
        batch.add_column(sa.Column("archive_days", sa.BigInteger(), nullable=False, server_default="0"))
        batch.drop_column("quarters_days")
        batch.drop_column("hours_days")
    with op.batch_alter_table("points") as batch:
        batch.alter_column("minutes_from_ns", new_column_name="buckets_from_ns")
        batch.drop_column("quarters_from_ns")
        batch.drop_column("hours_from_ns")


def downgrade() -> None:
    """Gives the columns back, empty."""
    with op.batch_alter_table("points") as batch:
        for name in ("quarters_from_ns", "hours_from_ns"):
            batch.add_column(sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
        batch.alter_column("buckets_from_ns", new_column_name="minutes_from_ns")
    with op.batch_alter_table("retention") as batch:
        for name in ("hours_days", "quarters_days"):
            batch.add_column(sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
        batch.drop_column("archive_days")
        batch.alter_column("buckets_days", new_column_name="minutes_days")
