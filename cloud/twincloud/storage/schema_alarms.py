"""The table of alarms: the newest record of each, and what listings sort and choose by."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, SmallInteger, String, Table

from twincloud.storage.schema import Id, big, metadata, owner, text

alarms = Table(
    "alarms",
    metadata,
    Column("gateway_id", Id, ForeignKey("gateways.id"), primary_key=True, autoincrement=False),
    Column("alarm", String, primary_key=True),
    owner(),
    # Of the address: the hash of site, gateway and name.
    text("id"),
    text("rule"),
    text("source"),
    # Names of twins it is about, each between line ends.
    text("twins"),
    text("state"),
    Column("active", Boolean, nullable=False),
    Column("acked", Boolean, nullable=False),
    # Whether there is anything left to see or to do: all but NORM.
    Column("standing", Boolean, nullable=False),
    Column("severity", SmallInteger, nullable=False),
    text("priority"),
    Column("rank", SmallInteger, nullable=False),
    text("cause"),
    big("occurrence"),
    big("since_ns"),
    big("changed_ns"),
    big("until_ns"),
    big("received_ns"),
    big("committed_ns"),
    # Where the record stands among those of its gateway: a row of `boots`, and the number of the sample.
    big("boot_id"),
    big("seq"),
    text("record"),
    Index(None, "tenant", "id"),
    # The last three let numbers be told without the rows.
    Index("ix_alarms_standing", "tenant", "standing", "rank", "changed_ns", "id", "state", "active", "acked"),
    Index("ix_alarms_rank", "tenant", "rank", "changed_ns", "id"),
)
