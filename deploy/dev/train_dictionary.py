"""Trains the dictionary of small blocks from synthetic plants, the same bytes at every run of one zstandard release.

    python deploy/dev/train_dictionary.py FILE

The plants differ in size, sensors, periods, jitter and noise on purpose: a dictionary fitted to one plant serves no
other. `bench/telemetry.py` is none of them, so the bench judges the dictionary by samples it has not seen.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import zstandard
from numpy.typing import NDArray

from twinmodel.signal import DTYPES, Batch, Catalogue, Kind, Signal
from twinsync.block import columns_of

SECOND_NS = 10**9
STEP_NS = 10**6
PLANTS = 240
WINDOWS = 12
SEED = 20_260_101
SIZE_BYTES = 2 << 10
# What the plants are made of: periods in seconds, resolutions as (exponent, step), noise in units of resolution.
PERIODS_S = (0.1, 0.1, 0.2, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 2.0, 5.0)
RESOLUTIONS = ((0, 1), (1, 1), (1, 1), (2, 1), (2, 1), (2, 5), (3, 1), (4, 1))
NOISES = (0.3, 0.8, 0.8, 1.5, 5.0, 30.0)
COUNTS_PER_S = (0.1, 0.5, 3.0, 10.0, 50.0)


def main() -> None:
    """Trains and writes the file that the command line names."""
    rng = np.random.default_rng(SEED)
    samples: list[bytes | bytearray | memoryview] = [columns for _ in range(PLANTS) for columns in plant(rng)]
    trained = zstandard.train_dictionary(SIZE_BYTES, samples, k=64, d=6, level=1, dict_id=SEED)
    content = trained.as_bytes()
    Path(sys.argv[1]).write_bytes(content)
    total = sum(map(len, samples))
    print(f"{len(content)} bytes of {total} in {len(samples)} blocks, sha256 {hashlib.sha256(content).hexdigest()}")


def plant(rng: np.random.Generator) -> list[bytes]:
    """The columns of some blocks of one plant, a second each."""
    count = int(np.exp(rng.uniform(np.log(4), np.log(500))))
    polls = int(rng.integers(1, 8))
    shared = rng.uniform(0.2, 1.0)
    jitter_ms = rng.choice([0.5, 2.0, 4.0, 10.0])
    mixed = rng.permutation(count) if rng.random() < 0.5 else np.arange(count)
    times: dict[tuple[int, float], NDArray[np.int64]] = {}
    signals: list[Signal] = []
    columns: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
    for place in range(count):
        period_s = float(rng.choice(PERIODS_S)) if mixed[place] % 3 else 1.0
        poll = int(mixed[place] * polls // count)
        t_ns = times.get((poll, period_s)) if rng.random() < shared else None
        if t_ns is None:
            t_ns = _times(rng, period_s, jitter_ms)
            times.setdefault((poll, period_s), t_ns)
        kind, exponent, step, value = _values(rng, mixed[place] / count, len(t_ns), period_s)
        period_ns = int(period_s * SECOND_NS)
        signals.append(Signal(place, f"s{place}", kind, exponent=exponent, step=step, period_ns=period_ns))
        columns.append((t_ns, value))
    catalogue = Catalogue(tuple(signals))
    blocks = []
    for window in range(WINDOWS):
        batches = [_cut(s, t_ns, value, window) for s, (t_ns, value) in zip(signals, columns, strict=True)]
        if any(map(len, batches)):
            blocks.append(columns_of(batches, catalogue))
    return blocks


def _times(rng: np.random.Generator, period_s: float, jitter_ms: float) -> NDArray[np.int64]:
    count = int(WINDOWS / period_s) + 1
    jitter = np.clip(rng.normal(0, jitter_ms / 1000, count), -0.3 * period_s, 0.3 * period_s)
    nominal = (np.arange(count) + rng.random()) * period_s + jitter
    return np.sort(np.round(nominal * 1000)).astype(np.int64) * STEP_NS


def _values(
    rng: np.random.Generator, part: float, count: int, period_s: float
) -> tuple[Kind, int, int, NDArray[np.float64]]:
    if part < 0.65:
        exponent, step = RESOLUTIONS[rng.integers(len(RESOLUTIONS))]
        level = np.exp(rng.uniform(np.log(20), np.log(5000)))
        walk = np.cumsum(rng.normal(0, 0.3 * np.sqrt(period_s), count))
        units = np.round(level + walk + rng.normal(0, rng.choice(NOISES), count))
        return Kind.FLOAT, exponent, step, units * step / 10.0**exponent
    if part < 0.8:
        steps = rng.poisson(rng.choice(COUNTS_PER_S) * period_s, count)
        return Kind.INT, 0, 1, (rng.integers(0, 10**6) + np.cumsum(steps)).astype(np.float64)
    if part < 0.9:
        return (
            Kind.BOOL,
            0,
            1,
            ((np.cumsum(rng.random(count) < period_s / 60) + rng.integers(2)) % 2).astype(np.float64),
        )
    return Kind.INT, 0, 1, np.full(count, rng.integers(0, 6)).astype(np.float64)


def _cut(signal: Signal, t_ns: NDArray[np.int64], value: NDArray[np.float64], window: int) -> Batch:
    inside = t_ns // SECOND_NS == window
    count = int(np.count_nonzero(inside))
    ids = np.full(count, signal.id, np.uint32)
    return Batch(signal.kind, ids, value[inside].astype(DTYPES[signal.kind]), np.zeros(count, np.uint16), t_ns[inside])


if __name__ == "__main__":
    main()
