"""Alarms in numbers by twin, kept by whatever changes an alarm: no page has to count the alarms of a whole fleet.

row before, row after ─▶ what each of its twins has one less and one more of ─▶ `alarm_counts`, in the same commit
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, select

from twincloud.storage import schema as t
from twincloud.storage.database import Database, Row
from twincloud.storage.schema_alarms import alarm_counts

Key = tuple[str, str, int, int, str]
"""Tenant, twin or "" for all of the gateway, gateway, rank and state: what is counted together."""
Numbers = tuple[int, int]
"""Alarms, and of these those whose condition holds."""
KEY: Final = tuple(column.name for column in alarm_counts.primary_key)


class Counts:
    """What one transaction changes: `move` each alarm, then `write`."""

    def __init__(self) -> None:
        self._moved: dict[Key, list[int]] = {}

    def move(self, before: Mapping[Any, Any] | None, after: Mapping[Any, Any] | None) -> None:
        """An alarm changed: rows of the table of alarms, None where there is none."""
        for row, by in ((before, -1), (after, 1)):
            for key in keys_of(row) if row is not None else ():
                moved = self._moved.setdefault(key, [0, 0])
                moved[0] += by
                moved[1] += by * bool(row and row["active"])

    def write(self, connection: Connection, database: Database) -> None:
        """Adds it to what is there; to be called once."""
        moved = {key: by for key, by in sorted(self._moved.items()) if any(by)}
        self._moved.clear()
        asked = [dict(zip(KEY, key, strict=True)) for key in moved]
        known = {row[:-2]: row[-2:] for row in database.read_many(connection, _KNOWN, asked)}
        rows: list[Row] = []
        for key, (all_of, active) in moved.items():
            there = known.get(key, (0, 0))
            values = {"alarms": there[0] + all_of, "active": there[1] + active}
            rows.append(dict(zip(KEY, key, strict=True)) | values)
        database.upsert(connection, alarm_counts, rows)


def keys_of(row: Mapping[Any, Any]) -> Iterator[Key]:
    """Where an alarm counts: once among all of its gateway, and once for each twin it is about."""
    for twin in ("", *str(row["twins"]).split("\n")[1:-1]):
        yield row["tenant"], twin, row["gateway_id"], row["rank"], row["state"]


def read_counts(connection: Connection, tenant: str, twins: Collection[str]) -> list[tuple[Any, ...]]:
    """(site, twin, rank, state, alarms, active) of twins of these names; of "" all of the tenant."""
    asked = {"of_tenant": tenant, "of_twins": sorted(twins)}
    return [tuple(row) for row in connection.execute(_COUNTS, asked)]


def gateways_of(connection: Connection, tenant: str, twin: str) -> list[int]:
    """Gateways that have an alarm about a twin of that name."""
    return list(connection.execute(_GATEWAYS, {"of_tenant": tenant, "of_twin": twin}).scalars())


_c = alarm_counts.c
_KNOWN = select(*(_c[name] for name in KEY), _c.alarms, _c.active).where(*(_c[name] == bindparam(name) for name in KEY))
_COUNTS = (
    select(t.gateways.c.site, _c.twin, _c.rank, _c.state, func.sum(_c.alarms), func.sum(_c.active))
    .join(t.gateways, t.gateways.c.id == _c.gateway_id)
    .where(_c.tenant == bindparam("of_tenant"), _c.twin.in_(bindparam("of_twins", expanding=True)), _c.alarms > 0)
    .group_by(t.gateways.c.site, _c.twin, _c.rank, _c.state)
)
_GATEWAYS = (
    select(_c.gateway_id).where(_c.tenant == bindparam("of_tenant"), _c.twin == bindparam("of_twin"), _c.alarms > 0)
).distinct()
