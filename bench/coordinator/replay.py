"""A linear twin at 1 Hz, run by the edge's own pipeline: its estimates computed again, and one of them explained."""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.coordinator.engines import Postgres, opened
from twincloud.replay.explain import explain
from twincloud.replay.replay import Replayer
from twincloud.storage import CoordinatorStore
from twincloud.storage.contract import Arrival, GatewayKey, Hello, TwinKey
from twinedge.estimate.runner import TwinRunner, Wiring
from twinedge.gate.gate import Gate
from twinedge.gate.rules import Rules
from twinedge.lanes import Flush, Lanes
from twinedge.pipeline import Pipeline
from twinedge.ports import Delivery
from twinedge.replays import Replays
from twinedge.slot import Slot
from twinmodel.clock import SECOND_NS, ClockQuality, ManualClock
from twinmodel.estimator import Estimator
from twinmodel.lineage import lineage_signal
from twinmodel.package.archive import load
from twinmodel.package.build import build
from twinmodel.package.signing import generate_key, key_id, public_pem, sign
from twinmodel.signal import OUTPUT_ROLES, Batch, Catalogue, Kind, Signal, Stream, TwinBinding
from twinsync import block
from twinsync.item import Block, Boot, Item

MODEL = Path(__file__).resolve().parents[2] / "examples" / "plants" / "exchanger.yaml"
T0 = 2_000_000_000 * SECOND_NS
GATEWAY = GatewayKey("bench", "site", "edge")
TWIN = TwinKey("bench", "site", "tank")
WINDOWS = {Stream.ALARM: 0, Stream.STATE: SECOND_NS, Stream.TELEMETRY: 10 * SECOND_NS, Stream.BULK: 10 * SECOND_NS}
UNITS = {"hot_in": "degC", "hot_out": "K", "cold_in": "degC"}
_ITEMS_A_COMMIT = 50

Figures = dict[str, float | None]


