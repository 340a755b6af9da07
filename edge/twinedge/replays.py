"""Finds samples that come a second time: what a broker or a server repeats after a reconnect or a restart.

A broker sends again what was not acknowledged, also when the commit had happened and only the acknowledgement was
lost with the process. An OPC UA server answers a new subscription with its last value. Both carry the time of their
source, so the same signal, time and value is the same sample; it is stored once. The same value of the same time with
another quality is news: a source that got better or worse without a new stamp. Values that the gateway stamps with its
own clock (Modbus) cannot repeat.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from twinedge.config.load import LoadedSite
from twinmodel.profile.schema import FirmwareProfile, Point
from twinmodel.quality import QualityReason, uncertain
from twinmodel.signal import Batch, Signal

REMEMBERED = 100_000
"""Samples of brokers that are remembered, each in 180 bytes: of the 1024 messages that one may have in flight and send
again after a kill, with some tens of samples each. Were it less, what comes again would push out what follows it."""
REMEMBERED_LAST = 4
"""Samples of each signal of OPC UA that are remembered: a server repeats the last one alone."""
REMEMBERED_TWICE = 512
"""Samples of a signal that are remembered while two sessions read it."""

_CLOCK = uncertain(QualityReason.CLOCK)  # drivers stamp so what they date themselves

_Key = tuple[int, int, object]


class _Memory:
    """The newest samples, and the quality with which each was last said; None when that is not known."""

    __slots__ = ("_known", "_order")

    def __init__(self, most: int) -> None:
        self._order: deque[_Key] = deque(maxlen=most)
        self._known: dict[_Key, int | None] = {}

    def is_new(self, key: _Key, quality: int | None) -> bool:
        known = self._known
        if key in known:
            news = known[key] not in (None, quality)
            known[key] = quality
            return news
        if len(self._order) == self._order.maxlen:
            del known[self._order[0]]
        self._order.append(key)
        known[key] = quality
        return True

    def resized(self, most: int) -> _Memory:
        """The newest of what is remembered, in another size."""
        made = _Memory(most)
        made._order.extend(self._order)
        made._known = {key: self._known[key] for key in made._order}
        return made

    def forget(self, signals: Collection[int]) -> None:
        """Drops what is remembered of signals whose number another one has now."""
        kept = [key for key in self._order if key[0] not in signals]
        if len(kept) < len(self._order):
            self._known = {key: self._known[key] for key in kept}
            self._order = deque(kept, self._order.maxlen)


class Replays:
    """Remembers the newest samples of signals that carry their source's time.

    Args:
        brokered: ids of signals whose broker repeats what was in flight.
        served: ids of signals whose server repeats its last values.
    """

    def __init__(self, brokered: Iterable[int] = (), served: Iterable[int] = ()) -> None:
        self._shared = _Memory(REMEMBERED)
        self._memories: dict[int, _Memory] = {}
        self.found = 0
        self.use(brokered, served)

    def use(self, brokered: Iterable[int], served: Iterable[int], begun: Collection[int] = ()) -> None:
        """Looks at these signals from now on; what is remembered of those that stay is kept.

        Args:
            brokered: see the class.
            served: see the class.
            begun: numbers that have another signal now.
        """
        if begun:
            self._shared.forget(begun)
        own = {s: m for s, m in self._memories.items() if m is not self._shared and s not in begun}
        self._memories = dict.fromkeys(brokered, self._shared)
        self._memories |= {s: own.get(s) or _Memory(REMEMBERED_LAST) for s in served}
        self._stamped = np.zeros(max(self._memories, default=-1) + 2, np.bool_)  # the last one stands for all beyond
        self._stamped[list(self._memories)] = True

    def read_twice(self, signals: Iterable[int], *, over: bool = False) -> None:
        """Two sessions read these signals of OPC UA for a moment, and one may be behind the other; or no more."""
        for signal in signals:
            memory = self._memories.get(signal)
            if memory is not None and memory is not self._shared:
                self._memories[signal] = memory.resized(REMEMBERED_LAST if over else REMEMBERED_TWICE)

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
        memories, found, last_ns = self._memories, [], 0
        for signal, t_ns, value, quality in columns:
            memory = memories.get(signal)
            # Samples of one message have one time: one number in memory instead of one each.
            last_ns = last_ns if t_ns == last_ns else t_ns
            told = value if value == value else None  # noqa: PLR0124 - NaN alone differs from itself
            found.append(memory is None or quality == _CLOCK or memory.is_new((signal, last_ns, told), quality))
        return found


def source_stamped(loaded: LoadedSite, signals: Iterable[Signal]) -> tuple[list[int], list[int]]:
    """Ids of signals whose samples carry the time of their source: those of brokers, those of OPC UA."""
    found: dict[str, list[int]] = {"mqtt": [], "opcua": []}
    for signal in signals:
        device, _, point = signal.name.partition(".")
        profile = loaded.profiles.get(device) if signal.role == "measured" else None
        if profile is not None and profile.protocol in found and _is_dated(profile, profile.points[point]):
            found[profile.protocol].append(signal.id)
    return found["mqtt"], found["opcua"]


def _is_dated(profile: FirmwareProfile, point: Point) -> bool:
    """Whether the source says when; of what it does not date, equal values are samples of their own."""
    defaults = profile.defaults
    if profile.protocol == "opcua" or (point.payload or defaults.payload) == "sparkplug":
        return True
    return (point.time or defaults.time) is not None
