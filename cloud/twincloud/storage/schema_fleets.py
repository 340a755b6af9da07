"""The tables of fleets: a fleet is a filter over the twins of a tenant, or the twins that people name."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, String, Table

from twincloud.storage.schema import big, metadata, running, text, twins
from twincloud.storage.schema_twins import twin_records

fleets = Table(
    "fleets",
    metadata,
    Column("tenant", String, ForeignKey("tenants.tenant"), primary_key=True),
    Column("fleet", String, primary_key=True),
    text("description"),
    # "" for a fleet whose members are named.
    text("filter"),
    big("revision"),
    big("created_ns"),
    big("updated_ns"),
    text("updated_by"),
)

fleet_members = Table(
    "fleet_members",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("fleet", String, primary_key=True),
    Column("site", String, primary_key=True),
    Column("twin", String, primary_key=True),
    Index(None, "tenant", "site", "twin"),
)

# Whether anything changed that fleets are made of is asked at each refresh.
Index(None, twins.c.tenant, twins.c.revision)
Index(None, twin_records.c.tenant, twin_records.c.revision)
Index(None, running.c.tenant, running.c.at_ns)
