"""The tables of alarms: the newest record of each with what listings sort and choose by, and how many each twin has."""

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
    Index("ix_alarms_standing", "tenant", "standing", "rank", "changed_ns", "id"),
    Index("ix_alarms_rank", "tenant", "rank", "changed_ns", "id"),
)

alarm_counts = Table(
    "alarm_counts",
    metadata,
    Column("tenant", String, primary_key=True),
    # "" for all alarms of the gateway, whichever twins they are about.
    Column("twin", String, primary_key=True),
    Column("gateway_id", Id, ForeignKey("gateways.id"), primary_key=True, autoincrement=False),
    Column("rank", SmallInteger, primary_key=True, autoincrement=False),
    Column("state", String, primary_key=True),
    big("alarms"),
    # Of these, whose condition holds: a latch keeps some whose condition has gone.
    big("active"),
)
