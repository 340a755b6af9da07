"""Requests that carried an Idempotency-Key, so that they are carried out once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the table, empty."""
    op.create_table(
        "requests",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("owner", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("lease_ns", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("until_ns", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("headers", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "digest", name=op.f("pk_requests")),
    )
    op.create_index(op.f("ix_requests_tenant_until_ns"), "requests", ["tenant", "until_ns"])


def downgrade() -> None:
    """Forgets them."""
    op.drop_table("requests")
