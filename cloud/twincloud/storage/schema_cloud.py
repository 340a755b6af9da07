"""The tables of twins that run in the coordinator: what feeds them, how far they are, and their checkpoints."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, String, Table

from twincloud.storage.schema import big, blob, metadata, text

cloud_twins = Table(
    "cloud_twins",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("site", String, primary_key=True),
    Column("twin", String, primary_key=True),
    # What people asked for; `version` counts the changes.
    big("version"),
    text("model"),
    text("digest"),
    blob("wiring"),
    big("wait_ns"),
    big("since_ns"),
    text("created_by"),
    big("created_ns"),
    # How far it is: the last tick, its state, and the last commit it has seen.
    big("tick_ns"),
    blob("state"),
    big("through"),
    blob("reached"),
    big("ticks"),
    big("revised"),
    big("too_late"),
    big("updated_ns"),
    text("reason"),
    text("detail"),
)

cloud_checkpoints = Table(
    "cloud_checkpoints",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("site", String, primary_key=True),
    Column("twin", String, primary_key=True),
    Column("tick_ns", BigInteger, primary_key=True, autoincrement=False),
    big("version"),
    blob("state"),
)
