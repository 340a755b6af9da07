"""The tables of the coordinator, portable between SQLite and PostgreSQL; migrations make them.

    tenants ─ sites ─ gateways ─┬─ boots ─ marks            who speaks, and up to where it is committed
                                ├─ blocks, losses, dead_letters   every item that ever came, in commit order
                                ├─ gateway_schemas ─ schemas      catalogues by digest
                                ├─ running, directives, wishes    what runs, what should, and how coarse
                                ├─ twins ─ twin_owners            what the readings make up
                                └─ gateway_states                 newest readings, one packed blob per gateway

Ids that grow with the commits (blocks, losses, dead letters, events) come from `counters`, so that none is ever
reused, whatever is deleted. Times are integer nanoseconds UTC.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = BigInteger().with_variant(Integer, "sqlite")


def _big(name: str, default: int = 0) -> Column[int]:
    return Column(name, BigInteger, nullable=False, default=default, server_default=str(default))


def _text(name: str, default: str = "") -> Column[str]:
    return Column(name, String, nullable=False, default=default, server_default=default)


def _blob(name: str) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False)


def _gateway() -> Column[int]:
    return Column("gateway_id", Id, ForeignKey("gateways.id"), nullable=False)


def _boot() -> Column[int]:
    return Column("boot_id", Id, ForeignKey("boots.id"), nullable=False)


counters = Table("counters", metadata, Column("name", String, primary_key=True), _big("value"))

tenants = Table("tenants", metadata, Column("tenant", String, primary_key=True), _big("created_ns"))

sites = Table(
    "sites",
    metadata,
    Column("tenant", String, ForeignKey("tenants.tenant"), primary_key=True),
    Column("site", String, primary_key=True),
    _big("created_ns"),
)

gateways = Table(
    "gateways",
    metadata,
    Column("id", Id, primary_key=True),
    Column("tenant", String, ForeignKey("tenants.tenant"), nullable=False),
    Column("site", String, nullable=False),
    Column("gateway", String, nullable=False),
    _text("state", "invited"),
    Column("connected", Boolean, nullable=False, default=False, server_default="0"),
    _big("session"),
    Column("head_boot", LargeBinary, nullable=True),
    _big("boot_counter"),
    Column("offset_ns", BigInteger, nullable=True),
    _text("agent_version"),
    Column("clock", SmallInteger, nullable=False, default=0, server_default="0"),
    _big("last_seen_ns"),
    _big("backlog_bytes"),
    _big("backlog_samples"),
    _big("oldest_ns"),
    _big("blocks"),
    _big("samples"),
    _big("duplicates_refused"),
    _text("certificate_serial"),
    _big("certificate_until_ns"),
    Column("schema_id", Id, ForeignKey("schemas.id"), nullable=True),
    Column("hello_schemas", LargeBinary, nullable=False, default=b"", server_default=""),
    _big("last_block"),
    _big("created_ns"),
    UniqueConstraint("tenant", "site", "gateway"),
)

boots = Table(
    "boots",
    metadata,
    Column("id", Id, primary_key=True),
    _gateway(),
    _blob("boot"),
    _blob("previous"),
    _big("counter"),
    _big("started_ns"),
    Column("clock", SmallInteger, nullable=False),
    # What our clock was ahead of the boot's when it last told; event times stay as they came.
    Column("offset_ns", BigInteger, nullable=True),
    UniqueConstraint("gateway_id", "boot"),
)

marks = Table(
    "marks",
    metadata,
    Column("boot_id", Id, ForeignKey("boots.id"), primary_key=True),
    Column("stream", SmallInteger, primary_key=True),
    _big("next_seq"),
)

schemas = Table(
    "schemas",
    metadata,
    Column("id", Id, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    _blob("content"),
)

gateway_schemas = Table(
    "gateway_schemas",
    metadata,
    Column("gateway_id", Id, ForeignKey("gateways.id"), primary_key=True),
    Column("schema_id", Id, ForeignKey("schemas.id"), primary_key=True),
    _big("received_ns"),
)

blocks = Table(
    "blocks",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    _big("commit_no"),
    _gateway(),
    _boot(),
    Column("stream", SmallInteger, nullable=False),
    _big("first_seq"),
    _big("last_seq"),
    Column("schema_id", Id, ForeignKey("schemas.id"), nullable=False),
    Column("wide", Boolean, nullable=False),
    _big("t_min_ns"),
    _big("t_max_ns"),
    _big("received_ns"),
    _big("committed_ns"),
    _blob("payload"),
    # The marks dedupe; this index is the second, independent lock on the same door.
    UniqueConstraint("boot_id", "stream", "first_seq"),
    Index(None, "gateway_id", "wide", "t_min_ns"),
    Index(None, "gateway_id", "id"),
)

losses = Table(
    "losses",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    _big("commit_no"),
    _gateway(),
    _boot(),
    _text("kind"),
    _text("reason"),
    Column("stream", SmallInteger, nullable=False),
    _big("first_seq"),
    _big("count"),
    _big("from_ns"),
    _big("to_ns"),
    _text("device"),
    _big("received_ns"),
    Index(None, "gateway_id", "id"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    _big("commit_no"),
    _gateway(),
    _boot(),
    Column("stream", SmallInteger, nullable=False),
    _big("first_seq"),
    _big("last_seq"),
    _text("reason"),
    _big("received_ns"),
    _big("size"),
    Column("schema_digest", LargeBinary, nullable=False),
    _big("crc32c"),
    _blob("payload"),
    Index(None, "gateway_id", "id"),
)

twins = Table(
    "twins",
    metadata,
    Column("id", Id, primary_key=True),
    Column("tenant", String, ForeignKey("tenants.tenant"), nullable=False),
    Column("site", String, nullable=False),
    Column("twin", String, nullable=False),
    _gateway(),
    Column("schema_id", Id, ForeignKey("schemas.id"), nullable=False),
    _text("definition"),
    _blob("binding"),
    Column("retired", Boolean, nullable=False, default=False, server_default="0"),
    _big("revision"),
    _big("updated_ns"),
    UniqueConstraint("tenant", "site", "twin"),
    Index(None, "gateway_id"),
)

gateway_states = Table(
    "gateway_states",
    metadata,
    Column("gateway_id", Id, ForeignKey("gateways.id"), primary_key=True, autoincrement=False),
    _big("through"),
    _blob("state"),
)

twin_owners = Table(
    "twin_owners",
    metadata,
    Column("twin_id", Id, ForeignKey("twins.id"), primary_key=True),
    Column("gateway_id", Id, ForeignKey("gateways.id"), primary_key=True),
    _big("since_ns"),
)

running = Table(
    "running",
    metadata,
    Column("gateway_id", Id, ForeignKey("gateways.id"), primary_key=True),
    Column("twin", String, primary_key=True),
    _text("digest"),
    _text("name"),
    _text("tier"),
    _text("isolation"),
    _big("at_ns"),
)

events = Table(
    "events",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("tenant", String, nullable=False),
    _text("site"),
    _text("kind"),
    _text("subject"),
    _big("t_ns"),
    _blob("body"),
    Index(None, "tenant", "id"),
)

signers = Table(
    "signers",
    metadata,
    Column("tenant", String, ForeignKey("tenants.tenant"), primary_key=True),
    Column("key_id", String, primary_key=True),
    _text("name"),
    _blob("public_pem"),
    _big("created_ns"),
)

models = Table(
    "models",
    metadata,
    Column("tenant", String, ForeignKey("tenants.tenant"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("version", String, primary_key=True),
    _text("digest"),
    _text("model_id"),
    _text("signer"),
    _big("size"),
    _big("created_ns"),
    _blob("ports"),
    Index(None, "tenant", "digest"),
)

directives = Table(
    "directives",
    metadata,
    Column("number", Id, primary_key=True, autoincrement=False),
    Column("id", String, nullable=False, unique=True),
    _gateway(),
    _text("kind"),
    _text("target"),
    _big("version"),
    _text("name"),
    _text("digest"),
    _big("size"),
    _big("created_ns"),
    _text("created_by"),
    _big("deadline_ns"),
    _text("outcome"),
    _text("reason"),
    _text("detail"),
    _big("ended_ns"),
    UniqueConstraint("gateway_id", "target", "version"),
    Index(None, "gateway_id", "outcome"),
)

wishes = Table(
    "wishes",
    metadata,
    Column("gateway_id", Id, ForeignKey("gateways.id"), primary_key=True),
    Column("stream", SmallInteger, primary_key=True),
    Column("signal", String, primary_key=True, default="", server_default=""),
    _big("period_ns"),
    _big("until_ns"),
    _big("created_ns"),
    _text("created_by"),
)

invites = Table(
    "invites",
    metadata,
    Column("lookup", LargeBinary, primary_key=True),
    _blob("token_hash"),
    _gateway(),
    _big("created_ns"),
    _big("expires_ns"),
    _big("used_ns"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("lookup", LargeBinary, primary_key=True),
    _blob("token_hash"),
    _text("name"),
    _text("tenant"),
    _text("role"),
    _big("created_ns"),
    _big("expires_ns"),
)
