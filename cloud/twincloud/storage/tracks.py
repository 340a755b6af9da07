"""Raw samples of named signals with all that is known of where each came from: what replays and back-tests read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from sqlalchemy import bindparam, select

from twincloud.storage import schema as t
from twincloud.storage.contract import GatewayKey, TwinKey
from twincloud.storage.part import Part
from twincloud.storage.readings import twin_row
from twincloud.storage.tiers import KNOWN_ALL, Run, Wanted, joined
from twinmodel.signal import Kind

__all__ = ["KNOWN_ALL", "Track", "TrackStore", "no_track"]

Track: TypeAlias = Run
"""Samples of one signal in canonical order; unlike the runs of a tier it may be empty."""


def no_track(signal: str) -> Track:
    """A track without samples."""
    none = np.empty(0, np.int64)
    empty = np.empty(0, np.uint16)
    return Run(0, signal, Kind.FLOAT, "", none, np.empty(0), empty, none, none.astype(np.int32), (), none)


class TrackStore(Part):
    """Reads raw samples."""

    def tracks(
        self, gateway: GatewayKey, signals: Sequence[str], from_ns: int, to_ns: int, known: int = KNOWN_ALL
    ) -> Mapping[str, Track]:
        """Samples of signals in [from_ns, to_ns) that were committed up to `known`, a track for each.

        Raises UNKNOWN_GATEWAY; LIMIT_EXCEEDED when the span holds too much.
        """
        with self._database.read(gateway.tenant) as connection:
            ids = (self._gateway_id(connection, gateway),)
            wanted = Wanted(gateway.tenant, ids, frozenset(signals), from_ns, to_ns, known)
            found = self._history.runs(connection, wanted)
        return {name: joined(found[name]) if name in found else no_track(name) for name in signals}

    def gateways_of(self, key: TwinKey) -> tuple[GatewayKey, ...]:
        """The gateways that have spoken for a twin, the first one first; raises UNKNOWN_TWIN."""
        with self._database.read(key.tenant) as connection:
            row = twin_row(connection, key)
            found = connection.execute(_OWNERS, {"twin_id": row["id"]}).all()
        return tuple(GatewayKey(one.tenant, one.site, one.gateway) for one in found)


_OWNERS = (
    select(t.gateways.c.tenant, t.gateways.c.site, t.gateways.c.gateway)
    .join(t.twin_owners, t.twin_owners.c.gateway_id == t.gateways.c.id)
    .where(t.twin_owners.c.twin_id == bindparam("twin_id"))
    .order_by(t.twin_owners.c.since_ns, t.gateways.c.id)
)
