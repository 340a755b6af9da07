"""What one commit thread stores: blocks of ten seconds of 64 gateways, by turns with stores that keep rows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.coordinator.engines import Postgres, opened
from bench.coordinator.peers import Peer, Rows, peers
from bench.coordinator.plant import SAMPLES, TENANT, Plant, committed, site_batches, site_catalogue, start_ns
from twincloud.storage import CoordinatorStore
from twincloud.storage.contract import Arrival, GatewayKey
from twinmodel.clock import SECOND_NS, SystemClock
from twinsync.item import Item

GATEWAYS = 64
PEER_GATEWAYS = 4
"""A row store takes so many gateways a transaction, as its turn must not last for ever."""

Figures = dict[str, float | None]


class Contender:
    """A store of ours: takes blocks as arrivals, or as items that are verified and decoded first."""

    def __init__(self, store: CoordinatorStore, name: str) -> None:
        self.store, self.name = store, name
        keys = [GatewayKey(TENANT, f"{name}-{number}", "gw") for number in range(GATEWAYS)]
        now_ns = start_ns()
        self.plants = [Plant(store, key, site_catalogue(f"g{n}"), now_ns) for n, key in enumerate(keys)]
        self.blocks = 0
        self.samples = 0
        self._before = size_of(store)
        self.turn(1, verify=True)  # what is remembered of catalogues is remembered
        self.rates: dict[bool, list[float]] = {False: [], True: []}
        self.cpu_us: dict[bool, list[float]] = {False: [], True: []}

    def turn(self, blocks: int, *, verify: bool) -> tuple[float, float, int]:
        """Stores so many blocks of each gateway, one of each a transaction: seconds, processor seconds, samples."""
        items = [plant.site_items(self.blocks, blocks) for plant in self.plants]
        ready = None if verify else [self._decoded(n, own) for n, own in enumerate(items)]
        begin, cpu, samples = time.perf_counter(), time.process_time(), 0
        for k in range(blocks):
            shares: list[list[Arrival]] = []
            for n, plant in enumerate(self.plants):
                shares.append(plant.arrivals(items[n][k : k + 1]) if ready is None else ready[n][k : k + 1])
            samples += committed(self.store, self.plants, shares, start_ns() + (self.blocks + k) * 10 * SECOND_NS)
        spent = time.perf_counter() - begin, time.process_time() - cpu, samples
        self.blocks += blocks
        self.samples += samples
        return spent

    def measure(self, blocks: int, *, verify: bool) -> None:
        """A turn that counts."""
        seconds, cpu, samples = self.turn(blocks, verify=verify)
        self.rates[verify].append(samples / seconds)
        self.cpu_us[verify].append(cpu / samples * SAMPLES * 1e6)

    def bytes_per_sample(self) -> float:
        """What its files have grown by."""
        return (size_of(self.store) - self._before) / self.samples

    def _decoded(self, place: int, items: list[Item]) -> list[Arrival]:
        return self.plants[place].arrivals(items)


def size_of(store: CoordinatorStore) -> int:
    """Bytes of the database, without SQLite's log: it is folded in and used again."""
    status = store.status()
    return status.bytes - int(str(status.facts.get("wal_bytes", 0)))


def rows_of(start: int, blocks: int, gateways: int) -> Rows:
    """The same samples as rows."""
    columns: list[list[np.ndarray[Any, Any]]] = [[] for _ in range(5)]
    for gateway in range(gateways):
        for number in range(start, start + blocks):
            for batch in site_batches(number):
                count = len(batch)
                value = batch.value.astype(np.float64)
                made = (np.full(count, gateway), batch.signal, batch.t_ns, value, batch.quality)
                for column, part in zip(columns, made, strict=True):
                    column.append(part)
    gateway_, signal, t_ns, value, quality = (np.concatenate(column) for column in columns)
    whole = np.int64
    return Rows(gateway_.astype(whole), signal.astype(whole), t_ns.astype(whole), value, quality.astype(whole))


def run(folder: Path, server: Postgres | None, *, quick: bool) -> Figures:
    """Figures of storing."""
    clock = SystemClock()
    with ExitStack() as stack:
        contenders = [Contender(stack.enter_context(opened(folder / "sqlite", clock)), "sqlite")]
        if server is not None:
            contenders.append(Contender(stack.enter_context(opened(folder / "pg", clock, server)), "pg"))
        others = peers(folder / "peers", server)
        rates: dict[str, list[float]] = {name: [] for name in others}
        rounds, blocks = (2, 3) if quick else (8, 6)
        stored = 0
        for turn in range(rounds):
            rows = rows_of(turn, 1, PEER_GATEWAYS)
            order: list[Callable[[], None]] = [
                partial(contender.measure, blocks, verify=verify)
                for contender in contenders
                for verify in (False, True)
            ]
            order += [partial(_measure, peer, rows, rates[name]) for name, peer in others.items() if peer is not None]
            stored += len(rows.t_ns)
            # Whoever went first goes last in the next turn.
            for step in order if turn % 2 else reversed(order):
                step()
        return _figures({c.name: c for c in contenders}, others, rates, stored)


def _measure(peer: Peer, rows: Rows, rates: list[float]) -> None:
    begin = time.perf_counter()
    peer.put(rows)
    rates.append(len(rows.t_ns) / (time.perf_counter() - begin))


def _figures(
    contenders: dict[str, Contender], others: dict[str, Peer | None], rates: dict[str, list[float]], stored: int
) -> Figures:
    figures: Figures = {}
    for name in ("sqlite", "pg"):
        for verify, suffix in ((False, ""), (True, "_verified")):
            one = contenders.get(name)
            rate = None if one is None else statistics.median(one.rates[verify])
            figures[f"ingest_msps_{name}{suffix}"] = None if rate is None else rate / 1e6
            figures[f"ingest_cpu_us_{name}{suffix}"] = None if one is None else statistics.median(one.cpu_us[verify])
    pg = figures["ingest_msps_pg"]
    for name, measured in rates.items():
        peer_msps = statistics.median(measured) / 1e6 if measured else None
        figures[f"{name}_msps"] = peer_msps
        if name.endswith("_pg"):
            figures[f"ingest_vs_{name}"] = pg / peer_msps if pg is not None and peer_msps else None
    figures["ingest_vs_rows_sqlite"] = (figures["ingest_msps_sqlite"] or 0) / (figures["rows_sqlite_msps"] or 1)
    sizes = {name: one.bytes_per_sample() for name, one in contenders.items()}
    figures["bytes_per_sample_stored"] = max(sizes.values())
    figures |= {f"bytes_per_sample_stored_{name}": size for name, size in sizes.items()}
    for name, peer in others.items():
        figures[f"bytes_per_sample_{name}"] = None if peer is None else peer.bytes() / stored
        if peer is not None:
            peer.close()
    return figures
