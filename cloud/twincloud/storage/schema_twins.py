"""The tables of what people say of twins; `schema.twins` holds what gateways report of them.

    definitions ─ name, version -> content, for ever
    twin_records ─┬─ twin_tags    the tags of the document once more, to be looked for
                  └─ relations    from a twin to a twin, by type

Every twin has a record, also one that only a gateway has told of; not every record has a row in `schema.twins`.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, LargeBinary, String, Table

from twincloud.storage.schema import big, blob, metadata, text

definitions = Table(
    "definitions",
    metadata,
    Column("tenant", String, ForeignKey("tenants.tenant"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("version", String, primary_key=True),
    text("digest"),
    blob("content"),
    big("created_ns"),
    text("created_by"),
)


def _told(name: str, default: str = "") -> Column[str]:
    return Column(name, String, nullable=False, server_default=default)


def _counted(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


# The database alone knows the defaults, so that an upsert of the key makes the record of a twin nobody has described.
twin_records = Table(
    "twin_records",
    metadata,
    Column("tenant", String, ForeignKey("tenants.tenant"), primary_key=True),
    Column("site", String, primary_key=True),
    Column("twin", String, primary_key=True),
    _told("definition"),
    _told("state", "active"),
    _told("run", "edge"),
    # Tags, attributes and desired values, packed; empty for a twin that nobody has described.
    Column("document", LargeBinary, nullable=False, server_default=""),
    _counted("revision"),
    _counted("created_ns"),
    _counted("updated_ns"),
    _told("updated_by"),
    Index(None, "tenant", "run", "state"),
)

twin_tags = Table(
    "twin_tags",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("site", String, primary_key=True),
    Column("twin", String, primary_key=True),
    Column("tag", String, primary_key=True),
    text("value"),
    Index(None, "tenant", "tag", "value"),
)

relations = Table(
    "relations",
    metadata,
    Column("tenant", String, ForeignKey("tenants.tenant"), primary_key=True),
    Column("site", String, primary_key=True),
    Column("twin", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("target_site", String, primary_key=True),
    Column("target", String, primary_key=True),
    blob("properties"),
    big("revision"),
    big("created_ns"),
    big("updated_ns"),
    text("updated_by"),
    Index(None, "tenant", "target_site", "target"),
)
