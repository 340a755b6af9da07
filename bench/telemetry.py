"""Telemetry of a realistic site, by seed: 200 signals, 420 samples a second.

120 analogue floats at the resolution of their sensor (noise, slow drift, steps), 30 counters, 30 booleans and 20
states; 1, 2 or 10 samples a second each. Times are whole milliseconds with the jitter of a poll cycle; 60 % of the
signals share the times of one of four polls, the others have their own. 99.7 % of the samples are good, the rest come
in bursts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinmodel.clock import MILLISECOND_NS, SECOND_NS
from twinmodel.quality import QualityReason, bad, uncertain
from twinmodel.signal import DTYPES, Batch, Catalogue, Kind, Signal

T0_NS = 1_760_000_000 * SECOND_NS
SIGNALS = 200
PER_SECOND = 420
# What a sensor measures: resolution as (exponent, step), lowest and highest value, noise in units of resolution.
_SENSORS = (
    ("temperature", 1, 1, 20.0, 80.0, 0.8),
    ("pressure", 2, 1, 1.0, 10.0, 0.8),
    ("flow", 2, 5, 5.0, 60.0, 0.8),
    ("level", 1, 1, 0.0, 100.0, 0.8),
    ("power", 0, 1, 1e3, 5e4, 0.8),
    ("vibration", 3, 1, 0.1, 8.0, 30.0),
)


@dataclass(frozen=True, slots=True)
class Site:
    """Samples of all signals in order of arrival, as columns, and the catalogue they belong to."""

    catalogue: Catalogue
    signal: NDArray[np.uint32]
    value: NDArray[np.float64]
    quality: NDArray[np.uint16]
    t_ns: NDArray[np.int64]
    kind: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.signal)

    def batches(self, start: int, end: int) -> list[Batch]:
        """The samples [start, end) as one batch per kind."""
        found = []
        for kind in (Kind.FLOAT, Kind.INT, Kind.BOOL):
            at = start + np.flatnonzero(self.kind[start:end] == kind)
            value = self.value[at].astype(DTYPES[kind])
            found.append(Batch(kind, self.signal[at], value, self.quality[at], self.t_ns[at]))
        return found


def site(*, minutes: int = 10, seed: int = 1) -> Site:
    """Makes the telemetry of `minutes` minutes."""
    rng = np.random.default_rng(seed)
    polls: dict[tuple[int, float], NDArray[np.int64]] = {}
    signals, columns = [], []
    for i in range(SIGNALS):
        part = i / SIGNALS
        analogue = part < 0.6
        hz = 10.0 if analogue and i % 6 == 5 else 2.0 if i % 5 == 4 else 1.0
        shared = (i * 7919) % 10 < 6
        t_ms = polls.get((i % 4, hz)) if shared else None
        if t_ms is None:
            t_ms = _times_ms(rng, minutes, hz, 4.0 if shared else 2.0)
            if shared:
                polls[i % 4, hz] = t_ms
        count = len(t_ms)
        name, exponent, step, kind = f"count{i}", 0, 1, Kind.INT
        if analogue:
            name, exponent, step, low, high, noise = _SENSORS[i % 6]
            name, kind = f"{name}{i}", Kind.FLOAT
            value = _analogue(rng, count, hz, low, high, step * 10.0**-exponent, noise)
        elif part < 0.75:
            value = rng.integers(0, 10**6) + np.cumsum(rng.poisson(rng.choice([0.2, 3.0, 40.0]) / hz, count))
        elif part < 0.9:
            flips = rng.random(count) < 1 / (hz * 90)
            name, kind, value = f"run{i}", Kind.BOOL, (np.cumsum(flips) + rng.integers(0, 2)) % 2
        else:
            changes = np.where(rng.random(count) < 1 / (hz * 60), np.arange(count), 0)
            name, value = f"state{i}", rng.integers(0, 6, count)[np.maximum.accumulate(changes)]
        signals.append(Signal(i, f"site.{name}", kind, "", exponent=exponent, step=step, period_ns=int(SECOND_NS / hz)))
        columns.append((np.full(count, i), value, _qualities(rng, count), t_ms, np.full(count, int(kind))))
    signal, value, quality, t_ms, kinds = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.lexsort((signal, t_ms))
    return Site(
        Catalogue(tuple(signals)),
        signal[order].astype(np.uint32),
        value[order].astype(np.float64),
        quality[order].astype(np.uint16),
        T0_NS + t_ms[order] * MILLISECOND_NS,
        kinds[order].astype(np.uint8),
    )


def _times_ms(rng: np.random.Generator, minutes: int, hz: float, jitter_ms: float) -> NDArray[np.int64]:
    count, period = int(minutes * 60 * hz), 1000 / hz
    jitter = np.clip(rng.normal(0, jitter_ms, count), -0.3 * period, 0.3 * period)
    return np.sort(np.round(np.arange(count) * period + rng.integers(0, int(period)) + jitter)).astype(np.int64)


def _analogue(
    rng: np.random.Generator, count: int, hz: float, low: float, high: float, resolution: float, noise: float
) -> NDArray[np.float64]:
    span = high - low
    keep = np.exp(-1 / (hz * 120))
    drift = np.empty(count)
    level = 0.0
    for place, push in enumerate(rng.normal(0, 1, count) * np.sqrt(1 - keep * keep) * span * 0.03):
        drift[place] = level = keep * level + push
    steps = np.zeros(count)
    for at in rng.integers(0, count, rng.poisson(2)):
        steps[at:] += rng.normal(0, span * 0.05)
    value = low + span * rng.random() + drift + steps + rng.normal(0, resolution * noise, count)
    return np.round(np.round(value / resolution) * resolution, 6)


def _qualities(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    quality = np.zeros(count, np.int64)
    for at in np.flatnonzero(rng.random(count) < 0.0004):
        code = rng.choice([uncertain(QualityReason.STALE), bad(QualityReason.ABSENT)])
        quality[at : at + rng.integers(1, 15)] = code
    return quality
