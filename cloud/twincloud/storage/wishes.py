"""Coarser periods the coordinator asks gateways for: kept until they end, told anew in every session.

A gateway keeps whatever a twin reads or says as it is, and so does a wish that would name it get refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, delete, func, insert, select

from twincloud.storage import schema as t
from twincloud.storage.contract import GatewayKey, Wish
from twincloud.storage.part import News, Part, gateway_row, nearest, record
from twinmodel.errors import ConflictError, InputError
from twinmodel.signal import Stream

WISHES_MAX = 256


class WishStore(Part):
    """Keeps wishes; see `Ingest` and `Registry`."""

    def wish(self, gateway: GatewayKey, wanted: Wish) -> None:
        """See `Registry.wish`."""
        with self._database.write(gateway.tenant) as connection:
            row = gateway_row(connection, gateway)
            self._check(connection, row, wanted)
            connection.execute(_EXPIRED, {"of": row["id"], "now_ns": wanted.created_ns})
            same = {"of": row["id"], "of_stream": int(wanted.stream), "of_signal": wanted.signal}
            connection.execute(_SAME, same)
            if wanted.period_ns:
                if connection.execute(_COUNT, {"of": row["id"]}).scalar_one() >= WISHES_MAX:
                    raise ConflictError("LIMIT_EXCEEDED", f"gateway {gateway.gateway!r} has {WISHES_MAX} wishes")
                connection.execute(insert(t.wishes), {"tenant": gateway.tenant, **_row(row["id"], wanted)})
            body: dict[str, object] = {
                "coarsen": wanted.stream.name.lower(), "signal": wanted.signal, "period_ns": wanted.period_ns,
            }  # fmt: skip
            news = News(gateway.tenant, gateway.site, "gateway", gateway.gateway, wanted.created_ns, body)
            record(connection, [news])

    def wishes(self, gateway: GatewayKey, now_ns: int) -> tuple[Wish, ...]:
        """See `Ingest.wishes`."""
        with self._database.read(gateway.tenant) as connection:
            wanted = {"of": self._gateway_id(connection, gateway), "now_ns": now_ns}
            return tuple(_wish(row) for row in connection.execute(_HOLDING, wanted).mappings())

    def _check(self, connection: Connection, row: RowMapping, wanted: Wish) -> None:
        """Raises InputError where nothing would come of it: alarms, and what a twin needs, stay whole."""
        if wanted.stream is Stream.ALARM:
            raise InputError("REQUEST_INVALID", "stream: alarms are never made coarser", field="stream")
        if not wanted.signal or not wanted.period_ns or row["schema_id"] is None:
            return
        catalogue = self._catalogue_by_id(connection, row["schema_id"])
        known = catalogue.by_name.get(wanted.signal)
        if known is None:
            near = nearest(wanted.signal, list(catalogue.by_name))
            raise InputError("UNKNOWN_SIGNAL", f"gateway {row['gateway']!r} has no signal {wanted.signal!r}{near}")
        if known.stream is not wanted.stream:
            stream = known.stream.name.lower()
            raise InputError("REQUEST_INVALID", f"signal: {wanted.signal!r} is of stream {stream}", field="signal")
        twins = [twin.twin for twin in catalogue.twins if wanted.signal in twin.properties.values()]
        if twins or known.role != "measured":
            whose = f"twin {twins[0]!r}" if twins else "a model"
            text = f"signal: {wanted.signal!r} belongs to {whose}, whose signals stay whole"
            raise InputError("REQUEST_INVALID", text, field="signal")


def _row(gateway_id: int, wanted: Wish) -> dict[str, object]:
    return {
        "gateway_id": gateway_id, "stream": int(wanted.stream), "signal": wanted.signal, "period_ns": wanted.period_ns,
        "until_ns": wanted.until_ns, "created_ns": wanted.created_ns, "created_by": wanted.created_by,
    }  # fmt: skip


def _wish(row: RowMapping | Mapping[str, Any]) -> Wish:
    return Wish(
        Stream(row["stream"]), row["signal"], row["period_ns"], row["until_ns"], row["created_ns"], row["created_by"]
    )


_OF = t.wishes.c.gateway_id == bindparam("of")
_SAME = delete(t.wishes).where(
    _OF, t.wishes.c.stream == bindparam("of_stream"), t.wishes.c.signal == bindparam("of_signal")
)
_EXPIRED = delete(t.wishes).where(_OF, t.wishes.c.until_ns > 0, t.wishes.c.until_ns <= bindparam("now_ns"))
_COUNT = select(func.count()).select_from(t.wishes).where(_OF)
_HOLDING = (
    select(t.wishes)
    .where(_OF, (t.wishes.c.until_ns == 0) | (t.wishes.c.until_ns > bindparam("now_ns")))
    .order_by(t.wishes.c.stream, t.wishes.c.signal)
)
