"""First version of the tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Makes all tables."""
    _part_1()
    _part_2()
    _part_3()
    _part_4()
    _part_5()
    _part_6()


def downgrade() -> None:
    """Drops all tables."""
    op.drop_table("twin_states")
    op.drop_table("twin_owners")
    op.drop_table("marks")
    op.drop_index(op.f("ix_losses_gateway_id_id"), table_name="losses")
    op.drop_table("losses")
    op.drop_index(op.f("ix_dead_letters_gateway_id_id"), table_name="dead_letters")
    op.drop_table("dead_letters")
    op.drop_index(op.f("ix_blocks_gateway_id_wide_t_min_ns"), table_name="blocks")
    op.drop_index(op.f("ix_blocks_gateway_id_id"), table_name="blocks")
    op.drop_table("blocks")
    op.drop_index(op.f("ix_twins_gateway_id"), table_name="twins")
    op.drop_table("twins")
    op.drop_table("running")
    op.drop_table("invites")
    op.drop_table("gateway_schemas")
    op.drop_index(op.f("ix_directives_gateway_id_outcome"), table_name="directives")
    op.drop_table("directives")
    op.drop_table("boots")
    op.drop_table("sites")
    op.drop_table("signers")
    op.drop_index(op.f("ix_models_tenant_digest"), table_name="models")
    op.drop_table("models")
    op.drop_table("gateways")
    op.drop_table("tokens")
    op.drop_table("tenants")
    op.drop_table("schemas")
    op.drop_index(op.f("ix_events_tenant_id"), table_name="events")
    op.drop_table("events")
    op.drop_table("counters")


