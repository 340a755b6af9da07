"""Finds samples that come a second time: what a broker or a server repeats after a reconnect or a restart.

A broker sends again what was not acknowledged, also when the commit had happened and only the acknowledgement was
lost with the process. An OPC UA server answers a new subscription with its last value. Both carry the time of their
source, so the same signal, time and value is the same sample; it is stored once. Values that the gateway stamps with
its own clock (Modbus) cannot repeat.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from twinmodel.signal import Batch

REMEMBERED = 128
"""Samples remembered per signal: several times what a broker keeps in flight for one topic."""

_Key = tuple[int, object]


class Replays:
    """Remembers the newest samples of signals that carry their source's time.

    Args:
        signals: ids of these signals.
    """

    def __init__(self, signals: Iterable[int]) -> None:
        self._order: dict[int, deque[_Key]] = {s: deque(maxlen=REMEMBERED) for s in signals}
        self._known: dict[int, set[_Key]] = {s: set() for s in self._order}
        self.found = 0

    def fresh(self, batch: Batch) -> Batch:
        """The samples of a batch that were not there before; these are remembered."""
        keep = [
            self._remember(signal, (t_ns, value if value == value else None))  # noqa: PLR0124 - NaN alone differs from itself
            for signal, t_ns, value in zip(
                batch.signal.tolist(), batch.t_ns.tolist(), batch.value.tolist(), strict=True
            )
        ]
        if all(keep):
            return batch
        self.found += len(keep) - sum(keep)
        return batch.take(np.array(keep, np.bool_))

    def recall(self, batch: Batch, ids: Mapping[int, int]) -> None:
        """Remembers samples of an earlier boot.

        Args:
            batch: as they were stored.
            ids: id in its catalogue -> id in the present one.
        """
        known = np.array([s in ids for s in batch.signal.tolist()], np.bool_)
        mine = batch.take(known)
        self.fresh(replace(mine, signal=np.array([ids[s] for s in mine.signal.tolist()], np.uint32)))

    def _remember(self, signal: int, key: _Key) -> bool:
        known = self._known.get(signal)
        if known is None:
            return True
        if key in known:
            return False
        order = self._order[signal]
        if len(order) == REMEMBERED:
            known.discard(order[0])
        order.append(key)
        known.add(key)
        return True
