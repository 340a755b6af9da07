"""Fleets of 10,000 twins, the last values of 200,000 points, and 100,000 twins in one process."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bench.coordinator.engines import Postgres, opened
from bench.coordinator.peers import LAST, Peer, Rows, peers
from bench.coordinator.plant import TENANT, Plant, committed, pump_arrival, pump_catalogue, start_ns
from bench.drivers.process import process, said
from bench.served import resident_mb
from twincloud.api.fleets import Fleets, filter_of_fleet
from twincloud.api.standing import aggregate_view
from twincloud.storage import CoordinatorStore, open_store
from twincloud.storage.contract import GatewayKey
from twincloud.storage.records_fleets import FleetSpec
from twincloud.storage.records_twins import ANYTHING
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.signal import Batch, Catalogue, Kind, Signal, Stream, TwinBinding

TWINS = 10_000
OF_GATEWAY = 100
POINTS = 200_000
OF_TWIN = 100
FLEET = "all"
STALE_NS = 30 * SECOND_NS

Figures = dict[str, float | None]


def run(folder: Path, server: Postgres | None, *, quick: bool) -> Figures:
    """Figures of fleets."""
    turns = 2 if quick else 5
    figures = _aggregate(folder / "sqlite", None, turns) | _last_values(folder / "last", None, turns)
    if server is not None:
        figures |= {f"{name}_pg": value for name, value in _last_values(folder / "last-pg", server, turns).items()}
        if not quick:
            figures |= {f"{name}_pg": value for name, value in _aggregate(folder / "pg", server, turns).items()}
    figures |= _peers(folder / "peers", server, turns)
    return figures | many_twins(folder / "many", 4_000 if quick else 100_000)


def pumps(store: CoordinatorStore, twins: int, now_ns: int) -> list[Plant]:
    """Gateways with a hundred twins each."""
    made = []
    for first in range(0, twins, OF_GATEWAY):
        names = [f"pump-{n:06d}" for n in range(first, first + OF_GATEWAY)]
        key = GatewayKey(TENANT, "mill", f"gw-{first // OF_GATEWAY}")
        made.append(Plant(store, key, pump_catalogue(names), now_ns, "pump@1"))
    return made


def say(store: CoordinatorStore, plants: Sequence[Plant], at_ns: int) -> None:
    """A block of each gateway, 64 of them a transaction."""
    rng = np.random.default_rng(at_ns % 1_000)
    for first in range(0, len(plants), 64):
        some = plants[first : first + 64]
        committed(store, some, [[pump_arrival(one, rng, at_ns)] for one in some], at_ns)


def _aggregate(state: Path, server: Postgres | None, turns: int) -> Figures:
    clock = ManualClock(start_ns())
    figures: Figures = {}
    with opened(state, clock, server) as store:
        plants = pumps(store, TWINS, clock.wall_ns())
        say(store, plants, clock.wall_ns())
        if server is not None:
            server.analyze()
        store.put_fleet(
            TENANT, FLEET, FleetSpec("", 'twin ^= "pump"'), by="bench", now_ns=clock.wall_ns(), demand=ANYTHING
        )
        fleets = Fleets(store, clock, stale_ns=STALE_NS)
        view = partial(aggregate_view, FLEET, stale_ns=STALE_NS)

        def read() -> float:
            begin = time.perf_counter()
            told = fleets.read(TENANT, FLEET, view)
            spent = (time.perf_counter() - begin) * 1e3
            if [prop.count for prop in told.properties] != [TWINS, TWINS]:
                raise RuntimeError(f"not all twins count: {told}")
            return spent

        def after(plants: Sequence[Plant]) -> float:
            clock.advance(2 * SECOND_NS)
            say(store, plants, clock.wall_ns())
            return read()

        figures["fleet_aggregate_10k_first_ms"] = read()
        figures["fleet_aggregate_10k_ms"] = statistics.median(after(plants) for _ in range(turns))
        figures["fleet_aggregate_10k_few_ms"] = statistics.median(after(plants[:1]) for _ in range(2 * turns))
    return figures


def wide_catalogue(prefix: str, twins: int) -> Catalogue:
    """Twins with a hundred measured points each."""
    names = [[f"{prefix}t{twin}.p{n}" for n in range(OF_TWIN)] for twin in range(twins)]
    flat = [name for own in names for name in own]
    signals = tuple(Signal(n, name, Kind.FLOAT, "", Stream.STATE, 3, 1, SECOND_NS) for n, name in enumerate(flat))
    bound = []
    for twin, own in enumerate(names):
        points = {f"p{n}": name for n, name in enumerate(own)}
        bound.append(TwinBinding(f"{prefix}t{twin}", "pump", "", points, (), dict.fromkeys(points, "")))
    return Catalogue(signals, tuple(bound))


def _last_values(state: Path, server: Postgres | None, turns: int) -> Figures:
    """The newest value of every point of a fleet as columns, all gateways have told anew; then its sums as well."""
    clock = ManualClock(start_ns())
    count = 1_000
    with opened(state, clock, server) as store:
        plants = [
            Plant(store, GatewayKey(TENANT, "mill", f"gw-{n}"), wide_catalogue(f"g{n}", count // OF_TWIN), start_ns())
            for n in range(POINTS // count)
        ]
        if server is not None:
            server.analyze()
        record = store.put_fleet(
            TENANT, FLEET, FleetSpec("", 'site = "mill"'), by="bench", now_ns=clock.wall_ns(), demand=ANYTHING
        )
        chosen, zero, signal = filter_of_fleet(record), np.zeros(count, np.uint16), np.arange(count, dtype=np.uint32)

        def tell() -> None:
            clock.advance(SECOND_NS)
            now_ns = clock.wall_ns()
            batch = Batch(Kind.FLOAT, signal, np.round(np.sin(signal + now_ns / 1e9), 3), zero, np.full(count, now_ns))
            for first in range(0, len(plants), 50):
                some = plants[first : first + 50]
                committed(store, some, [one.arrivals([one.item([batch])]) for one in some], now_ns)

        tell()
        begin = time.perf_counter()
        muster = store.newest_values(record, chosen, None)
        first_ms = (time.perf_counter() - begin) * 1e3
        spent, summed = [], []
        for _ in range(turns):
            tell()
            begin = time.perf_counter()
            muster = store.newest_values(record, chosen, muster)
            spent.append(time.perf_counter() - begin)
            if len(muster.newest) != POINTS or (muster.newest.t_ns != clock.wall_ns()).any():
                raise RuntimeError("not every point has its newest value")
            muster = store.fleet_muster(record, chosen, muster)
            summed.append(time.perf_counter() - begin)
        known = sum(int(prop.standing.counts.sum()) for prop in muster.standing.properties)
        if known != POINTS:
            raise RuntimeError(f"{known} of {POINTS} points count")
    return {
        "last_values_200k_ms": statistics.median(spent) * 1e3,
        "last_values_200k_first_ms": first_ms,
        "last_values_200k_summed_ms": statistics.median(summed) * 1e3,
    }


def _peers(folder: Path, server: Postgres | None, turns: int) -> Figures:
    """A table of the newest row of every point, read as columns, and a sum over one property of 10,000 twins."""
    figures: Figures = {}
    gateway = np.repeat(np.arange(POINTS // 1_000), 1_000)
    signal = np.tile(np.arange(1_000), POINTS // 1_000)
    zero = np.zeros(POINTS, np.int64)
    for name, peer in peers(folder, server).items():
        if name == "copy_pg":
            continue
        figures[f"last_values_200k_ms_{name}"] = figures[f"fleet_aggregate_10k_ms_{name}"] = None
        if peer is not None:
            peer.put(Rows(gateway, signal, start_ns() + zero, np.sin(signal), zero))
            peer.keep_last()
            figures[f"last_values_200k_ms_{name}"] = _asked(peer, LAST, turns)
            figures[f"fleet_aggregate_10k_ms_{name}"] = _asked(peer, _AGGREGATE, turns)
            peer.close()
    return figures


_AGGREGATE = (
    "SELECT COUNT(*), AVG(value), SUM(value * value), MIN(value), MAX(value) FROM last"
    " WHERE quality = 0 AND signal < 100 GROUP BY signal % 2"
)


def _asked(peer: Peer, text: str, turns: int) -> float:
    spent = []
    for _ in range(turns):
        begin = time.perf_counter()
        rows = peer.ask(text)
        if rows and not isinstance(rows[0], np.ndarray):
            rows = [np.array(column) for column in zip(*rows, strict=True)]
        spent.append(time.perf_counter() - begin)
    return statistics.median(spent) * 1e3


def many_twins(state: Path, twins: int) -> Figures:
    """Memory of a process that opens a store of so many twins, gathers a fleet of all and lists them page by page."""
    clock = ManualClock(start_ns())
    with opened(state, clock) as store:
        begin = time.perf_counter()
        plants = pumps(store, twins, clock.wall_ns())
        say(store, plants, clock.wall_ns())
        store.put_fleet(
            TENANT, FLEET, FleetSpec("", 'twin ^= "pump"'), by="bench", now_ns=clock.wall_ns(), demand=ANYTHING
        )
        filled_s = time.perf_counter() - begin
    with process("-m", "bench.coordinator.fleet", str(state), str(twins)) as reader:
        facts = json.loads(said(reader))
    scale = 100_000 / twins
    return {
        "twins_100k_rss_mb": facts["empty_mb"] + (facts["rss_mb"] - facts["empty_mb"]) * scale,
        "twins_100k_list_s": facts["list_s"] * scale,
        "twins_per_s_made": twins / filled_s,
    }


def _read_all(state: Path, twins: int) -> None:
    clock = ManualClock(start_ns() + SECOND_NS)
    empty = resident_mb()
    store = open_store(state, clock=clock)
    view = partial(aggregate_view, FLEET, stale_ns=STALE_NS)
    told = Fleets(store, clock, stale_ns=STALE_NS).read(TENANT, FLEET, view)
    begin, found, token = time.perf_counter(), 0, ""
    while True:
        page = store.twins(TENANT, limit=500, token=token)
        found, token = found + len(page.items), page.next_token
        if not token:
            break
    if found != twins or any(prop.count != twins for prop in told.properties):
        raise RuntimeError(f"{found} of {twins} twins")
    print(json.dumps({"empty_mb": empty, "rss_mb": resident_mb(), "list_s": time.perf_counter() - begin}), flush=True)
    store.close()


if __name__ == "__main__":
    _read_all(Path(sys.argv[1]), int(sys.argv[2]))
