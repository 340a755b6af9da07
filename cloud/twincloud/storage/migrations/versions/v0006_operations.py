"""Operations: long work that people ask for, so that it survives a restart and is done by one worker."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the table, empty."""
    op.create_table(
        "operations",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        *(sa.Column(name, sa.String(), nullable=False, server_default="") for name in ("kind", "target", "digest")),
        sa.Column("state", sa.String(), nullable=False, server_default=""),
        sa.Column("progress_permille", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False, server_default="") for name in ("reason", "detail", "hint")),
        sa.Column("created_by", sa.String(), nullable=False, server_default=""),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
            for name in ("created_ns", "started_ns", "ended_ns")
        ),
        sa.Column("worker", sa.String(), nullable=False, server_default=""),
        sa.Column("lease_until_ns", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("cancelling", sa.Boolean(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("tenant", "number", name=op.f("pk_operations")),
    )
    op.create_index(op.f("ix_operations_tenant_digest"), "operations", ["tenant", "digest"])
    op.create_index(op.f("ix_operations_state_number"), "operations", ["state", "number"])


def downgrade() -> None:
    """Forgets them."""
    op.drop_table("operations")
