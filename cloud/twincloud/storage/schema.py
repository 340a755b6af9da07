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


def big(name: str, default: int = 0) -> Column[int]:
    """A 64-bit count, id or time; 0 unless told."""
    return Column(name, BigInteger, nullable=False, default=default, server_default=str(default))


def text(name: str, default: str = "") -> Column[str]:
    """A text; "" unless told."""
    return Column(name, String, nullable=False, default=default, server_default=default)


def blob(name: str) -> Column[bytes]:
    """Bytes that must be given."""
    return Column(name, LargeBinary, nullable=False)


def owner() -> Column[str]:
    """The tenant a row belongs to, beside ids that say it only by another table; row-level security looks at it."""
    return text("tenant")


def gateway() -> Column[int]:
    """The gateway a row belongs to."""
    return Column("gateway_id", Id, ForeignKey("gateways.id"), nullable=False)


def boot() -> Column[int]:
    """The boot a row belongs to."""
    return Column("boot_id", Id, ForeignKey("boots.id"), nullable=False)


counters = Table("counters", metadata, Column("name", String, primary_key=True), big("value"))

tenants = Table("tenants", metadata, Column("tenant", String, primary_key=True), big("created_ns"))

sites = Table(
    "sites",
    metadata,
    Column("tenant", String, ForeignKey("tenants.tenant"), primary_key=True),
    Column("site", String, primary_key=True),
    big("created_ns"),
)

gateways = Table(
    "gateways",
    metadata,
    Column("id", Id, primary_key=True),
    Column("tenant", String, ForeignKey("tenants.tenant"), nullable=False),
    Column("site", String, nullable=False),
    Column("gateway", String, nullable=False),
    text("state", "invited"),
    Column("connected", Boolean, nullable=False, default=False, server_default="0"),
    # The coordinator that holds the session, where several share one database.
    text("replica"),
    big("session"),
    Column("head_boot", LargeBinary, nullable=True),
    big("boot_counter"),
    Column("offset_ns", BigInteger, nullable=True),
    text("agent_version"),
    Column("clock", SmallInteger, nullable=False, default=0, server_default="0"),
    big("last_seen_ns"),
    big("backlog_bytes"),
    big("backlog_samples"),
    big("oldest_ns"),
    big("blocks"),
    big("samples"),
    big("duplicates_refused"),
    text("certificate_serial"),
    big("certificate_until_ns"),
    Column("schema_id", Id, ForeignKey("schemas.id"), nullable=True),
    Column("hello_schemas", LargeBinary, nullable=False, default=b"", server_default=""),
    big("last_block"),
    big("created_ns"),
    # What may be commanded, as the gateway said in its session; NULL until then.
    Column("commandables", LargeBinary, nullable=True),
    UniqueConstraint("tenant", "site", "gateway"),
)

boots = Table(
    "boots",
    metadata,
    Column("id", Id, primary_key=True),
    gateway(),
    owner(),
    blob("boot"),
    blob("previous"),
    big("counter"),
    big("started_ns"),
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
    owner(),
    big("next_seq"),
)

