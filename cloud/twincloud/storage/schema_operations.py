"""The table of operations: long work that people asked for."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, String, Table

from twincloud.storage.schema import metadata


def _text(name: str) -> Column[str]:
    return Column(name, String, nullable=False, default="", server_default="")


def _big(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, default=0, server_default="0")


operations = Table(
    "operations",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    _text("kind"),
    _text("target"),
    _text("digest"),
    _text("state"),
    Column("progress_permille", Integer, nullable=False, default=0, server_default="0"),
    Column("request", LargeBinary, nullable=False),
    Column("result", LargeBinary, nullable=False),
    _text("reason"),
    _text("detail"),
    _text("hint"),
    _text("created_by"),
    _big("created_ns"),
    _big("started_ns"),
    _big("ended_ns"),
    # Who works on it, until when it is theirs, and how often it was begun.
    _text("worker"),
    _big("lease_until_ns"),
    Column("attempts", Integer, nullable=False, default=0, server_default="0"),
    Column("cancelling", Boolean, nullable=False, default=False, server_default="0"),
    Index(None, "tenant", "digest"),
    Index(None, "state", "number"),
)
