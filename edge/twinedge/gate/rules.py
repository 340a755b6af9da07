"""What the gate expects of each signal, as columns over the catalogue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinedge.config.load import LoadedSite
from twinmodel.signal import Catalogue, Kind


@dataclass(frozen=True, slots=True)
class Rules:
    """One entry per signal; NaN or 0 where there is no rule.

    Attributes:
        low, high: plausible range, in the unit of the signal, shape (n,).
        rate: largest plausible change per second, shape (n,).
        frozen_ns: time after which an unchanged value is suspect; polled signals only, shape (n,).
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    rate: NDArray[np.float64]
    frozen_ns: NDArray[np.int64]

    @staticmethod
    def none(count: int) -> Rules:
        """Rules for `count` signals of which nothing is expected."""
        nan = np.full(count, np.nan)
        return Rules(nan, nan.copy(), nan.copy(), np.zeros(count, np.int64))


def rules_of(loaded: LoadedSite, catalogue: Catalogue) -> Rules:
    """The rules that the profiles of a site give; outputs of models have none."""
    rules = Rules.none(len(catalogue))
    for device, profile in loaded.profiles.items():
        for name, point in profile.points.items():
            signal = catalogue.by_name[f"{device}.{name}"]
            if signal.kind not in {Kind.FLOAT, Kind.INT}:
                continue
            if point.range is not None:
                rules.low[signal.id], rules.high[signal.id] = point.range
            if point.rate is not None:
                rules.rate[signal.id] = point.rate
            if point.frozen is not None and profile.protocol == "modbus":
                rules.frozen_ns[signal.id] = point.frozen
    return rules
