"""Archived days: one row per file."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the table, empty."""

    def big(name: str) -> sa.Column[int]:
        return sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")

    def text(name: str) -> sa.Column[str]:
        return sa.Column(name, sa.String(), nullable=False, server_default="")

    gateway = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "archives",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("gateway_id", gateway, autoincrement=False, nullable=False),
        sa.Column("day_ns", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("generation", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False, server_default="0"),
        text("object_key"),
        text("worker"),
        big("lease_until_ns"),
        text("upload"),
        text("sha256"),
        *(big(name) for name in ("size", "samples", "from_ns", "to_ns", "commit_max", "created_ns", "changed_ns")),
        sa.Column("row_groups", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "gateway_id", "day_ns", "generation", name=op.f("pk_archives")),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateways.id"], name=op.f("fk_archives_gateway_id_gateways")),
    )
    op.create_index(op.f("ix_archives_state_changed_ns"), "archives", ["state", "changed_ns"])


def downgrade() -> None:
    """Forgets them; only for an archive that is empty."""
    op.drop_table("archives")
