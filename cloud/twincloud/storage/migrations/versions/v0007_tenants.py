"""The tenant in every row that had it only by its gateway, the replica of a session, documents all replicas share."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

OF_GATEWAY = (
    "boots", "gateway_schemas", "blocks", "losses", "dead_letters", "gateway_states", "twin_owners", "running",
    "directives", "wishes", "invites",
)  # fmt: skip


def upgrade() -> None:
    """Adds the columns, filled from the gateways, and the table, empty."""
    for table in (*OF_GATEWAY, "marks"):
        op.add_column(table, sa.Column("tenant", sa.String(), nullable=False, server_default=""))
    for table in OF_GATEWAY:
        of = f"(SELECT gateways.tenant FROM gateways WHERE gateways.id = {table}.gateway_id)"  # noqa: S608 - names of ours
        op.execute(sa.text(f"UPDATE {table} SET tenant = {of}"))  # noqa: S608 - names of ours
    op.execute(sa.text("UPDATE marks SET tenant = (SELECT boots.tenant FROM boots WHERE boots.id = marks.boot_id)"))
    op.add_column("gateways", sa.Column("replica", sa.String(), nullable=False, server_default=""))
    op.create_table(
        "documents",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name", name=op.f("pk_documents")),
    )
    missing = "NOT EXISTS (SELECT 1 FROM counters WHERE name = :name)"
    row = sa.text(f"INSERT INTO counters (name, value) SELECT :name, 0 WHERE {missing}")
    for name in ("row", "bindings"):
        op.get_bind().execute(row, {"name": name})


def downgrade() -> None:
    """Forgets them."""
    op.drop_table("documents")
    with op.batch_alter_table("gateways") as batch:
        batch.drop_column("replica")
    for table in (*OF_GATEWAY, "marks"):
        with op.batch_alter_table(table) as batch:
            batch.drop_column("tenant")
