"""Gateways as people see them: their state, what they lost, and what of theirs could not be read."""

from __future__ import annotations

from sqlalchemy import RowMapping, Select, bindparam, select, tuple_

from twincloud.storage import schema as t
from twincloud.storage.contract import DeadLetter, Gateway, GatewayKey, Loss, Page
from twincloud.storage.paging import page_of, place_of
from twincloud.storage.part import Part, gateway_row, limited
from twinmodel.clock import ClockQuality
from twinmodel.errors import MissingError
from twinmodel.signal import Stream

LOSSES_MAX = 100_000


class FleetStore(Part):
    """Reads gateways; see `Twins`."""

    def gateways(self, tenant: str, *, site: str = "", limit: int = 100, token: str = "") -> Page[Gateway]:
        """See `Twins.gateways`."""
        c = t.gateways.c
        statement: Select[tuple[object, ...]] = select(t.gateways).where(c.tenant == tenant)
        if site:
            statement = statement.where(c.site == site)
        if token:
            statement = statement.where(tuple_(c.site, c.gateway) > tuple_(*place_of(token, str, str)))
        statement = limited(statement.order_by(c.site, c.gateway), limit)
        with self._database.read() as connection:
            rows = connection.execute(statement).mappings().all()
        return page_of([_gateway(row) for row in rows], limit, lambda g: (g.key.site, g.key.gateway))

    def gateway(self, key: GatewayKey) -> Gateway:
        """See `Twins.gateway`."""
        with self._database.read() as connection:
            return _gateway(gateway_row(connection, key))

    def losses(self, key: GatewayKey) -> tuple[Loss, ...]:
        """See `Twins.losses`; the newest `LOSSES_MAX` when there are more, in the order they were declared."""
        with self._database.read() as connection:
            wanted = {"gateway_id": self._gateway_id(connection, key), "limit": LOSSES_MAX}
            rows = connection.execute(_LOSSES, wanted).mappings().all()
        return tuple(
            Loss(
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
            for row in reversed(rows)
        )

    def dead_letters(self, tenant: str, *, limit: int = 100, token: str = "") -> Page[DeadLetter]:
        """See `Twins.dead_letters`."""
        c = t.dead_letters.c
        g = t.gateways.c
        statement = (
            select(
                c.id,
                g.site,
                g.gateway,
                t.boots.c.boot,
                c.stream,
                c.first_seq,
                c.last_seq,
                c.reason,
                c.received_ns,
                c.size,
            )
            .join(t.gateways, g.id == c.gateway_id)
            .join(t.boots, t.boots.c.id == c.boot_id)
            .where(g.tenant == tenant)
        )
        if token:
            statement = statement.where(c.id < place_of(token, int)[0])
        with self._database.read() as connection:
            rows = connection.execute(limited(statement.order_by(c.id.desc()), limit)).all()
        letters = [
            DeadLetter(r.id, GatewayKey(tenant, r.site, r.gateway), r.boot.hex(), Stream(r.stream), r.first_seq,
                       r.last_seq, r.reason, r.received_ns, r.size)
            for r in rows
        ]  # fmt: skip
        return page_of(letters, limit, lambda letter: (letter.id,))

    def dead_letter_bytes(self, tenant: str, letter: int) -> bytes:
        """The bytes of a dead letter; raises NOT_FOUND."""
        with self._database.read() as connection:
            found = connection.execute(_LETTER, {"tenant": tenant, "letter": letter}).scalar()
        if found is None:
            raise MissingError("NOT_FOUND", f"no dead letter {letter}", hint="list them with `twinctl deadletter list`")
        return bytes(found)


def _gateway(row: RowMapping) -> Gateway:
    return Gateway(
        key=GatewayKey(row["tenant"], row["site"], row["gateway"]),
        state=row["state"],
        connected=row["connected"],
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
    )


_LOSSES = (
    select(t.losses, t.boots.c.boot)
    .join(t.boots, t.boots.c.id == t.losses.c.boot_id)
    .where(t.losses.c.gateway_id == bindparam("gateway_id"))
    .order_by(t.losses.c.id.desc())
    .limit(bindparam("limit"))
)
_LETTER = (
    select(t.dead_letters.c.payload)
    .join(t.gateways, t.gateways.c.id == t.dead_letters.c.gateway_id)
    .where(t.gateways.c.tenant == bindparam("tenant"), t.dead_letters.c.id == bindparam("letter"))
)
