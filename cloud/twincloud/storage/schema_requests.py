"""Requests that carried an Idempotency-Key, and what was answered; see `storage.requests`."""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, SmallInteger, String, Table

from twincloud.storage.schema import big, blob, metadata

requests = Table(
    "requests",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    blob("fingerprint"),
    blob("owner"),
    Column("state", SmallInteger, nullable=False),
    big("lease_ns"),
    big("until_ns"),
    Column("status", SmallInteger, nullable=False),
    blob("headers"),
    Column("body", LargeBinary),
    Index(None, "tenant", "until_ns"),
)
