"""Directives that are no artifact say themselves what is desired: a configuration, an alarm that was acknowledged."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Those before have none."""
    with op.batch_alter_table("directives") as batch:
        batch.add_column(sa.Column("content", sa.LargeBinary(), nullable=False, server_default=""))


def downgrade() -> None:
    """Those of other kinds cannot be told any more."""
    op.execute(sa.text("DELETE FROM directives WHERE kind <> 'model'"))
    with op.batch_alter_table("directives") as batch:
        batch.drop_column("content")
