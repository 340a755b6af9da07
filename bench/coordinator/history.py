"""A day of a gateway: read before and after compaction, and out of the archive.

It has 200 points and 420 samples a second; in a quick run 15 points and 32 samples a second.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.coordinator.engines import Postgres, opened
from bench.coordinator.peers import DAY_OF_POINT, Peer, Rows, peers
from bench.coordinator.plant import BLOCK_S, TENANT, Plant, committed, site_catalogue, start_ns
from twincloud.archive.objects import open_objects
from twincloud.storage import CoordinatorStore
from twincloud.storage.contract import GatewayKey, Series, TwinKey
from twincloud.upkeep.archive import ArchiveTask
from twinmodel.clock import SECOND_NS, ManualClock

DAY_S = 86_400
DAY_NS = DAY_S * SECOND_NS
TWIN = TwinKey(TENANT, "site", "day-0")
POINT = "p0"
"""A point of 1 Hz."""
_BLOCKS_A_COMMIT = 64

Figures = dict[str, float | None]


def run(folder: Path, server: Postgres | None, *, quick: bool) -> Figures:
    """Figures of history; on both engines when there is time."""
    figures: Figures = _day(folder / "sqlite", None, every=14 if quick else 1)
    if server is not None and not quick:
        figures |= {f"{name}_pg": value for name, value in _day(folder / "pg", server, every=1).items()}
    return figures | _peers(folder / "peers", server)


def _day(folder: Path, server: Postgres | None, *, every: int) -> Figures:
    begin_ns = start_ns() // DAY_NS * DAY_NS + DAY_NS  # blocks are moved to it: a day of UTC
    folder.mkdir()
    clock = ManualClock(begin_ns)
    figures: Figures = {}
    with opened(folder / "state", clock, server) as store:
        plant = Plant(store, GatewayKey(TENANT, "site", "gw"), site_catalogue("day", every), begin_ns)
        samples = _fill(store, plant, clock, every)
        spans = begin_ns, begin_ns + DAY_NS
        figures["point_day_uncompacted_ms"], before = _asked(store, spans, turns=2)
        # Hours that are over are compacted ten minutes later: of a day that is read now, this is as it came.
        seconds = _timed(lambda: _until_none(lambda: store.compact(clock.wall_ns())))
        figures["point_day_live_ms"], live = _asked(store, spans, turns=9)
        _until(clock, begin_ns + DAY_NS + 3 * 3600 * SECOND_NS)
        seconds += _timed(lambda: _until_none(lambda: store.compact(clock.wall_ns())))
        seconds += _timed(lambda: _until_none(lambda: store.merge(clock.wall_ns())))
        figures["compaction_msps"] = samples / seconds / 1e6
        figures["point_day_ms"], after = _asked(store, spans, turns=9)
        _same(before, live)
        _same(before, after)
        _until_none(lambda: store.bucket(clock.wall_ns()))
        _until(clock, begin_ns + 4 * DAY_NS)
        size, seconds = _archived(store, clock, folder)
        figures["bytes_per_sample_archived"] = size / samples
        figures["archive_msps"] = samples / seconds / 1e6
        figures["point_day_archived_ms"], archived = _asked(store, spans, turns=5)
        _same(before, archived)
    return figures


def _fill(store: CoordinatorStore, plant: Plant, clock: ManualClock, every: int) -> int:
    """Blocks of ten seconds from the first to the last second."""
    first = (clock.wall_ns() - start_ns()) // (BLOCK_S * SECOND_NS)
    samples = 0
    for block in range(0, DAY_S // BLOCK_S, _BLOCKS_A_COMMIT):
        count = min(_BLOCKS_A_COMMIT, DAY_S // BLOCK_S - block)
        clock.advance(count * BLOCK_S * SECOND_NS)
        arrivals = plant.arrivals(plant.site_items(first + block, count, every))
        samples += committed(store, [plant], [arrivals], clock.wall_ns())
    return samples


def _asked(store: CoordinatorStore, span: tuple[int, int], *, turns: int) -> tuple[float, Series]:
    """Milliseconds for the point's day, and the day."""
    spent = []
    for _ in range(turns):
        begin = time.perf_counter()
        found = store.history(TWIN, POINT, ("measured",), *span, DAY_S + 100)["measured"]
        spent.append(time.perf_counter() - begin)
    return statistics.median(spent) * 1e3, found


def _archived(store: CoordinatorStore, clock: ManualClock, folder: Path) -> tuple[int, float]:
    objects = open_objects("", folder / "archive")
    store.use_archive(objects)
    task = ArchiveTask(store, objects, folder / "staging", DAY_NS, "bench", clock)
    seconds = _timed(lambda: _until_none(lambda: task.run(clock.wall_ns())))
    files = [path for path in (folder / "archive").rglob("*.parquet") if path.is_file()]
    if not files or not task.moved:
        raise RuntimeError("no day was archived")
    return sum(path.stat().st_size for path in files), seconds


def _same(one: Series, other: Series) -> None:
    """Whatever tier answers, the answer is the same."""
    if len(one.t_ns) != len(other.t_ns) or not len(one.t_ns):
        raise RuntimeError(f"{len(one.t_ns)} samples were {len(other.t_ns)} later")
    for name in ("t_ns", "value", "quality"):
        if not np.array_equal(getattr(one, name), getattr(other, name)):
            raise RuntimeError(f"{name} of the day has changed")


def _peers(folder: Path, server: Postgres | None) -> Figures:
    """The same day of a point among two hundred, hour after hour, in tables of rows."""
    points, rng = 200, np.random.default_rng(1)
    figures: Figures = {}
    for name, peer in peers(folder, server).items():
        if name == "copy_pg":  # without a key it would look through all of it
            continue
        figures[f"point_day_ms_{name}"] = None if peer is None else _peer_day(peer, points, rng)
    return figures


def _peer_day(peer: Peer, points: int, rng: np.random.Generator) -> float:
    # Each other point has a hundredth of the samples: what lies between those of one point, it does not read anyway.
    for begin in range(0, DAY_S, DAY_S // 4):
        t = np.arange(begin, begin + DAY_S // 4)
        signal = np.concatenate([np.zeros(len(t), np.int64), np.repeat(np.arange(1, points), len(t) // 100)])
        t_s = np.concatenate([t, np.tile(t[::100][: len(t) // 100], points - 1)])
        order = np.argsort(t_s, kind="stable")
        zero = np.zeros(len(signal), np.int64)
        value = np.round(rng.normal(10, 1, len(signal)), 3)
        peer.put(Rows(zero, signal[order], start_ns() + t_s[order] * SECOND_NS, value, zero))
    spent = [_timed(lambda: _columns(peer.ask(DAY_OF_POINT))) for _ in range(5)]
    peer.close()
    return statistics.median(spent) * 1e3


def _columns(rows: list[Any]) -> list[Any]:
    """Rows as columns, which is what is asked of all."""
    columns = rows if rows and isinstance(rows[0], np.ndarray) else [np.array(c) for c in zip(*rows, strict=True)]
    if len(columns[0]) != DAY_S:
        raise RuntimeError(f"{len(columns[0])} rows of a day")
    return columns


def _until(clock: ManualClock, t_ns: int) -> None:
    clock.advance(t_ns - clock.wall_ns())


def _until_none(step: Callable[[], int]) -> None:
    while step():
        pass


def _timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
