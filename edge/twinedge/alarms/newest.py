"""The newest sample of every signal, so that a rule that changes is judged at once, also where nothing changes."""

from __future__ import annotations

from typing import Final

import numpy as np

from twinedge.alarms.screen import LIVE_NS, Found
from twinmodel.signal import Batch, Catalogue, Kind

_NEVER: Final = np.iinfo(np.int64).min


class Newest:
    """Samples by place in a catalogue; those of texts by name.

    Args:
        catalogue: the signals.
        before: what was known under the catalogue before it.
    """

    def __init__(self, catalogue: Catalogue, before: Newest | None = None) -> None:
        count = len(catalogue)
        self._catalogue = catalogue
        self._value = np.full(count, np.nan)
        self._quality = np.zeros(count, np.uint16)
        self._t_ns = np.full(count, _NEVER, np.int64)
        self._text: dict[int, str] = {}
        if before is not None:
            self._take_over(before)

    def _take_over(self, before: Newest) -> None:
        old = before._catalogue.by_name
        pairs = [
            (s.id, old[s.name].id) for s in self._catalogue.signals if s.name in old and old[s.name].kind is s.kind
        ]
        if not pairs:
            return
        here, there = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
        self._value[here] = before._value[there]
        self._quality[here] = before._quality[there]
        self._t_ns[here] = before._t_ns[there]
        places = {was: now for now, was in pairs}
        self._text = {places[was]: text for was, text in before._text.items() if was in places}

    def take(self, batch: Batch, now_ns: int) -> None:
        """Keeps the newest of what came; see `Screen` for what counts as newer."""
        newer = (batch.t_ns >= self._t_ns[batch.signal]) | (batch.t_ns >= now_ns - LIVE_NS)
        if not newer.all():
            batch = batch.take(newer)
        signal = batch.signal
        self._t_ns[signal] = batch.t_ns
        self._quality[signal] = batch.quality
        if batch.kind is Kind.STRING:
            self._text.update(zip(signal.tolist(), batch.value.tolist(), strict=True))
        else:
            self._value[signal] = batch.value

    def of(self, signal: int) -> Found | None:
        """The newest sample of a signal, None before the first."""
        if self._t_ns[signal] == _NEVER:
            return None
        kind = self._catalogue.signals[signal].kind
        number = float(self._value[signal])
        value = self._text.get(signal, "") if kind is Kind.STRING else bool(number) if kind is Kind.BOOL else number
        return signal, value, int(self._quality[signal]), int(self._t_ns[signal])
