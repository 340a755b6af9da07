"""What the gate expects of each signal, as columns over the catalogue."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from twinedge.config.load import LoadedSite
from twinedge.config.numbers import Numbered
from twinmodel.errors import InputError
from twinmodel.profile.scale import parse_scale
from twinmodel.profile.schema import Point
from twinmodel.signal import Catalogue, Kind


@dataclass(frozen=True, slots=True)
class Labels:
    """The values that integer signals may have, as sorted columns.

    Attributes:
        values: every value that any signal may have, sorted, shape (v,).
        pairs: `signal * v + place in values` of what is allowed, sorted, shape (k,).
    """

    values: NDArray[np.int64]
    pairs: NDArray[np.int64]

    @staticmethod
    def of(allowed: Iterable[tuple[int, Iterable[int]]]) -> Labels:
        """From pairs of signal id and its values."""
        known = [(signal, value) for signal, values in allowed for value in values]
        values = np.unique(np.array([value for _, value in known], np.int64))
        signals = np.array([signal for signal, _ in known], np.int64)
        places = np.searchsorted(values, np.array([value for _, value in known], np.int64))
        return Labels(values, np.sort(signals * len(values) + places))

    def unknown(self, signal: NDArray[np.uint32], value: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which values have no label; all signals must have labels."""
        place = np.minimum(np.searchsorted(self.values, value), len(self.values) - 1)
        pair = signal.astype(np.int64) * len(self.values) + place
        at = np.minimum(np.searchsorted(self.pairs, pair), len(self.pairs) - 1)
        return np.asarray((self.values[place] != value) | (self.pairs[at] != pair))


@dataclass(frozen=True, slots=True)
class Rules:
    """One entry per signal; NaN, 0 or False where there is no rule.

    Attributes:
        low, high: plausible range, in the unit of the signal, shape (n,).
        rate: largest plausible change per second, shape (n,).
        frozen_ns: time after which an unchanged value is suspect; polled signals only, shape (n,).
        counter: signals that never go back, shape (n,).
        wraps: of a counter: value at which it starts again at 0, in the unit of the signal, shape (n,).
        labelled: integer signals of which only some values have a meaning, shape (n,).
        labels: these values.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    rate: NDArray[np.float64]
    frozen_ns: NDArray[np.int64]
    counter: NDArray[np.bool_]
    wraps: NDArray[np.float64]
    labelled: NDArray[np.bool_]
    labels: Labels = field(default_factory=lambda: Labels.of(()))

    def __len__(self) -> int:
        return len(self.low)

    @staticmethod
    def none(count: int, labels: Labels | None = None) -> Rules:
        """Rules for `count` signals of which nothing is expected."""
        nan = np.full(count, np.nan)
        no = np.zeros(count, np.bool_)
        made = Rules(nan, nan.copy(), nan.copy(), np.zeros(count, np.int64), no, nan.copy(), no.copy())
        return made if labels is None else made.with_labels(labels)

    def with_labels(self, labels: Labels) -> Rules:
        """The same rules; the signals of these labels are labelled."""
        labelled = self.labelled.copy()
        if len(labels.pairs):
            labelled[np.unique(labels.pairs // len(labels.values))] = True
        return Rules(
            self.low, self.high, self.rate, self.frozen_ns, self.counter, self.wraps, labelled, labels
        )  # fmt: skip


def rules_of(loaded: LoadedSite, named: Catalogue | Numbered) -> Rules:
    """The rules that the profiles of a site give, by place in a catalogue or by number; outputs of models have none."""
    rules = Rules.none(len(named))
    signals = named.signals if isinstance(named, Numbered) else named.by_name
    labels: list[tuple[int, Iterable[int]]] = []
    for device, profile in loaded.profiles.items():
        for name, point in profile.points.items():
            signal = signals[f"{device}.{name}"]
            if signal.kind not in {Kind.FLOAT, Kind.INT}:
                continue
            if point.range is not None:
                rules.low[signal.id], rules.high[signal.id] = point.range
            if point.rate is not None:
                rules.rate[signal.id] = point.rate
            if point.frozen is not None and profile.protocol == "modbus":
                rules.frozen_ns[signal.id] = point.frozen
            if point.klass == "counter":
                rules.counter[signal.id] = True
                rules.wraps[signal.id] = wraps_of(point)
            if point.states and signal.kind is Kind.INT:
                labels.append((signal.id, point.states))
    return rules.with_labels(Labels.of(labels))


def wraps_of(point: Point) -> float:
    """Range of a counter in its unit, NaN when it is not known: the profile says raw counts, before the scale.

    With a scale that is read from the device the range is not known either: going back is then a reset.
    """
    if point.wraps is None:
        return math.nan
    if point.scale is None:
        return point.wraps
    if isinstance(point.scale, (int, float)):
        return point.wraps * abs(float(point.scale))
    try:
        scale = parse_scale(point.scale)
    except InputError:
        return math.nan
    return math.nan if scale.points else point.wraps * abs(scale.factor({}))
