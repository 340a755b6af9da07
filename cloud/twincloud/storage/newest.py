"""The newest readings of each gateway, kept beside its blocks: a cache of history that is never behind it.

    gateways.last_block ─ what is committed        gateway_states ─ columns up to block `through`, saved now and then

Whoever needs the readings takes those held in memory or saved, and folds in the blocks that came after them. So a
commit writes no state but every `SAVE_BLOCKS` blocks of a gateway, and one that is rolled back has changed nothing.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from sqlalchemy import Connection, bindparam, select

from twincloud.storage import schema as t
from twincloud.storage.contract import TwinKey
from twincloud.storage.part import BINDINGS, Bound, Part
from twincloud.twins.latest import Latest
from twincloud.twins.state import Origin, depth_of, signals_of
from twinmodel.signal import Catalogue

SAVE_BLOCKS: Final = 64
_FETCH: Final = 256


class NewestStore(Part):
    """What commits fold into and twins are read from."""

    _bounds_version = 0

    def _newest(self, connection: Connection, gateway_id: int, last_block: int, *, writing: bool = False) -> Latest:
        """Readings of a gateway with the blocks up to `last_block` or more, not to be changed; see also `_bound`."""
        held = self._latest.get(gateway_id)
        if held is not None and held.through >= last_block:
            return held
        # What is saved may be ahead of what is held: another replica compacted, and the blocks between are gone.
        through = connection.execute(_THROUGH, {"gateway_id": gateway_id}).scalar()
        if held is None or (through is not None and through > held.through):
            row = connection.execute(_SAVED, {"gateway_id": gateway_id}).first()
            held = Latest() if row is None else Latest.unpack(row.state, row.through)
        if held.through >= last_block:
            return self._latest.put(gateway_id, held)
        self._look_at_bounds(connection)
        draft = held.draft()
        span = {"gateway_id": gateway_id, "after": held.through, "last": last_block}
        for row in connection.execute(_TAIL, span):
            catalogue = self._catalogue_by_id(connection, row.schema_id)
            bound = self._bound(connection, gateway_id, row.schema_id, catalogue, writing=writing)
            origin = Origin(row.counter, row.boot, row.stream, row.first_seq, row.received_ns, row.committed_ns)
            slots = draft.slots_of(row.schema_id, bound.names)
            signals = draft.fold(self._decode(row.payload, catalogue), slots, bound.depth, origin)
            twins = (key.twin for key in bound.twins_of(signals))
            draft.changed |= dict.fromkeys(twins, (row.commit_no, row.committed_ns))
            draft.unsaved += 1
        draft.through = last_block
        return self._latest.put(gateway_id, draft)

    def _look_at_bounds(self, connection: Connection) -> None:
        """Forgets what catalogues bind when any coordinator has changed it since; to be called before `_bound`."""
        version = int(connection.execute(_BINDINGS).scalar() or 0)
        if version != self._bounds_version:
            self._bounds_held.clear()
            self._bounds_version = version

    def _bound(
        self, connection: Connection, gateway_id: int, schema_id: int, catalogue: Catalogue, *, writing: bool
    ) -> Bound:
        """What a catalogue binds for a gateway, as ingest needs it.

        Only writers keep what they found: they come one after the other, and the one that changes what is bound
        forgets all. A reader may still see what was before that.
        """
        known = self._bounds_held.get((gateway_id, schema_id))
        if known is not None:
            return known
        rows = connection.execute(_OWN, {"gateway_id": gateway_id})
        own = {row.twin: TwinKey(row.tenant, row.site, row.twin) for row in rows}
        members = [(own[twin], signals) for twin, signals in signals_of(catalogue).items() if twin in own]
        depth = np.zeros(len(catalogue), np.uint8)
        width = 1
        owners: list[list[int]] = [[] for _ in range(len(catalogue))]
        for place, (_, signals) in enumerate(members):
            for signal in signals:
                depth[signal] = depth_of(catalogue.signals[signal].name)
                owners[signal].append(place)
                width = max(width, len(owners[signal]))
        owner = np.full((len(catalogue), width), -1, np.int32)
        for signal, places in enumerate(owners):
            owner[signal, : len(places)] = places
        names = tuple(signal.name for signal in catalogue.signals)
        bound = Bound(schema_id, depth, names, tuple(twin for twin, _ in members), owner)
        return self._bounds_held.put((gateway_id, schema_id), bound) if writing else bound


def saved_row(tenant: str, gateway_id: int, latest: Latest) -> dict[str, object]:
    """The row that keeps the readings of a gateway."""
    return {"tenant": tenant, "gateway_id": gateway_id, "through": latest.through, "state": latest.pack()}


_BINDINGS = select(t.counters.c.value).where(t.counters.c.name == BINDINGS)
_SAVED = select(t.gateway_states).where(t.gateway_states.c.gateway_id == bindparam("gateway_id"))
_THROUGH = select(t.gateway_states.c.through).where(t.gateway_states.c.gateway_id == bindparam("gateway_id"))
_OWN = select(t.twins.c.tenant, t.twins.c.site, t.twins.c.twin).where(t.twins.c.gateway_id == bindparam("gateway_id"))
_TAIL = (
    select(
        t.blocks.c.commit_no, t.blocks.c.schema_id, t.blocks.c.stream, t.blocks.c.first_seq, t.blocks.c.payload,
        t.blocks.c.received_ns, t.blocks.c.committed_ns, t.boots.c.boot, t.boots.c.counter,
    )
    .join(t.boots, t.boots.c.id == t.blocks.c.boot_id)
    .where(
        t.blocks.c.gateway_id == bindparam("gateway_id"),
        t.blocks.c.id > bindparam("after"),
        t.blocks.c.id <= bindparam("last"),
    )
    .order_by(t.blocks.c.id)
    .execution_options(yield_per=_FETCH)
)  # fmt: skip
