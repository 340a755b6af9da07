"""A gateway's pipeline without devices: real gate, runner and lanes, whose commits go into a coordinator's store."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from tests.cloud.replay.tier import TIER
from tests.edge.downlink.packages import KEY, PLANTS
from twincloud.storage.contract import Arrival, GatewayKey, Hello, TwinKey
from twinedge.estimate.runner import TwinRunner, Wiring
from twinedge.gate.gate import Gate
from twinedge.gate.rules import Rules
from twinedge.lanes import Lanes
from twinedge.pipeline import Pipeline
from twinedge.ports import Delivery
from twinedge.replays import Replays
from twinedge.slot import Slot
from twinmodel.clock import ClockQuality
from twinmodel.estimator import Estimator
from twinmodel.lineage import lineage_signal
from twinmodel.package.archive import load
from twinmodel.package.build import build
from twinmodel.package.signing import key_id, public_pem, sign
from twinmodel.signal import OUTPUT_ROLES, Batch, Catalogue, Kind, Signal, Stream, TwinBinding
from twinsync import block
from twinsync.item import Block, Boot, Gap, Item
from twinsync.kept import pack_kept

S = 1_000_000_000
T0 = 2_000_000_000 * S
GATEWAY = GatewayKey("acme", "mill", "edge-1")
TANK = TwinKey("acme", "mill", "tank")
WINDOWS = {Stream.ALARM: 0, Stream.STATE: S, Stream.TELEMETRY: 10 * S, Stream.BULK: 10 * S}
VERSIONS = ("1.0.0", "1.1.0")


@cache
def signed(version):
    """The exchanger, a linear model; of 1.1.0 only its name differs in the second package."""
    text = (PLANTS / "exchanger.yaml").read_text().replace("version: 1.0.0", f"version: {version}")
    if version != VERSIONS[0]:
        text = text.replace("{Th: 0.02, Tc: 0.02}", "{Th: 0.05, Tc: 0.05}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exchanger.yaml"
        path.write_text(text)
        return sign(build(path), KEY)


def package(version):
    return load(signed(version), {key_id(KEY.public_key()): KEY.public_key()})


def prepare(store):
    """Makes what a gateway needs: tenant, invitation, models and their signer."""
    store.create_tenant("acme", 1)
    store.create_invite(GATEWAY, b"s" * 32, 1, 2)
    store.redeem_invite(b"s" * 32, 1)
    store.add_signer("acme", "release", public_pem(KEY.public_key()), 1)
    for version in VERSIONS:
        store.put_model("acme", signed(version), 1)


def catalogue():
    names = [("d.hot_in", "degC"), ("d.hot_out", "K"), ("d.cold_in", "degC")]
    signals = [Signal(n, name, Kind.FLOAT, unit, Stream.STATE, 3) for n, (name, unit) in enumerate(names)]
    for output in ("hot_out", "cold_out"):
        for role in OUTPUT_ROLES:
            name = f"tank/{output}#{role}"
            signals.append(Signal(len(signals), name, Kind.FLOAT, "degC", Stream.STATE, 6, period_ns=S))
    signals.append(Signal(len(signals), lineage_signal("tank"), Kind.STRING, "", Stream.STATE))
    bound = {"hot_in": "d.hot_in", "cold_in": "d.cold_in", "hot_out": "d.hot_out", "cold_out": ""}
    return Catalogue(tuple(signals), (TwinBinding("tank", "exchanger", "", bound, ("hot_out", "cold_out"), {}),))


class Edge:
    """One start of an agent."""

    def __init__(self, store, clock, counter=1, before=(), version=VERSIONS[0]):
        self.store, self.clock, self.catalogue = store, clock, catalogue()
        ident = hashlib.sha256(b"boot %d" % counter).digest()[:16]
        previous = before[-1].id if before else b""
        self.boots = before
        self.boot = Boot(ident, previous, counter, clock.wall_ns(), ClockQuality.SYNCED)
        self.slot = Slot("tank")
        self.slot.offer(Estimator(package(version), tier=TIER))
        wiring = Wiring(
            "tank", {"hot_in": 0, "cold_in": 2}, {"hot_out": 1}, dict.fromkeys(range(3), 3 * S),
            {0: "degC", 1: "K", 2: "degC"},
        )  # fmt: skip
        self.runner = TwinRunner(wiring, self.slot)
        gate = Gate(Rules.none(len(self.catalogue)), clock)
        self.lanes = Lanes(WINDOWS)
        self.pipeline = Pipeline(Replays([]), gate, self.lanes, [self.runner], self._commit, clock)
        self.seq = dict.fromkeys(Stream, 0)
        self.items = []
        self.session = 0

    async def start(self):
        await self.pipeline.use(self.catalogue)
        now_ns = self.clock.wall_ns()
        hello = Hello((*self.boots, self.boot), "0.1.0", ClockQuality.SYNCED, (self.catalogue.digest,), (), "", 0)
        self.session = self.store.open_session(GATEWAY, hello, now_ns).session
        self.store.put_catalogue(GATEWAY, self.session, self.catalogue, now_ns)
        return self

    async def _commit(self, flush, catalogue):
        for stream, batches in flush.parts:
            packed = block.encode(batches, catalogue)
            content = Block(packed.schema, packed.crc32c, packed.payload, packed.t_min_ns, packed.t_max_ns)
            first = self.seq[stream]
            self.seq[stream] = first + packed.count
            self.items.append(Item(self.boot.id, stream, first, first + packed.count - 1, content))

    async def put(self, *samples):
        """Samples (signal, time, value) that come together."""
        names = self.catalogue.by_name
        batch = Batch.of(
            Kind.FLOAT, [names[s].id for s, _, _ in samples], [v for _, _, v in samples], [0] * len(samples),
            [t for _, t, _ in samples],
        )  # fmt: skip
        await self.pipeline.put(Delivery("d", (batch,), None, urgent=True))

    async def run(self, seconds, *, rng, skip=(), late=()):
        """Seconds of the plant; `skip` leaves samples out, `late` keeps them back for 5 s."""
        held = []
        for k in range(seconds):
            t_ns = self.clock.wall_ns()
            samples = [
                ("d.hot_in", t_ns - 300_000_000, round(80.0 + float(np.sin(k / 9)), 3)),
                ("d.hot_out", t_ns - 100_000_000, round(333.0 + float(rng.normal()) * 0.2, 3)),
                ("d.cold_in", t_ns - 200_000_000, 20.0),
            ]
            samples = [s for n, s in enumerate(samples) if (k, n) not in skip]
            held += [(k + 5, s) for n, s in enumerate(samples) if (k, n) in late]
            now = [s for n, s in enumerate(samples) if (k, n) not in late] + [s for due, s in held if due == k]
            if now:
                await self.put(*now)
            self.clock.advance(S)
            if k % 10 == 9:
                await self.pipeline.commit(everything=True)

    async def swap(self, version):
        self.slot.offer(Estimator(package(version), tier=TIER))

    async def end(self, *, crash=False):
        """Nothing is flushed in a crash."""
        if not crash:
            await self.pipeline.commit(everything=True)

    def deliver(self, items=None):
        """Commits items in their order; those told are taken instead of all."""
        arrivals = [self._arrival(item) for item in (self.items if items is None else items)]
        commit = self.store.commit(GATEWAY, self.session, arrivals, self.clock.wall_ns())
        assert commit.nack is None
        assert not commit.rejected

    def _arrival(self, item):
        if not isinstance(item.content, Block):
            return Arrival(item)
        return Arrival(item, tuple(block.decode(item.content.payload, self.catalogue)))

    def lose(self, place):
        """One item is dropped and declared."""
        item = self.items[place]
        count = item.last_seq - item.first_seq + 1
        gap = Gap("STORE_FULL", count, item.content.t_min_ns, item.content.t_max_ns)
        self.items[place] = replace(item, content=gap)

    def thin(self, place):
        """A full gateway kept every second sample of one item only."""
        item = self.items[place]
        batches, mask, at = [], np.zeros(item.last_seq - item.first_seq + 1, bool), 0
        for batch in block.decode(item.content.payload, self.catalogue):
            kept = np.arange(at, at + len(batch)) % 2 == 0
            kept[0] = True
            mask[at : at + len(batch)] = kept
            batches.append(batch.take(kept))
            at += len(batch)
        packed = block.encode(batches, self.catalogue)
        content = Block(packed.schema, packed.crc32c, packed.payload, packed.t_min_ns, packed.t_max_ns, pack_kept(mask))
        self.items[place] = replace(item, content=content)

    def alter(self, place, signal, change):
        """The stored samples of a signal in one item are other ones than the agent saw."""
        item = self.items[place]
        ident = self.catalogue.by_name[signal].id
        batches = []
        for batch in block.decode(item.content.payload, self.catalogue):
            mine = batch.signal == ident
            values = batch.value.copy()
            values[mine] = [change(v) for v in batch.value[mine].tolist()]
            batches.append(replace(batch, value=values))
        packed = block.encode(batches, self.catalogue)
        content = Block(packed.schema, packed.crc32c, packed.payload, packed.t_min_ns, packed.t_max_ns)
        self.items[place] = replace(item, content=content)