def run(folder: Path, server: Postgres | None, *, quick: bool) -> Figures:
    """Figures of replay and explanation."""
    del server  # what is computed is the same
    seconds = 1_800 if quick else 6 * 3_600
    clock = ManualClock(T0)
    with opened(folder / "state", clock) as store:
        edge = Edge(store, clock)
        begin = time.perf_counter()
        asyncio.run(edge.run(seconds))
        edge_s = time.perf_counter() - begin
        replayer = Replayer(store)
        until_ns = clock.wall_ns()
        replayer.spans(TWIN, T0 - 10 * SECOND_NS, until_ns)  # the kernel is loaded, or compiled once a machine
        spent, cpu = [], []
        for _ in range(5):
            begin, used = time.perf_counter(), time.process_time()
            spans = replayer.spans(TWIN, T0 - 10 * SECOND_NS, until_ns)
            spent.append(time.perf_counter() - begin)
            cpu.append(time.process_time() - used)
        if {span.verdict for span in spans} != {"exact"}:
            raise RuntimeError(f"estimates were not found again: {spans}")
        ticks = sum(span.ticks for span in spans)
        told = []
        for k in range(9):
            begin = time.perf_counter()
            found = explain(replayer, store, TWIN, "hot_out", T0 + (k + 1) * seconds // 10 * SECOND_NS)
            told.append(time.perf_counter() - begin)
            if found.verdict is None or found.verdict.verdict != "exact":
                raise RuntimeError(f"no explanation: {found.verdict}")
    return {
        "replay_x_realtime": ticks / statistics.median(spent),
        "replay_x_realtime_cpu": ticks / statistics.median(cpu),
        "explain_ms": statistics.median(told) * 1e3,
        "edge_x_realtime": seconds / edge_s,
    }


class Edge:
    """The pipeline of an agent without devices, whose commits go into the store."""

    def __init__(self, store: CoordinatorStore, clock: ManualClock) -> None:
        key = generate_key()
        blob = sign(build(MODEL), key)
        store.create_tenant(GATEWAY.tenant, 1)
        store.create_invite(GATEWAY, b"i" * 32, 1, 2)
        store.redeem_invite(b"i" * 32, 1)
        store.add_signer(GATEWAY.tenant, "bench", public_pem(key.public_key()), 1)
        store.put_model(GATEWAY.tenant, blob, 1)
        self.store, self.clock, self.catalogue = store, clock, catalogue()
        self.boot = Boot(hashlib.sha256(b"boot").digest()[:16], b"", 1, clock.wall_ns(), ClockQuality.SYNCED)
        slot = Slot(TWIN.twin)
        slot.offer(Estimator(load(blob, {key_id(key.public_key()): key.public_key()}), tier="jit"))
        wiring = Wiring(
            TWIN.twin, {"hot_in": 0, "cold_in": 2}, {"hot_out": 1}, dict.fromkeys(range(3), 3 * SECOND_NS),
            dict(enumerate(UNITS.values())),
        )  # fmt: skip
        gate = Gate(Rules.none(len(self.catalogue)), clock)
        runner = TwinRunner(wiring, slot)
        self.pipeline = Pipeline(Replays([]), gate, Lanes(WINDOWS), [runner], self._commit, clock)
        self.seq = dict.fromkeys(Stream, 0)
        self.items: list[Item] = []
        hello = Hello((self.boot,), "bench", ClockQuality.SYNCED, (self.catalogue.digest,), ())
        self.session = store.open_session(GATEWAY, hello, clock.wall_ns()).session
        store.put_catalogue(GATEWAY, self.session, self.catalogue, clock.wall_ns())

    async def run(self, seconds: int) -> None:
        """Seconds of a plant, one sample of each signal in each."""
        rng, signals = np.random.default_rng(7), np.arange(3, dtype=np.uint32)
        await self.pipeline.use(self.catalogue)
        for k in range(seconds):
            t_ns = self.clock.wall_ns() - np.array([300, 100, 200]) * (SECOND_NS // 1_000)
            hot = 80 + float(np.sin(k / 9)), 333 + float(rng.normal()) * 0.2
            value = np.round([*hot, 20.0], 3)
            batch = Batch(Kind.FLOAT, signals, value, np.zeros(3, np.uint16), t_ns)
            await self.pipeline.put(Delivery("d", (batch,), None, urgent=True))
            self.clock.advance(SECOND_NS)
            if k % 10 == 9:
                await self.pipeline.commit(everything=True)
            if len(self.items) >= _ITEMS_A_COMMIT:
                self._deliver()
        await self.pipeline.commit(everything=True)
        self._deliver()

    async def _commit(self, flush: Flush, catalogue: Catalogue) -> None:
        for stream, batches in flush.parts:
            packed = block.encode(batches, catalogue)
            content = Block(packed.schema, packed.crc32c, packed.payload, packed.t_min_ns, packed.t_max_ns)
            first = self.seq[stream]
            self.seq[stream] = first + packed.count
            self.items.append(Item(self.boot.id, stream, first, first + packed.count - 1, content))

    def _deliver(self) -> None:
        arrivals: Sequence[Arrival] = [
            Arrival(item, tuple(block.decode(item.content.payload, self.catalogue)))
            for item in self.items
            if isinstance(item.content, Block)
        ]
        self.items = []
        commit = self.store.commit(GATEWAY, self.session, arrivals, self.clock.wall_ns())
        if commit.nack is not None or commit.rejected:
            raise RuntimeError(f"items were not taken: {commit}")


def catalogue() -> Catalogue:
    """An exchanger with three signals, two outputs and its lineage."""
    signals = [
        Signal(n, f"d.{name}", Kind.FLOAT, unit, Stream.STATE, 3) for n, (name, unit) in enumerate(UNITS.items())
    ]
    outputs = ("hot_out", "cold_out")
    for output in outputs:
        for role in OUTPUT_ROLES:
            name = f"{TWIN.twin}/{output}#{role}"
            signals.append(Signal(len(signals), name, Kind.FLOAT, "degC", Stream.STATE, 6, period_ns=SECOND_NS))
    signals.append(Signal(len(signals), lineage_signal(TWIN.twin), Kind.STRING, "", Stream.STATE))
    bound = {**{name: f"d.{name}" for name in UNITS}, "cold_out": ""}
    return Catalogue(tuple(signals), (TwinBinding(TWIN.twin, "exchanger", "", bound, outputs, {}),))
