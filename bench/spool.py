"""Samples into the durable spool, against one row per sample in SQLite with the same durability.

spool_msps            million samples per second, blocks of 4,200 samples, one commit each
spool_vs_raw_sqlite   how many times faster that is than 4,200 rows per commit
disk_bytes_per_sample the file after the last checkpoint, per sample
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bench.telemetry import PER_SECOND, site
from twinedge.spool.schema import FILE
from twinedge.spool.store import Spool
from twinmodel.clock import SystemClock
from twinmodel.signal import Stream

_BLOCK_S = 10


def run(*, quick: bool = False) -> Mapping[str, float]:
    """Measures and returns the figures by name."""
    source = site(minutes=2 if quick else 10)
    size = PER_SECOND * _BLOCK_S
    starts = range(0, len(source) - size + 1, size)
    parts = [source.batches(start, start + size) for start in starts]
    count = len(starts) * size
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        spool = Spool.open(
            Path(folder) / "spool",
            clock=SystemClock(),
            rng_bytes=os.urandom,
            disk_max_bytes=1 << 28,
            when_full="drop_oldest",
        )
        spool.put_catalogue(source.catalogue)
        start = time.perf_counter()
        for batches in parts:
            spool.append(Stream.TELEMETRY, batches, source.catalogue)
        spool_s = time.perf_counter() - start
        spool.close()
        disk_bytes = (Path(folder) / "spool" / FILE).stat().st_size
        rows = [_rows(batches) for batches in parts]
        raw_s = _raw(Path(folder) / "raw.db", rows)
    figures = {
        "spool_msps": count / spool_s / 1e6,
        "spool_vs_raw_sqlite": raw_s / spool_s,
        "disk_bytes_per_sample": disk_bytes / count,
    }
    return {name: round(value, 3) for name, value in figures.items()}


def _rows(batches: list) -> list[tuple]:
    return [
        row
        for b in batches
        for row in zip(b.signal.tolist(), b.t_ns.tolist(), b.value.tolist(), b.quality.tolist(), strict=True)
    ]


def _raw(path: Path, parts: list[list[tuple]]) -> float:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE samples(signal INTEGER, t_ns INTEGER, value, quality INTEGER)")
    start = time.perf_counter()
    for rows in parts:
        db.execute("BEGIN")
        db.executemany("INSERT INTO samples VALUES (?, ?, ?, ?)", rows)
        db.execute("COMMIT")
    seconds = time.perf_counter() - start
    db.close()
    return seconds
