"""Alarms in the order people list them, so that a page of them costs the same however many there are."""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_ORDER = ["rank", "changed_ns", "id"]
_COUNTED = ["state", "active", "acked"]


def upgrade() -> None:
    """Puts indexes in the order of listings in the place of the one that only chose."""
    op.drop_index(op.f("ix_alarms_tenant_standing"), "alarms")
    op.create_index(op.f("ix_alarms_standing"), "alarms", ["tenant", "standing", *_ORDER, *_COUNTED])
    op.create_index(op.f("ix_alarms_rank"), "alarms", ["tenant", *_ORDER])


def downgrade() -> None:
    """Takes them away."""
    op.drop_index(op.f("ix_alarms_rank"), "alarms")
    op.drop_index(op.f("ix_alarms_standing"), "alarms")
    op.create_index(op.f("ix_alarms_tenant_standing"), "alarms", ["tenant", "standing"])
