"""Gateways of realistic sites for a store: their catalogues, and blocks of ten seconds as they come from the wire."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bench.telemetry import PER_SECOND, T0_NS, Site, site
from twincloud.ingest.decode import arrivals_of
from twincloud.storage import CoordinatorStore
from twincloud.storage.contract import Arrival, GatewayKey, Hello, Running
from twinmodel.clock import SECOND_NS, ClockQuality
from twinmodel.signal import OUTPUT_ROLES, Batch, Catalogue, Kind, Signal, Stream, TwinBinding
from twinsync import block
from twinsync.item import Block, Boot, Item

BLOCK_S = 10
SAMPLES = PER_SECOND * BLOCK_S
POINTS_OF_TWIN = 8
TENANT = "bench"


@functools.cache
def source() -> Site:
    """Ten minutes of a site of 200 signals; every gateway sends the same values under names of its own."""
    return site(minutes=10)


def site_catalogue(prefix: str, every: int = 1) -> Catalogue:
    """The catalogue of `source`, or of each `every`th signal, under other names, bound to twins of eight points."""
    chosen = source().catalogue.signals[::every]
    signals = [replace(one, id=n, name=f"{prefix}.{one.name.partition('.')[2]}") for n, one in enumerate(chosen)]
    twins = []
    for first in range(0, len(signals), POINTS_OF_TWIN):
        points = {f"p{n}": one.name for n, one in enumerate(signals[first : first + POINTS_OF_TWIN])}
        twins.append(
            TwinBinding(f"{prefix}-{first // POINTS_OF_TWIN}", "pump", "", points, (), dict.fromkeys(points, ""))
        )
    return Catalogue(tuple(signals), tuple(twins))


def pump_catalogue(names: Sequence[str]) -> Catalogue:
    """Twins with one measured property and one that a model estimates."""
    found, twins = [], []
    for twin in names:
        found += [f"{twin}-d.flow", *(f"{twin}/level#{role}" for role in OUTPUT_ROLES)]
        twins.append(TwinBinding(twin, "pump", "", {"flow": f"{twin}-d.flow"}, ("level",), {"flow": "", "level": ""}))
    signals = (Signal(n, name, Kind.FLOAT, "", Stream.STATE, 3, 1, SECOND_NS) for n, name in enumerate(found))
    return Catalogue(tuple(signals), tuple(twins))


class Plant:
    """A gateway with an open session."""

    def __init__(
        self, store: CoordinatorStore, key: GatewayKey, catalogue: Catalogue, now_ns: int, model: str = ""
    ) -> None:
        self.key, self.catalogue, self._store = key, catalogue, store
        invite = hashlib.sha256(repr(key).encode()).digest()
        store.create_tenant(key.tenant, now_ns)
        store.create_invite(key, invite, now_ns, now_ns + SECOND_NS)
        store.redeem_invite(invite, now_ns)
        self.boot = Boot(invite[:16], b"", 1, now_ns, ClockQuality.SYNCED)
        running = tuple(Running(one.twin, b"\1" * 32, model, "vm") for one in catalogue.twins) if model else ()
        hello = Hello((self.boot,), "bench", ClockQuality.SYNCED, (catalogue.digest,), running)
        self.session = store.open_session(key, hello, now_ns).session
        store.put_catalogue(key, self.session, catalogue, now_ns)
        self._next = 0

    def item(self, batches: Sequence[Batch]) -> Item:
        """The next item of its stream."""
        packed = block.encode(batches, self.catalogue)
        first, self._next = self._next, self._next + packed.count
        content = Block(packed.schema, packed.crc32c, packed.payload, packed.t_min_ns, packed.t_max_ns)
        return Item(self.boot.id, Stream.TELEMETRY, first, first + packed.count - 1, content)

    def site_items(self, start: int, count: int, every: int = 1) -> list[Item]:
        """Blocks `start` and on of a gateway with a `site_catalogue`: ten minutes that come again and again."""
        return [self.item(site_batches(number, every)) for number in range(start, start + count)]

    def arrivals(self, items: Sequence[Item]) -> list[Arrival]:
        """What ingest makes of them: verified and decoded."""
        return arrivals_of(self._store, self.key, items)


def site_batches(number: int, every: int = 1) -> list[Batch]:
    """Ten seconds of `source`, or of each `every`th signal of it."""
    parts = len(source()) // SAMPLES
    later_ns = number // parts * (parts * BLOCK_S * SECOND_NS)
    return [replace(one, t_ns=one.t_ns + later_ns) for one in _part(number % parts, every)]


@functools.cache
def _part(number: int, every: int) -> tuple[Batch, ...]:
    whole = source().batches(number * SAMPLES, (number + 1) * SAMPLES)
    if every == 1:
        return tuple(whole)
    some = (one.take(np.flatnonzero(one.signal % every == 0)) for one in whole)
    return tuple(replace(one, signal=one.signal // np.uint32(every)) for one in some)


def pump_arrival(plant: Plant, rng: np.random.Generator, at_ns: int) -> Arrival:
    """A block with one sample of every signal of a `pump_catalogue`."""
    count = len(plant.catalogue)
    said = np.tile([12.0, *range(1, 1 + len(OUTPUT_ROLES))], count // (1 + len(OUTPUT_ROLES)))
    value = np.round(said + 0.1 * np.abs(rng.standard_normal(count)), 3)
    batch = Batch(
        Kind.FLOAT, np.arange(count, dtype=np.uint32), value, np.zeros(count, np.uint16), np.full(count, at_ns)
    )
    return Arrival(plant.item([batch]), (batch,))


def committed(
    store: CoordinatorStore, plants: Sequence[Plant], arrivals: Sequence[Sequence[Arrival]], at_ns: int
) -> int:
    """Commits a share of each gateway in one transaction; gives the samples."""
    requests = [(one.key, one.session, share) for one, share in zip(plants, arrivals, strict=True)]
    samples = 0
    for answer in store.commit_many(requests, at_ns):
        if isinstance(answer, Exception):
            raise answer
        if answer.nack is not None or answer.rejected:
            raise RuntimeError(f"a block was not taken: {answer}")
        samples += answer.samples
    return samples


def start_ns() -> int:
    """The time at which `source` begins."""
    return T0_NS
