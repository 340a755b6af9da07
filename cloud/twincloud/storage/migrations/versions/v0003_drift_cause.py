"""What the edge has found to be the cause of a drift, beside the model that runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the cause, unknown so far."""
    op.add_column("running", sa.Column("isolation", sa.String(), server_default="", nullable=False))


def downgrade() -> None:
    """Forgets the cause."""
    with op.batch_alter_table("running") as batch:
        batch.drop_column("isolation")
