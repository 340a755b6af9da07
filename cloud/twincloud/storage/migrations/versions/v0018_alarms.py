"""Alarms: the newest record of each, with what listings sort and choose by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_TEXTS = ("tenant", "id", "rule", "source", "twins", "state", "priority", "cause", "record")
_NUMBERS = (
    "occurrence", "since_ns", "changed_ns", "until_ns", "received_ns", "committed_ns", "boot_id", "seq",
)  # fmt: skip


def upgrade() -> None:
    """Adds the table, empty: alarms that stand are told anew when they change, and no gateway told any so far."""
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "alarms",
        sa.Column("gateway_id", key, autoincrement=False, nullable=False),
        sa.Column("alarm", sa.String(), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False, server_default="") for name in _TEXTS),
        *(sa.Column(name, sa.Boolean(), nullable=False) for name in ("active", "acked", "standing")),
        *(sa.Column(name, sa.SmallInteger(), nullable=False) for name in ("severity", "rank")),
        *(sa.Column(name, sa.BigInteger(), nullable=False, server_default="0") for name in _NUMBERS),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateways.id"], name=op.f("fk_alarms_gateway_id_gateways")),
        sa.PrimaryKeyConstraint("gateway_id", "alarm", name=op.f("pk_alarms")),
    )
    op.create_index(op.f("ix_alarms_tenant_id"), "alarms", ["tenant", "id"])
    op.create_index(op.f("ix_alarms_tenant_standing"), "alarms", ["tenant", "standing"])


def downgrade() -> None:
    """Forgets them; their records stay in history."""
    op.drop_table("alarms")
