"""What one commit costs: blocks and samples per second into the embedded store, decoded before, committed durably.

ingest_blocks_per_s           24 twins on 4 gateways, 1 s blocks of about 20 samples, one block per gateway a commit
ingest_blocks_per_s_backlog   the same blocks, 64 of each gateway a commit
ingest_msps                   416-sample blocks of 64 gateways, one block per gateway a commit; million samples/s
ingest_blocks_per_s_writer    64 gateways with one twin each, one block of 16 samples in flight, through the writer:
                              decoded, committed, acknowledged; what waits of all gateways shares a transaction
history_ms_cold, _warm        one hour of two properties in six roles out of 1 s blocks
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from twincloud.ingest.limits import IngestLimits
from twincloud.ingest.writer import Ticket, Writer
from twincloud.storage import SqliteStore, create, open_store
from twincloud.storage.contract import Arrival, GatewayKey, Hello, TwinKey
from twincloud.twins.history import ROLES
from twinmodel.clock import SECOND_NS, ClockQuality, SystemClock
from twinmodel.signal import OUTPUT_ROLES, Batch, Catalogue, Kind, Signal, Stream, TwinBinding
from twinsync import block
from twinsync.item import Block, Boot, Item
from twinsync.session.server import Credit, Refused, Stored

T0 = 1_700_000_000 * SECOND_NS
HOUR_S = 3_600


def plant(twins: int, measured: int, outputs: int, prefix: str) -> Catalogue:
    """Twins with some measured properties, the first of which the model estimates."""
    signals: list[Signal] = []
    bindings = []

    def add(name: str) -> str:
        signals.append(Signal(len(signals), name, Kind.FLOAT, "m3/h", Stream.STATE, 3, 1, SECOND_NS))
        return name

    for n in range(twins):
        twin = f"{prefix}-{n}"
        names = {f"p{k}": add(f"{prefix}plc{n}.p{k}") for k in range(measured)}
        said = tuple(f"p{k}" for k in range(outputs))
        for output in said:
            for role in OUTPUT_ROLES:
                add(f"{twin}/{output}#{role}")
        bindings.append(TwinBinding(twin, "pump", "", names, said, dict.fromkeys(names, "m3/h")))
    return Catalogue(tuple(signals), tuple(bindings))


class Gateway:
    """Makes one block of all its signals for each second."""

    def __init__(self, store: SqliteStore, name: str, catalogue: Catalogue) -> None:
        self.key = GatewayKey("bench", "site", name)
        self.catalogue = catalogue
        self.boot = hashlib.sha256(name.encode()).digest()[:16]
        token = hashlib.sha256(f"token {name}".encode()).digest()
        store.create_tenant("bench", T0)
        store.create_invite(self.key, token, T0, T0 + SECOND_NS)
        store.redeem_invite(token, T0)
        boots = (Boot(self.boot, b"", 1, T0, ClockQuality.SYNCED),)
        hello = Hello(boots, "bench", ClockQuality.SYNCED, (catalogue.digest,), ())
        self.session = store.open_session(self.key, hello, T0).session
        store.put_catalogue(self.key, self.session, catalogue, T0)

    def blocks(self, seconds: Sequence[int]) -> list[Arrival]:
        """One block for each of these seconds, numbered from the first second 0 on."""
        n = len(self.catalogue)
        made = []
        for second in seconds:
            t_ns = T0 + second * SECOND_NS
            values = [round(10 + ((k * 7 + second * 3) % 100) / 50, 3) for k in range(n)]
            packed = block.encode([Batch.of(Kind.FLOAT, range(n), values, [0] * n, [t_ns] * n)], self.catalogue)
            content = Block(packed.schema, packed.crc32c, packed.payload, packed.t_min_ns, packed.t_max_ns)
            item = Item(self.boot, Stream.STATE, second * n, second * n + n - 1, content)
            made.append(Arrival(item, tuple(block.decode(packed.payload, self.catalogue))))
        return made


def commit_rate(store: SqliteStore, gateways: Sequence[Gateway], commits: int, blocks: int) -> tuple[float, float]:
    """Blocks and samples per second over `commits` commits of `blocks` blocks of each gateway."""
    steps = [
        [(g.key, g.session, g.blocks(range(step * blocks, (step + 1) * blocks))) for g in gateways]
        for step in range(commits)
    ]
    begin = time.perf_counter()
    samples = 0
    for step, requests in enumerate(steps):
        received_ns = T0 + ((step + 1) * blocks + 1) * SECOND_NS
        for result in store.commit_many(requests, received_ns):
            if isinstance(result, Exception):
                raise result
            samples += result.samples
    elapsed = time.perf_counter() - begin
    return commits * blocks * len(gateways) / elapsed, samples / elapsed


class Sender:
    """A stream that sends its next block when the one before it was acknowledged."""

    def __init__(self, gateway: Gateway, writer: Writer, items: Sequence[Item]) -> None:
        self.gateway = gateway.key
        self.alive = True
        self.done = asyncio.Event()
        self._session = gateway.session
        self._writer = writer
        self._items = deque(items)

    def feed(self, event: Stored | Refused) -> None:
        """Takes the answer."""
        if isinstance(event, Refused):
            raise TypeError(f"{self.gateway.gateway} was refused: {event.detail}")
        if not self._items:
            self.done.set()
            return
        item = self._items.popleft()
        # Half a second after its last sample.
        received_ns = item.content.t_max_ns + SECOND_NS // 2 if isinstance(item.content, Block) else T0
        self._writer.submit(Ticket(self, self._session, (item,), 1, received_ns))

    def start(self) -> None:
        """Sends the first one."""
        self.feed(Stored((), (), None, 0, 0, Credit(0, 0)))


async def writer_rate(store: SqliteStore, gateways: Sequence[Gateway], blocks: int) -> float:
    """Blocks per second from arrival to acknowledgement, `blocks` of each gateway, one in flight."""
    writer = Writer(store, SystemClock(), lambda _gateway, _commit: None, IngestLimits())
    senders = [Sender(g, writer, [arrival.item for arrival in g.blocks(range(blocks))]) for g in gateways]
    running = asyncio.ensure_future(writer.run())
    begin = time.perf_counter()
    for sender in senders:
        sender.start()
    for sender in senders:
        await sender.done.wait()
    elapsed = time.perf_counter() - begin
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return blocks * len(gateways) / elapsed


def history_ms(store: SqliteStore, key: TwinKey) -> float:
    """Milliseconds for one hour of two properties in all roles, as a twin's page asks for them."""
    begin = time.perf_counter()
    for prop in ("p0", "p1"):
        store.history(key, prop, ROLES, T0, T0 + HOUR_S * SECOND_NS, HOUR_S)
    return (time.perf_counter() - begin) * 1e3


