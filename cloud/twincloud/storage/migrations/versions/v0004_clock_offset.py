"""By how much the clock of each boot was off, kept beside event times that nobody rewrites."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the offset to boots, and of the present one to gateways, unknown so far."""
    for table in ("boots", "gateways"):
        op.add_column(table, sa.Column("offset_ns", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Forgets the offsets."""
    for table in ("boots", "gateways"):
        with op.batch_alter_table(table) as batch:
            batch.drop_column("offset_ns")
