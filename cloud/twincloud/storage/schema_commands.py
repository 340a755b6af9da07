"""The tables of commands: what devices were told to do, and the chain of every step of it."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, String, Table

from twincloud.storage.schema import Id, big, blob, metadata, text

commands = Table(
    "commands",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("id", String, primary_key=True),
    # That of its first step.
    Column("number", BigInteger, nullable=False),
    Column("gateway_id", Id, ForeignKey("gateways.id"), nullable=False),
    # The one that was open when it was issued; it is sent in no other.
    big("session"),
    text("site"),
    text("twin"),
    big("kind"),
    text("property"),
    text("target"),
    blob("arguments"),
    text("unit"),
    text("why"),
    big("approvals"),
    blob("approved_by"),
    text("issued_by"),
    text("state"),
    text("reason"),
    text("detail"),
    blob("read_back"),
    # Who said how it ended: 1 the gateway, 0 the coordinator, which a gateway's word replaces.
    big("answered"),
    big("issued_ns"),
    big("deadline_ns"),
    big("sent_ns"),
    big("ended_ns"),
    Index(None, "gateway_id", "state"),
    Index("ix_commands_state", "state", "deadline_ns"),
    Index("ix_commands_tenant", "tenant", "number"),
    Index("ix_commands_site", "tenant", "site", "twin", "number"),
)

command_steps = Table(
    "command_steps",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    text("command"),
    text("step"),
    big("at_ns"),
    text("said_by"),
    text("reason"),
    text("detail"),
    # What was ordered, for the first step; what was read back, for the last one.
    blob("content"),
    # SHA-256 over the digest of the tenant's step before this one and everything above.
    blob("digest"),
    Index(None, "command", "number"),
)
