"""Keeps fleets, and finds their members by name or by filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    select,
    true,
)
from sqlalchemy import tuple_ as tuple_of

from twincloud.filters import Filter, parse
from twincloud.storage import schema as t
from twincloud.storage.contract import Page, TwinKey
from twincloud.storage.demands import check_demand, unknown_twin
from twincloud.storage.gathered import Muster
from twincloud.storage.musters import MusterStore
from twincloud.storage.paging import page_of, place_of
from twincloud.storage.part import NUMBERS, News, limited, nearest, record, take_numbers
from twincloud.storage.records_fleets import FleetRecord, FleetSpec
from twincloud.storage.records_twins import Demand
from twincloud.storage.schema_fleets import fleet_members, fleets
from twincloud.storage.schema_twins import twin_records
from twincloud.storage.selection import REPORTED, TWIN_COLUMNS, TWIN_FIELDS
from twincloud.twins.lifecycle import LISTED
from twinmodel.errors import ConflictError, MissingError

FLEETS_MAX = 1_000
"""Fleets of a tenant."""

_AMONG_MAX = 500
"""Names bound in one condition."""


class FleetsStore(MusterStore):
    """See `contract_fleets.Fleets`."""

    def put_fleet(
        self, tenant: str, name: str, spec: FleetSpec, *, by: str, now_ns: int, demand: Demand
    ) -> FleetRecord:
        """See `Fleets.put_fleet`."""
        if spec.filter:
            parse(spec.filter, TWIN_FIELDS)
        with self._database.write(tenant) as connection:
            row = _row(connection, tenant, name)
            check_demand(demand, None if row is None else row["revision"], f"fleet {name!r}")
            members = tuple(sorted(set(spec.members)))
            if row is not None and _spec(connection, row) == FleetSpec(spec.description, spec.filter, members):
                return _record(row, members)
            if row is None and connection.execute(_COUNT, {"of_tenant": tenant}).scalar_one() >= FLEETS_MAX:
                raise ConflictError("LIMIT_EXCEEDED", f"tenant {tenant!r} has {FLEETS_MAX} fleets already")
            for key in members:
                if connection.execute(_KNOWN, {"tenant": tenant, "site": key.site, "twin": key.twin}).first() is None:
                    raise unknown_twin(connection, key)
            fields = {
                "tenant": tenant, "fleet": name, "description": spec.description, "filter": spec.filter,
                "revision": take_numbers(connection, NUMBERS, 1),
                "created_ns": now_ns if row is None else row["created_ns"], "updated_ns": now_ns, "updated_by": by,
            }  # fmt: skip
            self._database.upsert(connection, fleets, [fields])
            connection.execute(_FORGET_MEMBERS, {"of_tenant": tenant, "of_fleet": name})
            if members:
                rows = [{"tenant": tenant, "fleet": name, "site": k.site, "twin": k.twin} for k in members]
                connection.execute(insert(fleet_members), rows)
            record(connection, [News(tenant, "", "fleet", name, now_ns, {"revision": fields["revision"]})])
            written = _row(connection, tenant, name)
            assert written is not None, "it was just written"
            return _record(written, members)

    def delete_fleet(self, tenant: str, name: str, *, now_ns: int, demand: Demand) -> None:
        """See `Fleets.delete_fleet`."""
        with self._database.write(tenant) as connection:
            row = _row(connection, tenant, name)
            if row is None:
                raise _unknown(connection, tenant, name)
            check_demand(demand, row["revision"], f"fleet {name!r}")
            for statement in (_FORGET_MEMBERS, _FORGET):
                connection.execute(statement, {"of_tenant": tenant, "of_fleet": name})
            record(connection, [News(tenant, "", "fleet", name, now_ns, {"deleted": True})])

    def fleet(self, tenant: str, name: str) -> FleetRecord:
        """See `Fleets.fleet`."""
        with self._database.read(tenant) as connection:
            row = _row(connection, tenant, name)
            if row is None:
                raise _unknown(connection, tenant, name)
            return _record(row, _spec(connection, row).members)

    def fleets(self, tenant: str, *, limit: int = 100, token: str = "") -> Page[FleetRecord]:
        """See `Fleets.fleets`."""
        statement = select(fleets).where(fleets.c.tenant == tenant)
        if token:
            statement = statement.where(fleets.c.fleet > place_of(token, str)[0])
        with self._database.read(tenant) as connection:
            rows = connection.execute(limited(statement.order_by(fleets.c.fleet), limit)).mappings().all()
        return page_of([_record(row, ()) for row in rows], limit, lambda f: (f.name,))

    def fleet_names(
        self, record: FleetRecord, chosen: Filter | None, *, limit: int = 100, token: str = ""
    ) -> Page[TwinKey]:
        """See `Fleets.fleet_names`."""
        c = twin_records.c
        statement: Any = select(c.tenant, c.site, c.twin).select_from(_JOINED)
        statement = statement.where(c.tenant == record.tenant, _condition(record, chosen, None))
        if token:
            statement = statement.where(tuple_of(c.site, c.twin) > tuple_of(*place_of(token, str, str)))
        with self._database.read(record.tenant) as connection, self._database.whole(connection):
            rows = connection.execute(limited(statement.order_by(c.site, c.twin), limit)).all()
        return page_of([TwinKey(*row) for row in rows], limit, lambda key: (key.site, key.twin))

    def fleet_muster(
        self, record: FleetRecord, chosen: Filter | None, kept: Muster | None, among: Sequence[TwinKey] | None = None
    ) -> Muster:
        """See `Fleets.fleet_muster`."""
        return self.reckoned(self.newest_values(record, chosen, kept, among))

    def newest_values(
        self, record: FleetRecord, chosen: Filter | None, kept: Muster | None, among: Sequence[TwinKey] | None = None
    ) -> Muster:
        """See `Fleets.newest_values`."""
        names = None if among is None else frozenset((key.site, key.twin) for key in among)
        token = (record.name, record.revision, names)
        return self.gather(record.tenant, _condition(record, chosen, names), token, kept, names)


def _condition(
    record: FleetRecord, chosen: Filter | None, among: frozenset[tuple[str, str]] | None
) -> ColumnElement[bool]:
    """What members fulfil."""
    if chosen is not None:
        part = chosen.sql(TWIN_COLUMNS)
    else:
        part = exists().where(
            fleet_members.c.tenant == twin_records.c.tenant,
            fleet_members.c.fleet == record.name,
            fleet_members.c.site == twin_records.c.site,
            fleet_members.c.twin == twin_records.c.twin,
        )
    if among is not None and len(among) <= _AMONG_MAX:
        names = tuple_of(twin_records.c.site, twin_records.c.twin)
        part = and_(part, names.in_(sorted(among)) if among else ~true())
    return and_(part, twin_records.c.state.in_(LISTED), _REPORTED)


def _row(connection: Connection, tenant: str, name: str) -> RowMapping | None:
    return connection.execute(_ONE, {"of_tenant": tenant, "of_fleet": name}).mappings().first()


def _spec(connection: Connection, row: RowMapping) -> FleetSpec:
    named = {"of_tenant": row["tenant"], "of_fleet": row["fleet"]}
    members = tuple(TwinKey(row["tenant"], *found) for found in connection.execute(_MEMBERS, named))
    return FleetSpec(row["description"], row["filter"], members)


def _record(row: RowMapping, members: tuple[TwinKey, ...]) -> FleetRecord:
    spec = FleetSpec(row["description"], row["filter"], members)
    times = row["created_ns"], row["updated_ns"]
    return FleetRecord(row["tenant"], row["fleet"], spec, row["revision"], *times, row["updated_by"])


def _unknown(connection: Connection, tenant: str, name: str) -> MissingError:
    names = connection.execute(_NAMES, {"of_tenant": tenant}).scalars().all()
    return MissingError("UNKNOWN_FLEET", f"no fleet {name!r}{nearest(name, names)}")


_REPORTED = t.twins.c.id.is_(None) | t.twins.c.retired.is_(False) | (twin_records.c.revision > 0)
_JOINED = twin_records.outerjoin(t.twins, REPORTED).outerjoin(t.gateways, t.gateways.c.id == t.twins.c.gateway_id)
_KNOWN = select(twin_records.c.twin).where(
    twin_records.c.tenant == bindparam("tenant"),
    twin_records.c.site == bindparam("site"),
    twin_records.c.twin == bindparam("twin"),
)
_OF_TENANT = fleets.c.tenant == bindparam("of_tenant")
_ONE = select(fleets).where(_OF_TENANT, fleets.c.fleet == bindparam("of_fleet"))
_COUNT = select(func.count()).select_from(fleets).where(_OF_TENANT)
_NAMES = select(fleets.c.fleet).where(_OF_TENANT)
_FORGET = delete(fleets).where(_OF_TENANT, fleets.c.fleet == bindparam("of_fleet"))
_OF_FLEET = (fleet_members.c.tenant == bindparam("of_tenant"), fleet_members.c.fleet == bindparam("of_fleet"))
_FORGET_MEMBERS = delete(fleet_members).where(*_OF_FLEET)
_MEMBERS = (
    select(fleet_members.c.site, fleet_members.c.twin)
    .where(*_OF_FLEET)
    .order_by(fleet_members.c.site, fleet_members.c.twin)
)
