"""History of a property: reads the tiers window by window, the newest first, until there are points enough.

    [to - 1 h, to) ─▶ the span that should hold the points still missing, by what the last one held ─▶ ... ─▶ from

A window with many blocks that are not compacted yet is halved before anything of it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, bindparam, select

from twincloud.storage import schema as t
from twincloud.storage.contract import Series, TwinKey
from twincloud.storage.packing import unpack_binding
from twincloud.storage.part import Part
from twincloud.storage.readings import twin_row
from twincloud.storage.tier_blocks import BLOCKS_MAX, BlocksTier
from twincloud.storage.tiers import KNOWN_ALL, History, Run, Wanted, columns_of, schemas_of
from twincloud.storage.views import outputs_of
from twincloud.twins.history import KNOWN_ROLES, newest_points, signal_of
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError, MissingError

WINDOW_NS = 3_600 * SECOND_NS
WINDOW_NS_MIN = 60 * SECOND_NS
GROWTH_MAX = 64
"""A window is at most so many times as long as the one before it."""
STEP_BLOCKS = 4_096
"""Blocks of one window, where it can be made shorter."""


@dataclass(slots=True)
class Search:
    """What one history request looks for and has found: the newest windows first."""

    wanted: Wanted
    names: dict[str, dict[int, str]]
    runs: dict[str, list[Run]]

    def take(self, runs: Mapping[str, Sequence[Run]]) -> None:
        """Adds what a window holds: of each role the samples whose catalogue gave it the signal they are of."""
        for role, by_schema in self.names.items():
            for name in set(by_schema.values()) & runs.keys():
                self.runs.setdefault(role, []).extend(bound(run, name, by_schema) for run in runs[name])

    def points(self, role: str) -> int:
        """Samples of a role found so far."""
        return sum(len(run) for run in self.runs.get(role, ()))

    def filled(self, points_max: int) -> bool:
        """Whether every role that has samples has enough of them."""
        points = [self.points(role) for role in self.names]
        return any(points) and all(count >= points_max for count in points if count)

    def share(self, points_max: int) -> float:
        """How much of the points wanted is there, for the role that has least; 0 when none has any."""
        points = [count for role in self.names if (count := self.points(role))]
        return min(points) / points_max if points else 0.0


class TimelineStore(Part):
    """Reads history; see `Twins`."""

    def history(
        self,
        key: TwinKey,
        prop: str,
        roles: Sequence[str],
        from_ns: int,
        to_ns: int,
        points_max: int,
        known: int = KNOWN_ALL,
    ) -> Mapping[str, Series]:
        """See `Twins.history`; event times in [from_ns, to_ns). A role without samples gives an empty series."""
        unknown = [role for role in roles if role not in KNOWN_ROLES]
        if unknown or points_max < 1:
            what = f"role {unknown[0]!r} is unknown" if unknown else f"{points_max} points are none"
            raise InputError("REQUEST_INVALID", what, hint=f"use roles out of {', '.join(KNOWN_ROLES)}")
        with self._database.read(key.tenant) as connection:
            names, owners = self._names(connection, key, prop, roles)
            signals = frozenset(name for by_schema in names.values() for name in by_schema.values())
            search = Search(Wanted(key.tenant, owners, signals, from_ns, to_ns, known), names, {})
            truncated = self._collect(connection, search, points_max)
        result = {}
        for role in roles:
            columns = columns_of([run for run in search.runs.get(role, ()) if len(run)])
            kept, cut = newest_points(columns, points_max)
            result[role] = Series(kept.t_ns, kept.value, kept.quality, truncated or cut)
        return result

    def runs(self, wanted: Wanted) -> Mapping[str, list[Run]]:
        """The samples of some signals out of all tiers: signal -> a run per gateway, kind and unit it had.

        Raises:
            InputError: LIMIT_EXCEEDED when the span holds more than one answer may look at; ask in shorter spans.
        """
        with self._database.read(wanted.tenant) as connection:
            return self._history.runs(connection, wanted)

    def owners(self, key: TwinKey) -> tuple[int, ...]:
        """Ids of the gateways that ever served a twin, for `Wanted.gateways`; raises UNKNOWN_TWIN."""
        with self._database.read(key.tenant) as connection:
            row = twin_row(connection, key)
            return tuple(connection.execute(_OWNERS, {"twin_id": row["id"]}).scalars())

    def _names(
        self, connection: Connection, key: TwinKey, prop: str, roles: Sequence[str]
    ) -> tuple[dict[str, dict[int, str]], tuple[int, ...]]:
        """Role -> the signal that carried it by catalogue id, and the gateways the twin's samples came from."""
        row = twin_row(connection, key)
        binding = unpack_binding(row["binding"])
        known = {*binding.properties, *outputs_of(binding, self._catalogue_by_id(connection, row["schema_id"]))}
        if prop not in known:
            has = ", ".join(sorted(known))
            raise MissingError("NOT_FOUND", f"twin {binding.twin!r} has no property {prop!r}", hint=f"it has {has}")
        owners = tuple(connection.execute(_OWNERS, {"twin_id": row["id"]}).scalars())
        names: dict[str, dict[int, str]] = {role: {} for role in roles}
        for schema_id in set(connection.execute(SCHEMAS, {"gateways": list(owners)}).scalars()):
            for one in self._catalogue_by_id(connection, schema_id).twins:
                if one.twin == key.twin:
                    for role in roles:
                        names[role][schema_id] = signal_of(one, prop, role)
        return names, owners

    def _owners(self, connection: Connection, twin_id: int) -> tuple[int, ...]:
        return tuple(connection.execute(_OWNERS, {"twin_id": twin_id}).scalars())

    def _collect(self, connection: Connection, search: Search, points_max: int) -> bool:
        """Reads windows from the newest on; whether samples further back were left out."""
        if not search.wanted.signals:
            return False
        windows = self._windows(connection, search.wanted)
        for runs in windows:
            search.take(runs)
            if search.filled(points_max):
                return windows.left
            windows.lengthen(search.share(points_max))
        return windows.left

    def _windows(self, connection: Connection, wanted: Wanted) -> Windows:
        return Windows(connection, self._history, self._blocks_tier, wanted)


