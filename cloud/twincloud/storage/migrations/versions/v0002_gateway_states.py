"""Newest readings by gateway instead of by twin, with the number of the last block that is in them."""

from __future__ import annotations

import struct
from typing import Any

import msgpack
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Joins the readings of a gateway's twins to one blob."""
    _count("gateways", "last_block")
    _count("twins", "revision")
    _count("twins", "updated_ns")
    op.create_table(
        "gateway_states",
        sa.Column("gateway_id", _ID, autoincrement=False, nullable=False),
        sa.Column("through", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateways.id"], name=op.f("fk_gateway_states_gateway_id_gateways")),
        sa.PrimaryKeyConstraint("gateway_id", name=op.f("pk_gateway_states")),
    )
    connection = op.get_bind()
    connection.execute(
        sa.text(
            "UPDATE gateways SET last_block ="
            " COALESCE((SELECT MAX(blocks.id) FROM blocks WHERE blocks.gateway_id = gateways.id), 0)"
        )
    )
    for name in ("revision", "updated_ns"):
        newest = f"(SELECT twin_states.{name} FROM twin_states WHERE twin_states.twin_id = twins.id)"  # noqa: S608 - names of ours
        connection.execute(sa.text(f"UPDATE twins SET {name} = COALESCE({newest}, 0)"))  # noqa: S608 - names of ours
    for gateway_id, last_block in connection.execute(sa.text("SELECT id, last_block FROM gateways")).all():
        query = sa.text(
            "SELECT twins.twin, twin_states.revision, twin_states.updated_ns, twin_states.state FROM twin_states"
            " JOIN twins ON twins.id = twin_states.twin_id WHERE twins.gateway_id = :gateway ORDER BY twins.twin"
        )
        rows = connection.execute(query, {"gateway": gateway_id}).all()
        insert = sa.text("INSERT INTO gateway_states (gateway_id, through, state) VALUES (:gateway, :through, :state)")
        state = _joined([row[3] for row in rows], [[row[0], row[1], row[2]] for row in rows])
        connection.execute(insert, {"gateway": gateway_id, "through": last_block, "state": state})
    op.drop_table("twin_states")


def downgrade() -> None:
    """Refused: readings by gateway cannot be told apart by twin again."""
    raise NotImplementedError("restore the backup made before the upgrade")


def _count(table: str, name: str) -> None:
    op.add_column(table, sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))


def _joined(blobs: list[bytes], changed: list[list[Any]]) -> bytes:
    """The readings of several twins as cells of their gateway: one per signal, two per estimate and sigma."""
    origins: list[Any] = []
    readings: dict[str, list[tuple[Any, ...]]] = {}
    for blob in blobs:
        if not blob:
            continue
        own, names, counts, *columns, places = msgpack.unpackb(blob)
        rows = iter(zip(*columns, (place + len(origins) for place in places), strict=True))
        for name, count in zip(names, counts, strict=True):
            readings.setdefault(name, [next(rows) for _ in range(count)])
        origins += own
    names = sorted(readings)
    cells: list[int] = []
    texts = []
    for name in names:
        depth = 2 if name.rpartition("#")[2] in {"estimate", "sigma"} else 1
        for t_ns, seq, value, quality, origin in readings[name]:
            if isinstance(value, str):
                texts.append([len(cells) // 4, value])
            cells += [t_ns, seq, _bits(value), origin << 32 | quality << 8 | _kind(value)]
        cells += [-(2**63), 0, 0, 0] * (depth - len(readings[name]))
    raw = struct.pack(f"<{len(cells)}q", *cells)
    packed: bytes = msgpack.packb([names, origins, raw, texts, changed], use_bin_type=True)
    return packed


def _bits(value: object) -> int:
    if isinstance(value, float):
        return int.from_bytes(struct.pack("<d", value), "little", signed=True)
    return int(value) if isinstance(value, int) else 0


def _kind(value: object) -> int:
    if isinstance(value, bool):
        return 3
    return {float: 1, int: 2, str: 4}[type(value)]
