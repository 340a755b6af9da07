"""Which samples the coordinator can do without: at most one in each period of signals that belong to no twin.

What goes is declared: the block keeps its numbers and says which of them it kept, as one thinned on a full disk does.
Alarms, and whatever a twin reads or says, stay whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from twinmodel.signal import Batch, Catalogue, Stream
from twinsync.session.messages import Coarsen

WISHES_MAX = 1024
"""Wishes that are kept; what is not asked for by one of them stays whole."""
_OUTPUT_SIGN = "#"


class Wishes:
    """The newest wish of each stream and signal, and when a sample of each signal was kept last."""

    def __init__(self) -> None:
        self._wishes: dict[tuple[Stream, str], Coarsen] = {}
        self._kept: dict[str, int] = {}
        self._pending: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._wishes)

    def take(self, wish: Coarsen) -> None:
        """Takes a wish in the place of the one before it; one for alarms is refused silently."""
        key = (wish.stream, wish.signal)
        self._wishes.pop(key, None)
        if wish.stream is not Stream.ALARM and wish.period_ns > 0 and len(self._wishes) < WISHES_MAX:
            self._wishes[key] = wish

    def forget(self) -> None:
        """A session begins: what holds is told in it."""
        self._wishes.clear()

    def asks(self, stream: Stream) -> bool:
        """Whether there is a wish for this stream."""
        return any(asked is stream for asked, _ in self._wishes)

    def begin(self) -> None:
        """A transaction begins; what an earlier one that failed has kept was not."""
        self._pending = {}

    def settle(self) -> None:
        """The transaction is durable."""
        self._kept |= self._pending

    def mask(
        self, stream: Stream, batches: Sequence[Batch], catalogue: Catalogue, now_ns: int
    ) -> NDArray[np.bool_] | None:
        """Which samples of a block to keep, at least one; None when all of them.

        Args:
            stream: stream of the block.
            batches: its samples in canonical order.
            catalogue: names their signals.
            now_ns: server time, by our clock.
        """
        periods_ns = self._periods_ns(stream, now_ns)
        if not periods_ns:
            return None
        whole = {name for twin in catalogue.twins for name in twin.properties.values()}
        masks = []
        for batch in batches:
            mask = np.ones(len(batch), np.bool_)
            for signal in np.unique(batch.signal).tolist():
                name = catalogue.signals[signal].name
                period_ns = periods_ns.get(name, periods_ns.get("", 0))
                if not period_ns or name in whole or _OUTPUT_SIGN in name:
                    continue
                places = np.flatnonzero(batch.signal == signal)
                period = batch.t_ns[places] // period_ns
                last = self._pending.get(name, self._kept.get(name))
                fresh = period != np.concatenate(([period[0] - 1 if last is None else last], period[:-1]))
                mask[places] = fresh
                self._pending[name] = int(period[-1])
            masks.append(mask)
        found = np.concatenate(masks)
        if found.all():
            return None
        # A block says which numbers it kept: there must be one.
        found[0] |= not found.any()
        return found if not found.all() else None

    def _periods_ns(self, stream: Stream, now_ns: int) -> dict[str, int]:
        """Periods that are asked for now, by signal; "" for all others."""
        return {
            signal: wish.period_ns
            for (asked, signal), wish in self._wishes.items()
            if asked is stream and not (wish.until_ns and now_ns >= wish.until_ns)
        }
