"""A fleet as it stands: who its members are, and the newest reading of each, gathered from their gateways.

    structure   members, what each measures and estimates, units, running models     read again when any of it changed
    values      cells of gateways whose last block is a newer one                     read again at each refresh
    standings   sums over the members that count                                      from values, of `reckoned` alone

What is kept between two refreshes is a cache and nothing else: all of it follows from the database, so that each
replica comes to the same, also after a restart.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, select

from twincloud.registry.fitness import unit_of
from twincloud.storage import schema as t
from twincloud.storage.gathered import CellColumn, Muster, Source
from twincloud.storage.newest import NewestStore
from twincloud.storage.part import Recent
from twincloud.storage.records_fleets import ESTIMATED, MEASURED, Apart, FleetStanding, PropertyStanding
from twincloud.storage.schema_twins import twin_records
from twincloud.storage.selection import REPORTED
from twincloud.twins.aggregate import Standing
from twincloud.twins.gather import (
    ESTIMATED_CELLS,
    MEASURED_CELLS,
    NewestValues,
    common_unit,
    conversion_of,
    estimated,
    measured,
)
from twincloud.twins.latest import Latest
from twinmodel.signal import Catalogue

SHAPES_MAX: Final = 512

Shape = tuple[tuple[str, str, str, tuple[str, ...]], ...]
"""What a twin has: (property, role, unit, signal names by cell)."""


class MusterStore(NewestStore):
    """Gathers fleets."""

    _shapes: Recent[int, dict[str, Shape]]

    def gather(
        self,
        tenant: str,
        chosen: ColumnElement[bool],
        token: tuple[object, ...],
        kept: Muster | None,
        among: frozenset[tuple[str, str]] | None = None,
    ) -> Muster:
        """The newest values of a fleet as of this moment, from what is kept of it or anew; its standings stay behind.

        Args:
            tenant: whose.
            chosen: condition on `twin_records` (and `twins`, `gateways`, `running`) that members fulfil.
            token: what else decides who is a member; another one makes it read the structure again.
            kept: the muster before, changed in place; None for none.
            among: (site, twin) of those that may be members, None for all.
        """
        with self._database.read(tenant) as connection:
            whole = (*token, *(tuple(connection.execute(part, {"tenant": tenant}).one()) for part in _STRUCTURE))
            if kept is None or kept.token != whole:
                kept = self._build(connection, tenant, chosen, whole, among)
            self._refresh(connection, tenant, kept)
        return kept

    @staticmethod
    def reckoned(muster: Muster) -> Muster:
        """The same with standings that have all of its values."""
        muster.standing.changed = 0
        for column, prop in zip(muster.columns, muster.standing.properties, strict=True):
            if muster.fresh[muster.newest.gateway[column.at]].any():
                read = measured if column.role == MEASURED else estimated
                news = read(muster.newest, column.at, column.conversion, column.model)
                muster.standing.changed += prop.standing.put_all(news)
        muster.fresh[:] = False
        return muster

    def _build(
        self,
        connection: Connection,
        tenant: str,
        chosen: ColumnElement[bool],
        token: tuple[object, ...],
        among: frozenset[tuple[str, str]] | None,
    ) -> Muster:
        with self._database.whole(connection):
            rows = connection.execute(_MEMBERS.where(twin_records.c.tenant == tenant, chosen).order_by(*_ORDER)).all()
        if among is not None:
            rows = [row for row in rows if (row.site, row.twin) in among]
        numbers: dict[str, int] = {}
        model = np.full(len(rows), -1, np.int32)
        by_gateway: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            running = row.running or ""
            if running:
                model[place] = numbers.setdefault(running, len(numbers))
            if row.gateway_id is not None:
                by_gateway.setdefault(row.gateway_id, []).append(place)
        sources: dict[int, Source] = {}
        found: dict[tuple[str, str], tuple[list[int], list[int], list[str]]] = {}
        gateway = np.full(len(rows), -1, np.int32)
        all_names: list[str] = []
        name_parts, start = [np.empty(0, np.int32)], 0
        for order, (gateway_id, places) in enumerate(by_gateway.items()):
            names: dict[str, int] = {}
            name, step = array("i"), bytearray()
            for place in places:
                gateway[place] = order
                shape = self._shape(connection, rows[place].schema_id).get(rows[place].twin, ())
                for prop_name, role, unit, signals in shape:
                    members, at, units = found.setdefault((prop_name, role), ([], [], []))
                    members.append(place)
                    at.append(start + len(name))
                    units.append(unit)
                    for signal, cell in _cells(role, signals):
                        name.append(names.setdefault(signal, len(names)))
                        step.append(cell)
            own = np.array(name, np.int32)
            sources[gateway_id] = Source(gateway_id, start, tuple(names), own, np.frombuffer(step, np.uint8))
            name_parts.append(own + np.int32(len(all_names)))
            all_names += names
            start += len(own)
        standing = FleetStanding(
            tuple(row.site for row in rows), tuple(row.twin for row in rows), gateway,
            np.zeros(len(sources), bool), np.zeros(len(sources), np.int64), tuple(numbers), (),
        )  # fmt: skip
        columns, properties = [], []
        for (prop_name, role), (members, at, units) in sorted(found.items()):
            unit = common_unit(units)
            conversion = conversion_of(units, unit)
            who = np.array(members, np.intp)
            columns.append(CellColumn(role, np.array(at, np.int64), conversion, model[who]))
            apart = tuple(Apart(members[n], units[n]) for n in np.flatnonzero(conversion.apart).tolist())
            properties.append(PropertyStanding(prop_name, role, unit, who, Standing(len(who)), apart))
        standing.properties = tuple(properties)
        of_gateway = np.repeat(np.arange(len(sources), dtype=np.int32), [len(one.name) for one in sources.values()])
        newest = NewestValues.none(all_names, of_gateway, np.concatenate(name_parts))
        return Muster(token, standing, sources, columns, newest, np.ones(len(sources), bool))

    def _refresh(self, connection: Connection, tenant: str, muster: Muster) -> None:
        standing, order = muster.standing, {gateway: n for n, gateway in enumerate(muster.sources)}
        parts: list[tuple[Source, Latest]] = []
        taken: list[tuple[int, int]] = []
        for gateway_id, last_block, connected, last_seen_ns in connection.execute(_GATEWAYS, {"tenant": tenant}):
            place = order.get(gateway_id)
            if place is None:
                continue
            standing.connected[place], standing.last_seen_ns[place] = connected, last_seen_ns
            source = muster.sources[gateway_id]
            if source.last_block < last_block:
                parts.append((source, self._newest(connection, gateway_id, last_block)))
                taken.append((place, last_block))
        muster.put(parts)
        # Only now: what raises above leaves all of it to be read again.
        for (source, _), (place, last_block) in zip(parts, taken, strict=True):
            source.last_block, muster.fresh[place] = last_block, True

    def _shape(self, connection: Connection, schema_id: int) -> Mapping[str, Shape]:
        """What each twin of a catalogue has."""
        known = self._shapes_held.get(schema_id)
        if known is None:
            known = self._shapes_held.put(schema_id, dict(_shapes(self._catalogue_by_id(connection, schema_id))))
        return known

    @property
    def _shapes_held(self) -> Recent[int, dict[str, Shape]]:
        held: Recent[int, dict[str, Shape]] | None = self.__dict__.get("_shapes")
        if held is None:
            held = self.__dict__.setdefault("_shapes", Recent(SHAPES_MAX))
        return held


def _shapes(catalogue: Catalogue) -> Iterator[tuple[str, Shape]]:
    by_name = catalogue.by_name
    outputs: dict[str, dict[str, None]] = {binding.twin: {} for binding in catalogue.twins}
    for signal in catalogue.signals:
        twin, _, rest = signal.name.partition("/")
        output, mark, role = rest.rpartition("#")
        if mark and role == "estimate" and twin in outputs:
            outputs[twin][output] = None
    for binding in catalogue.twins:
        parts: list[tuple[str, str, str, tuple[str, ...]]] = []
        for name, signal_name in binding.properties.items():
            if signal_name in by_name:
                parts.append((name, MEASURED, by_name[signal_name].unit, (signal_name,)))
        for output in outputs[binding.twin]:
            stem = f"{binding.twin}/{output}"
            unit = by_name[f"{stem}#estimate"].unit or unit_of(binding, catalogue, output)
            names = (f"{stem}#{role}" for role in ("estimate", "sigma", "innovation"))
            signals = tuple(by_name[name].name if name in by_name else name for name in names)
            parts.append((output, ESTIMATED, unit, signals))
        yield binding.twin, tuple(parts)


def _cells(role: str, signals: Sequence[str]) -> Iterable[tuple[str, int]]:
    """Signal and step behind its first slot, by cell."""
    if role == MEASURED:
        return ((signals[0], 0),) * MEASURED_CELLS
    estimate, sigma, innovation = signals
    cells = ((estimate, 0), (estimate, 1), (sigma, 0), (sigma, 1), (innovation, 0))
    assert len(cells) == ESTIMATED_CELLS, "as twins.gather reads them"
    return cells


_ORDER = (twin_records.c.site, twin_records.c.twin)
_MODEL = (
    select(func.min(t.models.c.name + "@" + t.models.c.version))
    .where(
        t.models.c.tenant == twin_records.c.tenant, t.models.c.digest == t.running.c.digest, t.running.c.digest != ""
    )
    .scalar_subquery()
)
_MEMBERS: Select[Any] = (
    select(
        twin_records.c.site,
        twin_records.c.twin,
        t.twins.c.gateway_id,
        t.twins.c.schema_id,
        func.coalesce(_MODEL, t.running.c.name).label("running"),
    )
    .select_from(twin_records)
    .outerjoin(t.twins, REPORTED)
    .outerjoin(t.gateways, t.gateways.c.id == t.twins.c.gateway_id)
    .outerjoin(t.running, (t.running.c.gateway_id == t.twins.c.gateway_id) & (t.running.c.twin == t.twins.c.twin))
)
_GATEWAYS = select(t.gateways.c.id, t.gateways.c.last_block, t.gateways.c.connected, t.gateways.c.last_seen_ns).where(
    t.gateways.c.tenant == bindparam("tenant")
)
_STRUCTURE = (
    select(func.count(), func.max(t.twins.c.revision)).where(t.twins.c.tenant == bindparam("tenant")),
    select(func.count(), func.max(twin_records.c.revision)).where(twin_records.c.tenant == bindparam("tenant")),
    select(func.count(), func.max(t.running.c.at_ns)).where(t.running.c.tenant == bindparam("tenant")),
)
"""Whatever changes what a fleet is made of changes one of these: revisions only grow, and are never given twice."""
