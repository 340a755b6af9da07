"""What a coordinator stores, answers and computes, on both engines, beside stores that keep a row per sample.

Every figure of a peer comes from the same run, by turns where rates are compared. PostgreSQL is started by the bench,
with fsync; its figures are null where it is not installed, those of DuckDB where the extra `bench` is not. `_pg` at the
end of a name: the same on PostgreSQL. Wall-clock times are of the machine as it is; `_cpu_` is processor time.

    storing: 64 gateways of 200 points and 420 samples a second, a block of 10 s of each in a transaction, one thread
ingest_msps_sqlite, _pg   million samples/s that are made durable
ingest_msps_sqlite_verified, _pg_verified   with checksum and decoding of every block before
ingest_cpu_us_*           processor time of this process for a block of 4,200 samples
rows_sqlite_msps, rows_pg_msps, copy_pg_msps, rows_duckdb_msps   row stores; all but COPY store a sample once
ingest_vs_rows_pg, _copy_pg, _rows_sqlite   ours against them
bytes_per_sample_stored   growth of the database, the larger of the two; and of the peers
    history: a day of one such gateway, of 15 points in a quick run
point_day_ms              one point of 1 Hz over 24 h, 86,400 samples, after compaction
point_day_live_ms         the same while its last hour is as it came: what a running coordinator has
point_day_uncompacted_ms  the same when nothing of the day was ever compacted
point_day_archived_ms     the same out of the archive
compaction_msps, archive_msps, bytes_per_sample_archived   what moving it takes, and leaves
    fleets and values
last_values_200k_ms       the newest value of 200,000 points of a fleet as columns (signal, time, value, quality), after
                          all gateways said new ones; `_first_` by a process that has just begun, `_summed_` with the
                          exact sums of its hundred properties
fleet_aggregate_10k_ms    all numbers of a fleet of 10,000 twins, after all of them said new values; `_few_` after a
                          hundred of them did, `_first_` by a process that has just begun
twins_100k_rss_mb         memory of a process that has gathered 100,000 twins and listed them; a quick run makes 4,000
                          and scales
    computing again
explain_ms, replay_x_realtime   a linear twin at 1 Hz from stored samples and checkpoints, bit for bit
    REST of `twincloud serve` on one core, its clients on the other
reads_per_s, conditional_updates_per_s   32 connections: one twin; one change of a record under If-Match, durable
query_p95_ms_under_ingest   100 requests a second (twin, history of an hour, page of twins) while gateways send a
                          million samples a second over mutual TLS
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from bench.coordinator import fleet, history, ingest, replay, rest
from bench.coordinator.engines import postgres


def run(*, quick: bool = False) -> Mapping[str, float | None]:
    """Measures and returns the figures by name."""
    figures: dict[str, float | None] = {}
    place = Path("var")  # on the disk: what /tmp is on some machines is memory
    place.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.resolve()) as folder, postgres() as server:
        for part in (ingest, history, fleet, replay, rest):
            own = Path(folder) / part.__name__.rpartition(".")[2]
            own.mkdir()
            # A quick run has time for one engine where the other says nothing new.
            figures |= part.run(own, None if quick and part in (fleet, rest) else server, quick=quick)
    missing = _NEEDS_POSTGRES if quick or server is None else ()
    return {
        name: None if value is None else round(value, 3) for name, value in (figures | dict.fromkeys(missing)).items()
    }


_NEEDS_POSTGRES = ("last_values_200k_ms_pg", "reads_per_s_pg", "conditional_updates_per_s_pg")
