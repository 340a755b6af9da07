"""Gateways as people see them: their state and what they lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import RowMapping, Select, bindparam, select, tuple_

from twincloud.filters import Filter
from twincloud.storage import schema as t
from twincloud.storage.contract import Gateway, GatewayKey, Loss, Page
from twincloud.storage.paging import page_of, place_of
from twincloud.storage.part import Part, gateway_row, limited
from twincloud.storage.selection import GATEWAY_COLUMNS
from twinmodel.clock import ClockQuality
from twinmodel.signal import Stream

LOSSES_MAX = 100_000


class FleetStore(Part):
    """Reads gateways; see `Twins`."""

    def gateways(
        self, tenant: str, *, site: str = "", chosen: Filter | None = None, limit: int = 100, token: str = ""
    ) -> Page[Gateway]:
        """See `Twins.gateways`."""
        c = t.gateways.c
        statement: Select[tuple[object, ...]] = select(t.gateways).where(c.tenant == tenant)
        if site:
            statement = statement.where(c.site == site)
        if chosen is not None:
            statement = statement.where(chosen.sql(GATEWAY_COLUMNS))
        if token:
            statement = statement.where(tuple_(c.site, c.gateway) > tuple_(*place_of(token, str, str)))
        statement = limited(statement.order_by(c.site, c.gateway), limit)
        with self._database.read(tenant) as connection:
            rows = connection.execute(statement).mappings().all()
        return page_of([gateway_of(row) for row in rows], limit, lambda g: (g.key.site, g.key.gateway))

    def gateway(self, key: GatewayKey) -> Gateway:
        """See `Twins.gateway`."""
        with self._database.read(key.tenant) as connection:
            return gateway_of(gateway_row(connection, key))

    def losses(self, key: GatewayKey) -> tuple[Loss, ...]:
        """See `Twins.losses`; the newest `LOSSES_MAX` when there are more, in the order they were declared."""
        with self._database.read(key.tenant) as connection:
            wanted = {"gateway_id": self._gateway_id(connection, key), "limit": LOSSES_MAX}
            rows = connection.execute(_LOSSES, wanted).mappings().all()
        return tuple(loss_of(row, key) for row in reversed(rows))


def loss_of(row: RowMapping, key: GatewayKey) -> Loss:
    """The hole that a row with its boot declares."""
    return Loss(
        gateway=key,
        kind=row["kind"],
        reason=row["reason"],
        boot=row["boot"].hex(),
        stream=Stream(row["stream"]),
        first_seq=row["first_seq"],
        count=row["count"],
        from_ns=row["from_ns"],
        to_ns=row["to_ns"],
        device=row["device"],
    )


def gateway_of(row: Mapping[Any, Any]) -> Gateway:
    """The gateway of a row."""
    return Gateway(
        key=GatewayKey(row["tenant"], row["site"], row["gateway"]),
        state=row["state"],
        connected=bool(row["connected"]),
        session=row["session"],
        boot="" if row["head_boot"] is None else row["head_boot"].hex(),
        boot_counter=row["boot_counter"],
        last_seen_ns=row["last_seen_ns"],
        clock=ClockQuality(row["clock"]),
        agent_version=row["agent_version"],
        backlog_bytes=row["backlog_bytes"],
        backlog_samples=row["backlog_samples"],
        oldest_ns=row["oldest_ns"],
        samples=row["samples"],
        duplicates_refused=row["duplicates_refused"],
        certificate_serial=row["certificate_serial"],
        certificate_until_ns=row["certificate_until_ns"],
        offset_ns=row["offset_ns"],
    )


_LOSSES = (
    select(t.losses, t.boots.c.boot)
    .join(t.boots, t.boots.c.id == t.losses.c.boot_id)
    .where(t.losses.c.gateway_id == bindparam("gateway_id"))
    .order_by(t.losses.c.id.desc())
    .limit(bindparam("limit"))
)
