"""What people say of twins: definitions, records, tags and relationships; every twin known so far gets its record."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the tables, and a record for each twin that a gateway has reported."""
    op.create_table(
        "definitions",
        *_texts("tenant", "name", "version"),
        _text("digest"),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        _big("created_ns"),
        _text("created_by"),
        *_keys("definitions", "tenant", "name", "version"),
    )
    op.create_table(
        "twin_records",
        *_texts("tenant", "site", "twin"),
        _text("definition"),
        _text("state", "active"),
        _text("run", "edge"),
        sa.Column("document", sa.LargeBinary(), nullable=False, server_default=""),
        _big("revision"),
        _big("created_ns"),
        _big("updated_ns"),
        _text("updated_by"),
        *_keys("twin_records", "tenant", "site", "twin"),
    )
    op.create_index(op.f("ix_twin_records_tenant_run_state"), "twin_records", ["tenant", "run", "state"])
    op.create_table(
        "twin_tags",
        *_texts("tenant", "site", "twin", "tag"),
        _text("value"),
        sa.PrimaryKeyConstraint("tenant", "site", "twin", "tag", name=op.f("pk_twin_tags")),
    )
    op.create_index(op.f("ix_twin_tags_tenant_tag_value"), "twin_tags", ["tenant", "tag", "value"])
    op.create_table(
        "relations",
        *_texts("tenant", "site", "twin", "name", "target_site", "target"),
        sa.Column("properties", sa.LargeBinary(), nullable=False),
        _big("revision"),
        _big("created_ns"),
        _big("updated_ns"),
        _text("updated_by"),
        *_keys("relations", "tenant", "site", "twin", "name", "target_site", "target"),
    )
    op.create_index(op.f("ix_relations_tenant_target_site_target"), "relations", ["tenant", "target_site", "target"])
    op.execute("INSERT INTO twin_records (tenant, site, twin) SELECT tenant, site, twin FROM twins")


def downgrade() -> None:
    """Forgets what people said."""
    for table in ("relations", "twin_tags", "twin_records", "definitions"):
        op.drop_table(table)


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.String(), nullable=False) for name in names]


def _text(name: str, default: str = "") -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=False, server_default=default)


def _big(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")


def _keys(table: str, *columns: str) -> list[sa.Constraint]:
    return [
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f(f"fk_{table}_tenant_tenants")),
        sa.PrimaryKeyConstraint(*columns, name=op.f(f"pk_{table}")),
    ]
