"""The newest change of a tenant's twins is found without reading them all."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

INDEXES = {"twins": "revision", "twin_records": "revision", "running": "at_ns"}


def upgrade() -> None:
    """Adds the indexes, and gives that of members its full name."""
    for table, column in INDEXES.items():
        op.create_index(op.f(f"ix_{table}_tenant_{column}"), table, ["tenant", column])
    op.drop_index(op.f("ix_fleet_members_tenant"), "fleet_members")
    op.create_index(op.f("ix_fleet_members_tenant_site_twin"), "fleet_members", ["tenant", "site", "twin"])


def downgrade() -> None:
    """Removes them."""
    op.drop_index(op.f("ix_fleet_members_tenant_site_twin"), "fleet_members")
    op.create_index(op.f("ix_fleet_members_tenant"), "fleet_members", ["tenant", "site", "twin"])
    for table, column in INDEXES.items():
        op.drop_index(op.f(f"ix_{table}_tenant_{column}"), table)