schemas = Table(
    "schemas",
    metadata,
    Column("id", Id, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    blob("content"),
)

gateway_schemas = Table(
    "gateway_schemas",
    metadata,
    Column("gateway_id", Id, ForeignKey("gateways.id"), primary_key=True),
    Column("schema_id", Id, ForeignKey("schemas.id"), primary_key=True),
    owner(),
    big("received_ns"),
)

blocks = Table(
    "blocks",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    big("commit_no"),
    gateway(),
    owner(),
    boot(),
    Column("stream", SmallInteger, nullable=False),
    big("first_seq"),
    big("last_seq"),
    Column("schema_id", Id, ForeignKey("schemas.id"), nullable=False),
    Column("wide", Boolean, nullable=False),
    big("t_min_ns"),
    big("t_max_ns"),
    big("received_ns"),
    big("committed_ns"),
    blob("payload"),
    # The marks dedupe; this index is the second, independent lock on the same door.
    UniqueConstraint("boot_id", "stream", "first_seq"),
    Index(None, "gateway_id", "wide", "t_min_ns"),
    Index(None, "gateway_id", "id"),
)

losses = Table(
    "losses",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    big("commit_no"),
    gateway(),
    owner(),
    boot(),
    text("kind"),
    text("reason"),
    Column("stream", SmallInteger, nullable=False),
    big("first_seq"),
    big("count"),
    big("from_ns"),
    big("to_ns"),
    text("device"),
    big("received_ns"),
    Index(None, "gateway_id", "id"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    big("commit_no"),
    gateway(),
    owner(),
    boot(),
    Column("stream", SmallInteger, nullable=False),
    big("first_seq"),
    big("last_seq"),
    text("reason"),
    big("received_ns"),
    big("size"),
    Column("schema_digest", LargeBinary, nullable=False),
    big("crc32c"),
    blob("payload"),
    Index(None, "gateway_id", "id"),
)

twins = Table(
    "twins",
    metadata,
    Column("id", Id, primary_key=True),
    Column("tenant", String, ForeignKey("tenants.tenant"), nullable=False),
    Column("site", String, nullable=False),
    Column("twin", String, nullable=False),
    gateway(),
    Column("schema_id", Id, ForeignKey("schemas.id"), nullable=False),
    text("definition"),
    blob("binding"),
    Column("retired", Boolean, nullable=False, default=False, server_default="0"),
    big("revision"),
    big("updated_ns"),
    UniqueConstraint("tenant", "site", "twin"),
    Index(None, "gateway_id"),
)

gateway_states = Table(
    "gateway_states",
    metadata,
    Column("gateway_id", Id, ForeignKey("gateways.id"), primary_key=True, autoincrement=False),
    owner(),
    big("through"),
    blob("state"),
)

twin_owners = Table(
    "twin_owners",
    metadata,
    Column("twin_id", Id, ForeignKey("twins.id"), primary_key=True),
    Column("gateway_id", Id, ForeignKey("gateways.id"), primary_key=True),
    owner(),
    big("since_ns"),
)

running = Table(
    "running",
    metadata,
    Column("gateway_id", Id, ForeignKey("gateways.id"), primary_key=True),
    Column("twin", String, primary_key=True),
    owner(),
    text("digest"),
    text("name"),
    text("tier"),
    text("isolation"),
    big("at_ns"),
)

events = Table(
    "events",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("tenant", String, nullable=False),
    text("site"),
    text("kind"),
    text("subject"),
    big("t_ns"),
    blob("body"),
    Index(None, "tenant", "id"),
)

signers = Table(
    "signers",
    metadata,
    Column("tenant", String, ForeignKey("tenants.tenant"), primary_key=True),
    Column("key_id", String, primary_key=True),
    text("name"),
    blob("public_pem"),
    big("created_ns"),
)

models = Table(
    "models",
    metadata,
    Column("tenant", String, ForeignKey("tenants.tenant"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("version", String, primary_key=True),
    text("digest"),
    text("model_id"),
    text("signer"),
    big("size"),
    big("created_ns"),
    blob("ports"),
    Index(None, "tenant", "digest"),
)

directives = Table(
    "directives",
    metadata,
    Column("number", Id, primary_key=True, autoincrement=False),
    Column("id", String, nullable=False, unique=True),
    gateway(),
    owner(),
    text("kind"),
    text("target"),
    big("version"),
    text("name"),
    text("digest"),
    big("size"),
    big("created_ns"),
    text("created_by"),
    big("deadline_ns"),
    text("outcome"),
    text("reason"),
    text("detail"),
    big("ended_ns"),
    Column("content", LargeBinary, nullable=False, default=b"", server_default=""),
    UniqueConstraint("gateway_id", "target", "version"),
    Index(None, "gateway_id", "outcome"),
)

wishes = Table(
    "wishes",
    metadata,
    Column("gateway_id", Id, ForeignKey("gateways.id"), primary_key=True),
    Column("stream", SmallInteger, primary_key=True),
    Column("signal", String, primary_key=True, default="", server_default=""),
    owner(),
    big("period_ns"),
    big("until_ns"),
    big("created_ns"),
    text("created_by"),
)

invites = Table(
    "invites",
    metadata,
    Column("lookup", LargeBinary, primary_key=True),
    blob("token_hash"),
    gateway(),
    owner(),
    big("created_ns"),
    big("expires_ns"),
    big("used_ns"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("lookup", LargeBinary, primary_key=True),
    blob("token_hash"),
    text("name"),
    text("tenant"),
    text("role"),
    big("created_ns"),
    big("expires_ns"),
)

documents = Table(
    "documents",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("name", String, primary_key=True),
    big("version"),
    blob("content"),
)
