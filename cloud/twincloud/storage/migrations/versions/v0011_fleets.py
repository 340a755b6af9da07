"""Fleets, by name or by filter; twins found by what changed last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the tables, empty."""
    op.create_table(
        "fleets",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("fleet", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False, server_default=""),
        sa.Column("filter", sa.String(), nullable=False, server_default=""),
        sa.Column("revision", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("created_ns", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("updated_ns", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("updated_by", sa.String(), nullable=False, server_default=""),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_fleets_tenant_tenants")),
        sa.PrimaryKeyConstraint("tenant", "fleet", name=op.f("pk_fleets")),
    )
    keys = ("tenant", "fleet", "site", "twin")
    op.create_table(
        "fleet_members",
        *(sa.Column(key, sa.String(), nullable=False) for key in keys),
        sa.PrimaryKeyConstraint(*keys, name=op.f("pk_fleet_members")),
    )
    op.create_index(op.f("ix_fleet_members_tenant"), "fleet_members", ["tenant", "site", "twin"])


def downgrade() -> None:
    """Forgets them."""
    op.drop_table("fleet_members")
    op.drop_table("fleets")