def run(*, quick: bool = False) -> Mapping[str, float]:
    """Measures and returns the figures by name."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        create(path)
        store = open_store(path, clock=SystemClock())
        small = [Gateway(store, f"live{n}", plant(6, 3, 0, f"live{n}")) for n in range(4)]
        figures["ingest_blocks_per_s"], _ = commit_rate(store, small, 50 if quick else 500, 1)
        late = [Gateway(store, f"late{n}", plant(6, 3, 0, f"late{n}")) for n in range(4)]
        figures["ingest_blocks_per_s_backlog"], _ = commit_rate(store, late, 4 if quick else 30, 64)
        many = [Gateway(store, f"many{n}", plant(1, 6, 2, f"many{n}")) for n in range(64)]
        figures["ingest_blocks_per_s_writer"] = asyncio.run(writer_rate(store, many, 10 if quick else 100))
        large = [Gateway(store, f"wide{n}", plant(26, 6, 2, f"wide{n}")) for n in range(8 if quick else 64)]
        _, samples = commit_rate(store, large, 4 if quick else 10, 1)
        figures["ingest_msps"] = samples / 1e6
        watched = Gateway(store, "watched", plant(6, 3, 2, "watched"))
        commit_rate(store, [watched], HOUR_S // 60, 60)
        key = TwinKey("bench", "site", "watched-0")
        figures["history_ms_warm"] = history_ms(store, key)
        store.close()
        store = open_store(path, clock=SystemClock())
        figures["history_ms_cold"] = history_ms(store, key)
        store.close()
    return {name: round(value, 3) for name, value in figures.items()}
