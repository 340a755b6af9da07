"""Twins that run in the coordinator: what feeds them, how far they are, and their checkpoints."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=False, server_default="")


def _big(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")


def _blob(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def _key() -> list[sa.Column[str]]:
    return [sa.Column(name, sa.String(), nullable=False) for name in ("tenant", "site", "twin")]


def upgrade() -> None:
    """Adds the tables, empty."""
    op.create_table(
        "cloud_twins",
        *_key(),
        _big("version"), _text("model"), _text("digest"), _blob("wiring"), _big("wait_ns"), _big("since_ns"),
        _text("created_by"), _big("created_ns"), _big("tick_ns"), _blob("state"), _big("through"), _blob("reached"),
        _big("ticks"), _big("revised"), _big("too_late"), _big("updated_ns"), _text("reason"), _text("detail"),
        sa.PrimaryKeyConstraint("tenant", "site", "twin", name=op.f("pk_cloud_twins")),
    )  # fmt: skip
    op.create_table(
        "cloud_checkpoints",
        *_key(),
        sa.Column("tick_ns", sa.BigInteger(), autoincrement=False, nullable=False),
        _big("version"),
        _blob("state"),
        sa.PrimaryKeyConstraint("tenant", "site", "twin", "tick_ns", name=op.f("pk_cloud_checkpoints")),
    )


def downgrade() -> None:
    """Forgets them; what they said stays in history."""
    op.drop_table("cloud_checkpoints")
    op.drop_table("cloud_twins")
