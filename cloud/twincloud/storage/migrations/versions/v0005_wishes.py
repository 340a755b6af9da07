"""Coarser periods the coordinator asks gateways for, so that they hold over restarts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the table, empty."""
    op.create_table(
        "wishes",
        sa.Column("gateway_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("stream", sa.SmallInteger(), nullable=False),
        sa.Column("signal", sa.String(), nullable=False, server_default=""),
        sa.Column("period_ns", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("until_ns", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("created_ns", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("created_by", sa.String(), nullable=False, server_default=""),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateways.id"], name=op.f("fk_wishes_gateway_id_gateways")),
        sa.PrimaryKeyConstraint("gateway_id", "stream", "signal", name=op.f("pk_wishes")),
    )


def downgrade() -> None:
    """Forgets them."""
    op.drop_table("wishes")
