"""How many alarms each twin has, so that no page counts those of a whole fleet."""

from __future__ import annotations

from collections import Counter

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_TEXTS = ("tenant", "twin", "state")
_NUMBERS = ("alarms", "active")
_ORDER = ["tenant", "standing", "rank", "changed_ns", "id"]
_ROWS = 1_000


def upgrade() -> None:
    """Makes the table, counts what there is, and takes out of an index what only served to count."""
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    counts = op.create_table(
        "alarm_counts",
        *(sa.Column(name, sa.String(), nullable=False) for name in _TEXTS[:2]),
        sa.Column("gateway_id", key, autoincrement=False, nullable=False),
        sa.Column("rank", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False, server_default="0") for name in _NUMBERS),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateways.id"], name=op.f("fk_alarm_counts_gateway_id_gateways")),
        sa.PrimaryKeyConstraint("tenant", "twin", "gateway_id", "rank", "state", name=op.f("pk_alarm_counts")),
    )
    rows = _counted(op.get_bind())
    for first in range(0, len(rows), _ROWS):
        op.bulk_insert(counts, rows[first : first + _ROWS])
    op.drop_index(op.f("ix_alarms_standing"), "alarms")
    op.create_index(op.f("ix_alarms_standing"), "alarms", _ORDER)


def downgrade() -> None:
    """Forgets them."""
    op.drop_index(op.f("ix_alarms_standing"), "alarms")
    op.create_index(op.f("ix_alarms_standing"), "alarms", [*_ORDER, "state", "active", "acked"])
    op.drop_table("alarm_counts")


def _counted(connection: sa.Connection) -> list[dict[str, object]]:
    all_of: Counter[tuple[object, ...]] = Counter()
    active: Counter[tuple[object, ...]] = Counter()
    listed = sa.text("SELECT tenant, twins, gateway_id, rank, state, active FROM alarms")
    found = connection.execute(listed.execution_options(yield_per=_ROWS))
    for tenant, twins, gateway_id, rank, state, holds in found:
        for twin in ("", *twins.split("\n")[1:-1]):
            key = (tenant, twin, gateway_id, rank, state)
            all_of[key] += 1
            active[key] += bool(holds)
    names = ("tenant", "twin", "gateway_id", "rank", "state")
    return [dict(zip(names, key, strict=True)) | {"alarms": n, "active": active[key]} for key, n in all_of.items()]
