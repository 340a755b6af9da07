"""Finds samples that come a second time: what a broker or a server repeats after a reconnect or a restart.

A broker sends again what was not acknowledged, also when the commit had happened and only the acknowledgement was
lost with the process. An OPC UA server answers a new subscription with its last value. Both carry the time of their
source, so the same signal, time and value is the same sample; it is stored once. The same value of the same time with
another quality is news: a source that got better or worse without a new stamp. Values that the gateway stamps with its
own clock (Modbus) cannot repeat.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from twinedge.config.load import LoadedSite
from twinmodel.signal import Batch, Catalogue

REMEMBERED = 128
"""Samples remembered per signal: several times what a broker keeps in flight for one topic."""
REMEMBERED_LEAST = 16
"""Samples remembered per signal of OPC UA, which repeats its last value alone, and per signal of a huge site."""
REMEMBERED_ALL = 200_000
"""Samples of brokers remembered over all signals; each takes 180 bytes."""

_Key = tuple[int, object]


class Replays:
    """Remembers the newest samples of signals that carry their source's time.

    Args:
        signals: id of each of these signals -> how many of its samples are remembered.
    """

    def __init__(self, signals: Mapping[int, int]) -> None:
        self._order: dict[int, deque[_Key]] = {s: deque(maxlen=count) for s, count in signals.items()}
        self._known: dict[int, dict[_Key, int | None]] = {s: {} for s in self._order}
        self._stamped = np.zeros(max(self._order, default=-1) + 2, np.bool_)  # the last one stands for all beyond
        self._stamped[list(self._order)] = True
        self.found = 0

    def fresh(self, batch: Batch) -> Batch:
        """The samples of a batch that were not there before; these are remembered."""
        if not self._stamped[np.minimum(batch.signal, len(self._stamped) - 1)].any():
            return batch
        keep = self._remembered(batch, batch.quality.tolist())
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
        mine = batch.take(np.array([s in ids for s in batch.signal.tolist()], np.bool_))
        mine = replace(mine, signal=np.array([ids[s] for s in mine.signal.tolist()], np.uint32))
        # The gate may have changed the quality before it was stored: any will do.
        self._remembered(mine, [None] * len(mine))

    def _remembered(self, batch: Batch, qualities: Sequence[int | None]) -> list[bool]:
        columns = zip(batch.signal.tolist(), batch.t_ns.tolist(), batch.value.tolist(), qualities, strict=True)
        return [
            self._remember(signal, (t_ns, value if value == value else None), quality)  # noqa: PLR0124 - NaN alone differs from itself
            for signal, t_ns, value, quality in columns
        ]

    def _remember(self, signal: int, key: _Key, quality: int | None) -> bool:
        known = self._known.get(signal)
        if known is None:
            return True
        if key in known:
            news = known[key] not in (None, quality)
            known[key] = quality
            return news
        order = self._order[signal]
        if len(order) == order.maxlen:
            del known[order[0]]
        order.append(key)
        known[key] = quality
        return True


def source_stamped(loaded: LoadedSite, catalogue: Catalogue) -> dict[int, int]:
    """Ids of signals whose samples carry the time of their source -> how many of these are worth remembering."""
    protocol = {name: profile.protocol for name, profile in loaded.profiles.items()}
    sources = {s.id: protocol.get(s.name.partition(".")[0]) for s in catalogue.signals if s.role == "measured"}
    brokered = sum(source == "mqtt" for source in sources.values())
    share = max(REMEMBERED_LEAST, min(REMEMBERED, REMEMBERED_ALL // max(brokered, 1)))
    counts = {"mqtt": share, "opcua": REMEMBERED_LEAST}
    return {signal: counts[source] for signal, source in sources.items() if source in counts}
