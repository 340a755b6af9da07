"""What each gateway lets be commanded, as it said in its session."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column, unknown so far: the gateways alone judge then."""
    op.add_column("gateways", sa.Column("commandables", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    """Forgets it."""
    with op.batch_alter_table("gateways") as batch:
        batch.drop_column("commandables")
