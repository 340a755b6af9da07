"""A twin as it was: its newest readings up to an event time, of what was known at a commit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from sqlalchemy import Connection

from twincloud.storage.contract import Twin, TwinKey
from twincloud.storage.readings import TwinStore, twin_row
from twincloud.storage.tiers import KNOWN_ALL, Run, Wanted, joined
from twincloud.storage.timeline import TimelineStore
from twincloud.twins.state import FUTURE_NS, Reading, State, depth_of, signals_of
from twinmodel.clock import SECOND_NS

REACH_NS = 366 * 86_400 * SECOND_NS
"""How far back a reading is looked for."""


class AsOfStore(TwinStore, TimelineStore):
    """See `Hours`."""

    def twin_as_of(self, key: TwinKey, as_of_ns: int, known: int = KNOWN_ALL) -> Twin:
        """A twin by what was known at a commit of the time up to `as_of_ns`, that time included.

        Values are those of then; binding, model and what people said of it are those of now. The readings are those
        of the newest state where `as_of_ns` is not before them and all is known. Raises UNKNOWN_TWIN.
        """
        with self._database.read(key.tenant) as connection:
            row = twin_row(connection, key)
            catalogue = self._catalogue_by_id(connection, row["schema_id"])
            names = [catalogue.signals[signal].name for signal in signals_of(catalogue).get(key.twin, ())]
            gateways = self._owners(connection, row["id"])
            wanted = Wanted(key.tenant, gateways, frozenset(names), as_of_ns - REACH_NS, as_of_ns + 1, known)
            return self._views(connection, key.tenant, [row], self._state_of(connection, wanted))[0]

    def _state_of(self, connection: Connection, wanted: Wanted) -> State:
        found: dict[str, list[Run]] = {}
        state: State = {}
        missing = set(wanted.signals)
        for runs in self._windows(connection, wanted):
            for name in missing & runs.keys():
                found.setdefault(name, []).extend(runs[name])
                state[name] = newest_of(found[name], depth_of(name))
            missing = {name for name in missing if len(state.get(name, ())) < depth_of(name)}
            if not missing:
                break
        return {name: readings for name, readings in state.items() if readings}


def newest_of(runs: Iterable[Run], depth: int) -> list[Reading]:
    """The newest readings of one signal, newest first; samples from the future of their receipt do not count."""
    run = joined(list(runs))
    readings: list[Reading] = []
    for at in range(len(run) - 1, -1, -1):
        origin = run.origins[int(run.origin[at])]
        if int(run.t_ns[at]) <= origin.received_ns + FUTURE_NS:
            value = run.value[at]
            plain = value.item() if isinstance(value, np.generic) else value
            readings.append(Reading(int(run.t_ns[at]), int(run.seq[at]), plain, int(run.quality[at]), origin))
            if len(readings) == depth:
                break
    return readings
