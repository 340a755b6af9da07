"""Numbers of measured signals through a run: what stays the same keeps its number over all configurations.

    driver ─▶ gate ─▶ models ─▶ lanes ─▶ blocks
      └────── numbers ──────┘     └─ places in the catalogue

A catalogue counts its signals from 0, so that one tag more or less moves all that follow. Drivers, gate and models
speak of numbers instead, which only a lane turns into places: they need not know of a change that is not theirs. A
signal of another kind, unit or resolution is another signal, though its name is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from twinmodel.signal import Catalogue, Kind, Signal, Stream

_Same = tuple[str, Kind, str, Stream, int, int, int]


@dataclass(frozen=True, slots=True)
class Numbered:
    """The numbers of one configuration.

    Attributes:
        catalogue: whose signals these are.
        signals: name -> measured signal, its `id` is the number.
        places: number -> place in the catalogue, -1 for a number that is out of use, shape (n,).
        begun: numbers that were not in use before.
    """

    catalogue: Catalogue
    signals: Mapping[str, Signal]
    places: NDArray[np.int64]
    begun: frozenset[int] = frozenset()
    _of: Mapping[_Same, int] = field(default_factory=dict)
    _free: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.places)

    @staticmethod
    def first(catalogue: Catalogue) -> Numbered:
        """The numbers of the first configuration of a run: places in its catalogue."""
        return Numbered(catalogue, {}, np.zeros(0, np.int64)).next(catalogue)

    def next(self, catalogue: Catalogue) -> Numbered:
        """The numbers of the configuration after this one.

        A number that goes out of use rests for one configuration before another signal gets it: what is under way
        with it must not become a sample of that one.
        """
        numbers: dict[_Same, int] = {}
        signals: dict[str, Signal] = {}
        begun = set()
        free, count = list(reversed(self._free)), len(self.places)
        for signal in catalogue.signals:
            if signal.role != "measured":
                continue
            same = _same(signal)
            number = self._of.get(same)
            if number is None:
                number = free.pop() if free else count
                count = max(count, number + 1)
                begun.add(number)
            numbers[same] = number
            signals[signal.name] = signal if signal.id == number else replace(signal, id=number)
        places = np.full(count, -1, np.int64)
        for name, numbered in signals.items():
            places[numbered.id] = catalogue.by_name[name].id
        resting = sorted(set(self._of.values()) - set(numbers.values()))
        return Numbered(catalogue, signals, places, frozenset(begun), numbers, (*reversed(free), *resting))


def _same(signal: Signal) -> _Same:
    return signal.name, signal.kind, signal.unit, signal.stream, signal.exponent, signal.step, signal.period_ns