def _part_1() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    op.create_table(
        "events",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("site", sa.String(), server_default="", nullable=False),
        sa.Column("kind", sa.String(), server_default="", nullable=False),
        sa.Column("subject", sa.String(), server_default="", nullable=False),
        sa.Column("t_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_tenant_id"), "events", ["tenant", "id"], unique=False)
    op.create_table(
        "schemas",
        sa.Column("id", _ID, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schemas")),
        sa.UniqueConstraint("digest", name=op.f("uq_schemas_digest")),
    )
    op.create_table(
        "tenants",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("tenant", name=op.f("pk_tenants")),
    )
    op.create_table(
        "tokens",
        sa.Column("lookup", sa.LargeBinary(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.String(), server_default="", nullable=False),
        sa.Column("tenant", sa.String(), server_default="", nullable=False),
        sa.Column("role", sa.String(), server_default="", nullable=False),
        sa.Column("created_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("expires_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("lookup", name=op.f("pk_tokens")),
    )


def _part_2() -> None:
    op.create_table(
        "gateways",
        sa.Column("id", _ID, nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("state", sa.String(), server_default="invited", nullable=False),
        sa.Column("connected", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("session", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("head_boot", sa.LargeBinary(), nullable=True),
        sa.Column("boot_counter", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("agent_version", sa.String(), server_default="", nullable=False),
        sa.Column("clock", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("last_seen_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("backlog_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("backlog_samples", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("oldest_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("blocks", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("samples", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("duplicates_refused", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("certificate_serial", sa.String(), server_default="", nullable=False),
        sa.Column("certificate_until_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("schema_id", _ID, nullable=True),
        sa.Column("hello_schemas", sa.LargeBinary(), server_default="", nullable=False),
        sa.Column("created_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["schema_id"], ["schemas.id"], name=op.f("fk_gateways_schema_id_schemas")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_gateways_tenant_tenants")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gateways")),
        sa.UniqueConstraint("tenant", "site", "gateway", name=op.f("uq_gateways_tenant_site_gateway")),
    )
    op.create_table(
        "models",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), server_default="", nullable=False),
        sa.Column("model_id", sa.String(), server_default="", nullable=False),
        sa.Column("signer", sa.String(), server_default="", nullable=False),
        sa.Column("size", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("ports", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_models_tenant_tenants")),
        sa.PrimaryKeyConstraint("tenant", "name", "version", name=op.f("pk_models")),
    )
    op.create_index(op.f("ix_models_tenant_digest"), "models", ["tenant", "digest"], unique=False)
    op.create_table(
        "signers",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), server_default="", nullable=False),
        sa.Column("public_pem", sa.LargeBinary(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_signers_tenant_tenants")),
        sa.PrimaryKeyConstraint("tenant", "key_id", name=op.f("pk_signers")),
    )


def _part_3() -> None:
    op.create_table(
        "sites",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_sites_tenant_tenants")),
        sa.PrimaryKeyConstraint("tenant", "site", name=op.f("pk_sites")),
    )
    op.create_table(
        "boots",
        sa.Column("id", _ID, nullable=False),
        sa.Column("gateway_id", _ID, nullable=False),
        sa.Column("boot", sa.LargeBinary(), nullable=False),
        sa.Column("previous", sa.LargeBinary(), nullable=False),
        sa.Column("counter", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("started_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("clock", sa.SmallInteger(), nullable=False),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateways.id"], name=op.f("fk_boots_gateway_id_gateways")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_boots")),
        sa.UniqueConstraint("gateway_id", "boot", name=op.f("uq_boots_gateway_id_boot")),
    )
    op.create_table(
        "directives",
        sa.Column("number", _ID, autoincrement=False, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("gateway_id", _ID, nullable=False),
        sa.Column("kind", sa.String(), server_default="", nullable=False),
        sa.Column("target", sa.String(), server_default="", nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("name", sa.String(), server_default="", nullable=False),
        sa.Column("digest", sa.String(), server_default="", nullable=False),
        sa.Column("size", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_by", sa.String(), server_default="", nullable=False),
        sa.Column("deadline_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("outcome", sa.String(), server_default="", nullable=False),
        sa.Column("reason", sa.String(), server_default="", nullable=False),
        sa.Column("detail", sa.String(), server_default="", nullable=False),
        sa.Column("ended_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateways.id"], name=op.f("fk_directives_gateway_id_gateways")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_directives")),
        sa.UniqueConstraint("gateway_id", "target", "version", name=op.f("uq_directives_gateway_id_target_version")),
        sa.UniqueConstraint("id", name=op.f("uq_directives_id")),
    )
    op.create_index(op.f("ix_directives_gateway_id_outcome"), "directives", ["gateway_id", "outcome"], unique=False)
    op.create_table(
        "gateway_schemas",
        sa.Column("gateway_id", _ID, nullable=False),
        sa.Column("schema_id", _ID, nullable=False),
        sa.Column("received_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateways.id"], name=op.f("fk_gateway_schemas_gateway_id_gateways")),
        sa.ForeignKeyConstraint(["schema_id"], ["schemas.id"], name=op.f("fk_gateway_schemas_schema_id_schemas")),
        sa.PrimaryKeyConstraint("gateway_id", "schema_id", name=op.f("pk_gateway_schemas")),
    )


def _part_4() -> None:
    op.create_table(
        "invites",
        sa.Column("lookup", sa.LargeBinary(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("gateway_id", _ID, nullable=False),
        sa.Column("created_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("expires_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("used_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateways.id"], name=op.f("fk_invites_gateway_id_gateways")),
        sa.PrimaryKeyConstraint("lookup", name=op.f("pk_invites")),
    )
    op.create_table(
        "running",
        sa.Column("gateway_id", _ID, nullable=False),
        sa.Column("twin", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), server_default="", nullable=False),
        sa.Column("name", sa.String(), server_default="", nullable=False),
        sa.Column("tier", sa.String(), server_default="", nullable=False),
        sa.Column("at_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateways.id"], name=op.f("fk_running_gateway_id_gateways")),
        sa.PrimaryKeyConstraint("gateway_id", "twin", name=op.f("pk_running")),
    )
    op.create_table(
        "twins",
        sa.Column("id", _ID, nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("twin", sa.String(), nullable=False),
        sa.Column("gateway_id", _ID, nullable=False),
        sa.Column("schema_id", _ID, nullable=False),
        sa.Column("definition", sa.String(), server_default="", nullable=False),
        sa.Column("binding", sa.LargeBinary(), nullable=False),
        sa.Column("retired", sa.Boolean(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateways.id"], name=op.f("fk_twins_gateway_id_gateways")),
        sa.ForeignKeyConstraint(["schema_id"], ["schemas.id"], name=op.f("fk_twins_schema_id_schemas")),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_twins_tenant_tenants")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_twins")),
        sa.UniqueConstraint("tenant", "site", "twin", name=op.f("uq_twins_tenant_site_twin")),
    )
    op.create_index(op.f("ix_twins_gateway_id"), "twins", ["gateway_id"], unique=False)
    op.create_table(
        "blocks",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("commit_no", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("gateway_id", _ID, nullable=False),
        sa.Column("boot_id", _ID, nullable=False),
        sa.Column("stream", sa.SmallInteger(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("schema_id", _ID, nullable=False),
        sa.Column("wide", sa.Boolean(), nullable=False),
        sa.Column("t_min_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("t_max_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("received_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("committed_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["boot_id"], ["boots.id"], name=op.f("fk_blocks_boot_id_boots")),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateways.id"], name=op.f("fk_blocks_gateway_id_gateways")),
        sa.ForeignKeyConstraint(["schema_id"], ["schemas.id"], name=op.f("fk_blocks_schema_id_schemas")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blocks")),
        sa.UniqueConstraint("boot_id", "stream", "first_seq", name=op.f("uq_blocks_boot_id_stream_first_seq")),
    )


def _part_5() -> None:
    op.create_index(op.f("ix_blocks_gateway_id_id"), "blocks", ["gateway_id", "id"], unique=False)
    op.create_index(
        op.f("ix_blocks_gateway_id_wide_t_min_ns"), "blocks", ["gateway_id", "wide", "t_min_ns"], unique=False
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("commit_no", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("gateway_id", _ID, nullable=False),
        sa.Column("boot_id", _ID, nullable=False),
        sa.Column("stream", sa.SmallInteger(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reason", sa.String(), server_default="", nullable=False),
        sa.Column("received_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("size", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("schema_digest", sa.LargeBinary(), nullable=False),
        sa.Column("crc32c", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["boot_id"], ["boots.id"], name=op.f("fk_dead_letters_boot_id_boots")),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateways.id"], name=op.f("fk_dead_letters_gateway_id_gateways")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
    )
    op.create_index(op.f("ix_dead_letters_gateway_id_id"), "dead_letters", ["gateway_id", "id"], unique=False)
    op.create_table(
        "losses",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("commit_no", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("gateway_id", _ID, nullable=False),
        sa.Column("boot_id", _ID, nullable=False),
        sa.Column("kind", sa.String(), server_default="", nullable=False),
        sa.Column("reason", sa.String(), server_default="", nullable=False),
        sa.Column("stream", sa.SmallInteger(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("from_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("to_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("device", sa.String(), server_default="", nullable=False),
        sa.Column("received_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["boot_id"], ["boots.id"], name=op.f("fk_losses_boot_id_boots")),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateways.id"], name=op.f("fk_losses_gateway_id_gateways")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_losses")),
    )
    op.create_index(op.f("ix_losses_gateway_id_id"), "losses", ["gateway_id", "id"], unique=False)
    op.create_table(
        "marks",
        sa.Column("boot_id", _ID, nullable=False),
        sa.Column("stream", sa.SmallInteger(), nullable=False),
        sa.Column("next_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["boot_id"], ["boots.id"], name=op.f("fk_marks_boot_id_boots")),
        sa.PrimaryKeyConstraint("boot_id", "stream", name=op.f("pk_marks")),
    )
    op.create_table(
        "twin_owners",
        sa.Column("twin_id", _ID, nullable=False),
        sa.Column("gateway_id", _ID, nullable=False),
        sa.Column("since_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateways.id"], name=op.f("fk_twin_owners_gateway_id_gateways")),
        sa.ForeignKeyConstraint(["twin_id"], ["twins.id"], name=op.f("fk_twin_owners_twin_id_twins")),
        sa.PrimaryKeyConstraint("twin_id", "gateway_id", name=op.f("pk_twin_owners")),
    )


def _part_6() -> None:
    op.create_table(
        "twin_states",
        sa.Column("twin_id", _ID, autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("updated_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["twin_id"], ["twins.id"], name=op.f("fk_twin_states_twin_id_twins")),
        sa.PrimaryKeyConstraint("twin_id", name=op.f("pk_twin_states")),
    )
