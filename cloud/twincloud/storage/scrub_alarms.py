"""Whether the rows of alarms say what their records say, and their numbers what the rows say; see `scrub`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from sqlalchemy import Connection, select

from twincloud.storage import schema as t
from twincloud.storage.alarm_counts import KEY, Key, keys_of
from twincloud.storage.alarm_fold import row_of
from twincloud.storage.records import GatewayKey
from twincloud.storage.schema_alarms import alarm_counts, alarms
from twinmodel.alarms.records import decode
from twinmodel.errors import TwinError

_OF_THE_RECORD: Final = (
    "id", "state", "active", "acked", "standing", "severity", "priority", "rank", "occurrence", "until_ns",
)  # fmt: skip


def scrub_alarms(connection: Connection) -> Iterator[str]:
    """A line for each alarm whose record cannot be read, or whose row says something else, or number that is wrong."""
    counted: dict[Key, list[int]] = {}
    for row in connection.execute(_ALARMS).mappings():
        for of in keys_of(row):
            numbers = counted.setdefault(of, [0, 0])
            numbers[0] += 1
            numbers[1] += bool(row["active"])
        named = f"alarm {row['alarm']} of gateway {row['gateway']} of tenant {row['tenant']}"
        try:
            record = decode(row["record"])
        except TwinError as error:
            yield f"{named}: {error.message}"
            continue
        key = GatewayKey(row["tenant"], row["site"], row["gateway"])
        meant = row_of(key, row["gateway_id"], record, since_ns=0, changed_ns=0, now_ns=0)
        for name in _OF_THE_RECORD:
            if row[name] != meant[name]:
                yield f"{named}: its row says {name} {row[name]}, its record {meant[name]}"
                break
    yield from _counts(connection, counted)


def _counts(connection: Connection, counted: Mapping[Key, list[int]]) -> Iterator[str]:
    """A line for each number that is not what the rows give."""
    told = {tuple(row[:-2]): list(row[-2:]) for row in connection.execute(_COUNTS)}
    for key in sorted(counted.keys() | told.keys()):
        tenant, twin, gateway_id, rank, state = key
        there, meant = told.get(key, [0, 0]), counted.get(key, [0, 0])
        if there != meant:
            about = f"twin {twin}" if twin else "all"
            yield (
                f"alarms of gateway {gateway_id} of tenant {tenant}, {about}, rank {rank}, {state}: "
                f"counted as {there[0]}, {there[1]} active; their rows give {meant[0]}, {meant[1]} active"
            )


_ALARMS = (
    select(alarms, t.gateways.c.site, t.gateways.c.gateway)
    .join(t.gateways, t.gateways.c.id == alarms.c.gateway_id)
    .order_by(alarms.c.gateway_id, alarms.c.alarm)
    .execution_options(yield_per=256)
)
_COUNTS = select(*(alarm_counts.c[name] for name in (*KEY, "alarms", "active")))
