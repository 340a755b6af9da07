"""Commands: what devices were told to do, and the chain of every step of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=False, server_default="")


def _big(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")


def _blob(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def upgrade() -> None:
    """Adds the tables, empty."""
    op.create_table(
        "commands",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("gateway_id", _ID, nullable=False),
        _big("session"), _text("site"), _text("twin"), _big("kind"), _text("property"), _text("target"),
        _blob("arguments"), _text("unit"), _text("why"), _big("approvals"), _blob("approved_by"), _text("issued_by"),
        _text("state"), _text("reason"), _text("detail"), _blob("read_back"), _big("answered"), _big("issued_ns"),
        _big("deadline_ns"), _big("sent_ns"), _big("ended_ns"),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateways.id"], name=op.f("fk_commands_gateway_id_gateways")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_commands")),
    )  # fmt: skip
    op.create_index(op.f("ix_commands_gateway_id_state"), "commands", ["gateway_id", "state"])
    op.create_index("ix_commands_state", "commands", ["state", "deadline_ns"])
    op.create_index("ix_commands_tenant", "commands", ["tenant", "number"])
    op.create_index("ix_commands_site", "commands", ["tenant", "site", "twin", "number"])
    op.create_table(
        "command_steps",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        _text("command"), _text("step"), _big("at_ns"), _text("said_by"), _text("reason"), _text("detail"),
        _blob("content"), _blob("digest"),
        sa.PrimaryKeyConstraint("tenant", "number", name=op.f("pk_command_steps")),
    )  # fmt: skip
    op.create_index(op.f("ix_command_steps_command_number"), "command_steps", ["command", "number"])


def downgrade() -> None:
    """Forgets them."""
    op.drop_table("command_steps")
    op.drop_table("commands")
