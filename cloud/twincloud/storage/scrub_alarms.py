"""Whether the rows of alarms, by which people list and choose, say what their records say; see `scrub`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection, select

from twincloud.storage import schema as t
from twincloud.storage.alarm_fold import row_of
from twincloud.storage.records import GatewayKey
from twincloud.storage.schema_alarms import alarms
from twinmodel.alarms.records import decode
from twinmodel.errors import TwinError

_OF_THE_RECORD: Final = (
    "id", "state", "active", "acked", "standing", "severity", "priority", "rank", "occurrence", "until_ns",
)  # fmt: skip


def scrub_alarms(connection: Connection) -> Iterator[str]:
    """A line for each alarm whose record cannot be read, or whose row says something else."""
    for row in connection.execute(_ALARMS).mappings():
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


_ALARMS = (
    select(alarms, t.gateways.c.site, t.gateways.c.gateway)
    .join(t.gateways, t.gateways.c.id == alarms.c.gateway_id)
    .order_by(alarms.c.gateway_id, alarms.c.alarm)
    .execution_options(yield_per=256)
)
