"""History of a property: finds the blocks of a time range, decodes each once for all roles, newest first.

    index (gateway, wide, t_min) ─▶ block ids ─▶ decoded blocks held ─┬─▶ columns per role
                                              └▶ payloads of the rest ┘

Blocks are read in steps from the newest back, until every role that has samples has `points_max` of them. Compacted
tiers (point-hour blocks, Parquet) will answer `_find` and `_load` for older ranges; nothing above changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from twincloud.storage import schema as t
from twincloud.storage.contract import Series, TwinKey
from twincloud.storage.packing import unpack_binding
from twincloud.storage.part import Part
from twincloud.storage.readings import twin_row
from twincloud.storage.span import WIDE_NS
from twincloud.storage.views import outputs_of
from twincloud.twins.history import KNOWN_ROLES, Columns, Decoded, newest_points, signal_of
from twincloud.twins.history import select as select_columns
from twinmodel.errors import InputError, MissingError
from twinmodel.signal import Catalogue

STEP_BLOCKS = 4_096
BLOCKS_MAX = 40_960
"""Blocks one answer looks at, at most; what lies further back is left out and said to be."""

_FETCH = 500


@dataclass(slots=True)
class Search:
    """What one history request looks for and has found."""

    twin: str
    prop: str
    roles: tuple[str, ...]
    from_ns: int
    to_ns: int
    catalogues: dict[int, Catalogue]
    names: dict[str, dict[int, str]]
    blocks: dict[int, Decoded]


class TimelineStore(Part):
    """Reads history; see `Twins`."""

    def history(
        self, key: TwinKey, prop: str, roles: Sequence[str], from_ns: int, to_ns: int, points_max: int
    ) -> Mapping[str, Series]:
        """See `Twins.history`; event times in [from_ns, to_ns). A role without samples gives an empty series."""
        unknown = [role for role in roles if role not in KNOWN_ROLES]
        if unknown or points_max < 1:
            what = f"role {unknown[0]!r} is unknown" if unknown else f"{points_max} points are none"
            raise InputError("REQUEST_INVALID", what, hint=f"use roles out of {', '.join(KNOWN_ROLES)}")
        with self._database.read() as connection:
            row = twin_row(connection, key)
            self._check_property(connection, row["schema_id"], row["binding"], prop)
            owners = connection.execute(_OWNERS, {"twin_id": row["id"]}).scalars().all()
            search = Search(key.twin, prop, tuple(roles), from_ns, to_ns, {}, {role: {} for role in roles}, {})
            columns, truncated = self._collect(connection, owners, search, points_max)
        result = {}
        for role in roles:
            kept, cut = newest_points(columns[role], points_max)
            result[role] = Series(kept.t_ns, kept.value, kept.quality, truncated or cut)
        return result

    def _check_property(self, connection: Connection, schema_id: int, packed: bytes, prop: str) -> None:
        binding = unpack_binding(packed)
        known = {*binding.properties, *outputs_of(binding, self._catalogue_by_id(connection, schema_id))}
        if prop not in known:
            has = ", ".join(sorted(known))
            raise MissingError("NOT_FOUND", f"twin {binding.twin!r} has no property {prop!r}", hint=f"it has {has}")

    def _collect(
        self, connection: Connection, owners: Sequence[int], search: Search, points_max: int
    ) -> tuple[Mapping[str, Columns], bool]:
        """Columns per role, complete from some event time on, and whether blocks further back were left out."""
        span = {"gateways": list(owners), "from_ns": search.from_ns, "to_ns": search.to_ns}
        self._load(connection, [row.id for row in connection.execute(_WIDE, {**span, "limit": BLOCKS_MAX})], search)
        before_ns, seen = search.to_ns, 0
        while True:
            rows = connection.execute(_NARROW, {**span, "before_ns": before_ns, "since_ns": search.from_ns - WIDE_NS,
                                                "limit": STEP_BLOCKS}).all()  # fmt: skip
            self._load(connection, [row.id for row in rows], search)
            columns = self._columns(search)
            seen += len(rows)
            if len(rows) < STEP_BLOCKS:
                return columns, False
            # The step may end among blocks of one time: the next one begins with that time again.
            again_ns = rows[-1].t_min_ns + 1
            before_ns = again_ns if again_ns < before_ns else rows[-1].t_min_ns
            filled = all(len(columns[role]) >= points_max for role in search.roles if len(columns[role]))
            if (filled and any(len(c) for c in columns.values())) or seen >= BLOCKS_MAX:
                break
        # Blocks not read yet begin before `before_ns`, but may reach WIDE_NS further.
        edge_ns = min(
            (int(newest_points(c, points_max)[0].t_ns[0]) for c in columns.values() if len(c)), default=before_ns
        )
        late = {**span, "before_ns": before_ns, "since_ns": edge_ns - WIDE_NS, "from_ns": edge_ns, "limit": BLOCKS_MAX}
        self._load(connection, [row.id for row in connection.execute(_NARROW, late)], search)
        return self._columns(search), True

    def _columns(self, search: Search) -> dict[str, Columns]:
        blocks = list(search.blocks.values())
        return select_columns(blocks, search.catalogues, search.names, search.from_ns, search.to_ns)

    def _load(self, connection: Connection, ids: Sequence[int], search: Search) -> None:
        """Adds blocks to the search, decoding those that are not held."""
        wanted = [block for block in ids if block not in search.blocks]
        found = self._decoded.take(wanted)
        missing = [block for block in wanted if block not in found]
        for start in range(0, len(missing), _FETCH):
            for row in connection.execute(_PAYLOADS, {"ids": missing[start : start + _FETCH]}).all():
                catalogue = self._catalogue_by_id(connection, row.schema_id)
                order = (row.counter, row.boot, row.stream, row.first_seq)
                found[row.id] = Decoded(order, row.schema_id, tuple(self._decode(row.payload, catalogue)))
                self._decoded.put(row.id, found[row.id])
        for schema_id in {decoded.schema for decoded in found.values()} - search.catalogues.keys():
            catalogue = self._catalogue_by_id(connection, schema_id)
            search.catalogues[schema_id] = catalogue
            binding = next((b for b in catalogue.twins if b.twin == search.twin), None)
            for role in search.roles:
                name = "" if binding is None else signal_of(binding, search.prop, role)
                search.names[role][schema_id] = name
        search.blocks |= found


_OWNERS = select(t.twin_owners.c.gateway_id).where(t.twin_owners.c.twin_id == bindparam("twin_id"))
_IN_RANGE = select(t.blocks.c.id, t.blocks.c.t_min_ns).where(
    t.blocks.c.gateway_id.in_(bindparam("gateways", expanding=True)),
    t.blocks.c.t_max_ns >= bindparam("from_ns"),
)
_WIDE = (
    _IN_RANGE.where(t.blocks.c.wide.is_(True), t.blocks.c.t_min_ns < bindparam("to_ns"))
    .order_by(t.blocks.c.t_min_ns.desc())
    .limit(bindparam("limit"))
)
_NARROW = (
    _IN_RANGE.where(
        t.blocks.c.wide.is_(False),
        t.blocks.c.t_min_ns < bindparam("before_ns"),
        t.blocks.c.t_min_ns >= bindparam("since_ns"),
    )
    .order_by(t.blocks.c.t_min_ns.desc(), t.blocks.c.id.desc())
    .limit(bindparam("limit"))
)
_PAYLOADS = (
    select(
        t.blocks.c.id, t.blocks.c.schema_id, t.blocks.c.stream, t.blocks.c.first_seq, t.blocks.c.payload,
        t.boots.c.boot, t.boots.c.counter,
    )
    .join(t.boots, t.boots.c.id == t.blocks.c.boot_id)
    .where(t.blocks.c.id.in_(bindparam("ids", expanding=True)))
)  # fmt: skip
