"""A plant for store tests: a catalogue with twins, and a gateway that numbers, packs and sends what it made."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

import numpy as np

from twincloud.storage.contract import Arrival, Commit, GatewayKey, Hello, TwinKey
from twinmodel.clock import SECOND_NS, ClockQuality
from twinmodel.signal import OUTPUT_ROLES, Batch, Catalogue, Kind, Signal, Stream, TwinBinding
from twinsync import block
from twinsync.item import Block, Boot, Gap, Item, NotAcquired, Outage
from twinsync.kept import pack_kept

NOW = 1_700_000_000 * SECOND_NS
KEY = GatewayKey("acme", "mill", "gw-1")
TWIN = TwinKey("acme", "mill", "pump-0")


def catalogue(twins: int = 2, *, prefix: str = "pump", extra: str = "") -> Catalogue:
    """Pumps with flow (measured, estimated), head (virtual) and speed (measured input)."""
    signals: list[Signal] = []

    def add(name: str, unit: str, kind: Kind = Kind.FLOAT) -> None:
        signals.append(Signal(len(signals), name, kind, unit, Stream.STATE, exponent=3, period_ns=SECOND_NS))

    bindings = []
    for n in range(twins):
        twin, device = f"{prefix}-{n}", f"plc{n}{extra}"
        add(f"{device}.flow", "m3/h")
        add(f"{device}.speed", "1/min")
        for output, unit in (("flow", "m3/h"), ("head", "m")):
            for role in OUTPUT_ROLES:
                add(f"{twin}/{output}#{role}", unit)
        bindings.append(
            TwinBinding(
                twin,
                "pump",
                "pump@1.0.0",
                {"flow": f"{device}.flow", "speed": f"{device}.speed"},
                ("flow", "head"),
                {"flow": "m3/h", "speed": "1/min", "head": "m"},
            )
        )
    add(f"line{extra}.state", "", Kind.STRING)
    add(f"line{extra}.count", "", Kind.INT)
    add(f"line{extra}.running", "", Kind.BOOL)
    return Catalogue(tuple(signals), tuple(bindings))


class Edge:
    """One gateway's disk: boots, sequence numbers and every item it ever made."""

    def __init__(self, seed: int = 0, plan: Catalogue | None = None) -> None:
        self.random = random.Random(seed)
        self.catalogue = plan or catalogue()
        self.boots: list[Boot] = []
        self.next: dict[tuple[bytes, Stream], int] = {}
        self.session = 0
        self.boot()

    def boot(self) -> Boot:
        previous = self.boots[-1].id if self.boots else b""
        counter = self.boots[-1].counter + 1 if self.boots else 1
        self.boots.append(Boot(self.random.randbytes(16), previous, counter, NOW, ClockQuality.SYNCED))
        return self.boots[-1]

    def clone(self, seed: int) -> Edge:
        """The same disk in another machine."""
        other = Edge(seed, self.catalogue)
        other.boots, other.next = list(self.boots), dict(self.next)
        return other

    def hello(self, since: int = 0, schemas: Sequence[bytes] | None = None) -> Hello:
        digests = (self.catalogue.digest,) if schemas is None else tuple(schemas)
        return Hello(tuple(self.boots[since:]), "0.1.0", ClockQuality.SYNCED, digests, ())

    def connect(self, store, key: GatewayKey = KEY, now_ns: int = NOW):
        opened = store.open_session(key, self.hello(), now_ns)
        self.session = opened.session
        if opened.missing_schemas:
            store.put_catalogue(key, self.session, self.catalogue, now_ns)
        return opened

    def _number(self, stream: Stream, count: int, boot: Boot | None) -> tuple[bytes, int, int]:
        boot_id = (boot or self.boots[-1]).id
        first = self.next.get((boot_id, stream), 0)
        self.next[boot_id, stream] = first + count
        return boot_id, first, first + count - 1

    def block(
        self, batches: Sequence[Batch], stream: Stream = Stream.STATE, boot: Boot | None = None, lost: int = 0
    ) -> Arrival:
        """A block; of a thinned one, `lost` samples behind those given went away."""
        packed = block.encode(batches, self.catalogue)
        count = packed.count + lost
        boot_id, first, last = self._number(stream, count, boot)
        kept = pack_kept(np.arange(count) < packed.count) if lost else b""
        content = Block(packed.schema, packed.crc32c, packed.payload, packed.t_min_ns, packed.t_max_ns, kept)
        item = Item(boot_id, stream, first, last, content)
        return Arrival(item, tuple(block.decode(packed.payload, self.catalogue)))

    def samples(self, values: dict[str, Sequence[tuple[int, object]]], quality: int = 0, **where) -> Arrival:
        """A block of `signal -> [(t_ns, value)]`."""
        by_kind: dict[Kind, list[tuple[int, object, int, int]]] = {}
        for name, points in values.items():
            signal = self.catalogue.by_name[name]
            by_kind.setdefault(signal.kind, []).extend((signal.id, v, quality, t) for t, v in points)
        return self.block([Batch.of(kind, *zip(*rows, strict=True)) for kind, rows in by_kind.items()], **where)

    def tick(self, t_ns: int, value: float = 1.0, twins: int | None = None, **where) -> Arrival:
        """One tick of every twin: both measurements and all outputs."""
        wanted = self.catalogue.twins[:twins]
        values: dict[str, Sequence[tuple[int, object]]] = {}
        for binding in wanted:
            values |= {signal: [(t_ns, value)] for signal in binding.properties.values()}
            for output in binding.outputs:
                values |= {f"{binding.twin}/{output}#{role}": [(t_ns, value / 4)] for role in OUTPUT_ROLES}
        return self.samples(values, **where)

    def gap(self, count: int, stream: Stream = Stream.STATE, reason: str = "DROP_OLDEST", boot: Boot | None = None):
        boot_id, first, last = self._number(stream, count, boot)
        return Arrival(Item(boot_id, stream, first, last, Gap(reason, count, NOW, NOW + 1)))

    def record(self, content: Outage | NotAcquired, stream: Stream = Stream.STATE) -> Arrival:
        boot_id, first, last = self._number(stream, 1, None)
        return Arrival(Item(boot_id, stream, first, last, content))

    def poison(self, count: int = 10, stream: Stream = Stream.STATE, payload: bytes = b"\x00broken") -> Arrival:
        boot_id, first, last = self._number(stream, count, None)
        content = Block(self.catalogue.digest, 1, payload, NOW, NOW)
        return Arrival(Item(boot_id, stream, first, last, content), None, "BLOCK_CORRUPT")

    def send(self, store, arrivals: Sequence[Arrival], received_ns: int = NOW, key: GatewayKey = KEY) -> Commit:
        return store.commit(key, self.session, arrivals, received_ns)


def invite(store, key: GatewayKey = KEY) -> None:
    """Makes tenant, site and gateway, and lets the gateway in."""
    token = hashlib.sha256(repr(key).encode()).digest()
    store.create_tenant(key.tenant, NOW)
    store.create_invite(key, token, NOW, NOW + SECOND_NS)
    store.redeem_invite(token, NOW)


def stored(store, key: GatewayKey = KEY) -> list[tuple[str, int, object]]:
    """Every stored sample as (signal, time, value), in commit order."""
    found, after = [], 0
    while True:
        page = store.samples(key, after=after, limit=1_000)
        for name, batch in page.items:
            found += [(name, t, v) for t, v in zip(batch.t_ns.tolist(), batch.value.tolist(), strict=True)]
        if not page.next_token:
            return found
        after = int(page.next_token)