class Windows(Iterator[dict[str, list[Run]]]):
    """What the tiers hold of a span, window by window, the newest first.

    Attributes:
        left: whether anything further back has not been looked at; too many blocks that are not compacted end it.
    """

    def __init__(self, connection: Connection, history: History, blocks: BlocksTier, wanted: Wanted) -> None:
        self._connection = connection
        self._history = history
        self._blocks = blocks
        self._wanted = wanted
        self._end_ns = wanted.to_ns
        self._length_ns = WINDOW_NS
        self._seen = 0

    def lengthen(self, share: float) -> None:
        """Makes the next window as long as it must be for the rest, by the share of all that was found so far."""
        if share > 0:
            seen_ns = self._wanted.to_ns - self._end_ns
            rest_ns = min(int(seen_ns * (1.0 / share - 1.0) * 1.1), self._length_ns * (GROWTH_MAX // 2))
            self._length_ns = max(self._length_ns, rest_ns)

    @property
    def left(self) -> bool:
        """See the class."""
        return self._end_ns > self._wanted.from_ns

    def __next__(self) -> dict[str, list[Run]]:
        wanted, end_ns = self._wanted, self._end_ns
        if not self.left:
            raise StopIteration
        start_ns = max(wanted.from_ns, end_ns - self._length_ns)
        count = self._blocks.count(self._connection, wanted.gateways, start_ns, end_ns)
        while count > STEP_BLOCKS and end_ns - start_ns > WINDOW_NS_MIN:
            start_ns = end_ns - (end_ns - start_ns) // 2
            count = self._blocks.count(self._connection, wanted.gateways, start_ns, end_ns)
        self._seen += count
        if self._seen > BLOCKS_MAX:
            raise StopIteration
        window = Wanted(wanted.tenant, wanted.gateways, wanted.signals, start_ns, end_ns, wanted.known)
        found = self._history.pieces(self._connection, window, without=() if count else (self._blocks,))
        self._length_ns = 2 * max(end_ns - start_ns, WINDOW_NS_MIN)
        self._end_ns = start_ns
        return found


def bound(run: Run, name: str, by_schema: Mapping[int, str]) -> Run:
    """The samples of a run whose catalogue names their signal so; where the catalogue is not known, all of them."""
    schemas = schemas_of(run.origins)
    first = int(schemas[0])
    if (first == 0 or by_schema.get(first) == name) and bool((schemas == first).all()):
        return run  # as nearly always
    fitting = [schema for schema in np.unique(schemas).tolist() if schema == 0 or by_schema.get(schema) == name]
    fits = np.isin(schemas, fitting)
    return run if fits.all() else run.take(fits[run.origin])


_OWNERS = select(t.twin_owners.c.gateway_id).where(t.twin_owners.c.twin_id == bindparam("twin_id"))
SCHEMAS = select(t.gateway_schemas.c.schema_id).where(
    t.gateway_schemas.c.gateway_id.in_(bindparam("gateways", expanding=True))
)
