"""The table of archived days: one row per file, from the moment its key is chosen until the file is gone."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, SmallInteger, String, Table

from twincloud.storage.schema import Id, big, blob, metadata, text

archives = Table(
    "archives",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("gateway_id", Id, ForeignKey("gateways.id"), primary_key=True, autoincrement=False),
    Column("day_ns", BigInteger, primary_key=True, autoincrement=False),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("state", SmallInteger, nullable=False, default=0, server_default="0"),
    text("object_key"),
    # Who makes it, and until when it is theirs; the upload that did not end yet.
    text("worker"),
    big("lease_until_ns"),
    text("upload"),
    text("sha256"),
    big("size"),
    big("samples"),
    big("from_ns"),
    big("to_ns"),
    big("commit_max"),
    big("created_ns"),
    big("changed_ns"),
    blob("row_groups"),
    Index(None, "state", "changed_ns"),
)
