"""What a coordinator takes: end to end over mTLS, and what one commit costs below it.

    end to end: a coordinator on one core, all gateways and this bench on the other
ingest_blocks_per_s       64 gateways, blocks of 416 samples (one second), 8 in a message: sent, decoded, committed
                          FULL, acknowledged
ingest_msps               the same with blocks of 4,160 samples (ten seconds), 4 in a message; million samples/s
ingest_cpu_us_416, _4160  the coordinator's processor time per block of either kind
ingest_vs_raw_socket      blocks per second against the same messages over plain TCP to a process that only answers them
ack_p99_ms                from sending a block to its acknowledgement, at 1,000 blocks/s
streams_held, streams_open_s   4,000 gateways that connect all at once, each again after an agent's backoff; how long
                          that takes
streams_failed_first      of these, how many needed more than one try
streams_idle, streams_cut   of them and 1,000 that come later, those the coordinator has after 20 s of heartbeats alone;
                          and those whose stream ended
idle_stream_kb, coordinator_rss_mb   memory of each of the 5,000, and of the process
    one commit, in this process
commit_blocks_per_s       24 twins on 4 gateways, 1 s blocks of about 20 samples, one block per gateway a commit
commit_blocks_per_s_late  the same blocks, 64 of each gateway a commit
commit_msps               416-sample blocks, one block per gateway a commit; million samples/s
history_ms_cold, _warm    one hour of two properties in six roles out of 1 s blocks
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import numpy as np

from bench.fleet import Gateway as FleetGateway
from bench.fleet import Server, coordinator
from twincloud.storage import CoordinatorStore, create, open_store
from twincloud.storage.contract import Arrival, GatewayKey, Hello, TwinKey
from twincloud.twins.history import ROLES
from twinmodel.clock import SECOND_NS, ClockQuality, SystemClock
from twinmodel.signal import OUTPUT_ROLES, Batch, Catalogue, Kind, Signal, Stream, TwinBinding
from twinsync import block
from twinsync.item import Block, Boot, Item

T0 = 1_700_000_000 * SECOND_NS
HOUR_S = 3_600
PHASE_S = 120.0
"""Whatever takes longer than this has failed."""
HERD_LATER = 50
IDLE_S = 20.0
"""Longer than a coordinator waits for a heartbeat: streams that are held only in name are gone by then."""


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

    def __init__(self, store: CoordinatorStore, name: str, catalogue: Catalogue) -> None:
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


def commit_rate(
    store: CoordinatorStore, gateways: Sequence[Gateway], commits: int, blocks: int, *, start: int = 0
) -> tuple[float, float]:
    """Blocks and samples per second over `commits` commits of `blocks` blocks of each gateway."""
    steps = [
        [(g.key, g.session, g.blocks(range(step * blocks, (step + 1) * blocks))) for g in gateways]
        for step in range(start, start + commits)
    ]
    begin = time.perf_counter()
    samples = 0
    for step, requests in enumerate(steps, start):
        received_ns = T0 + ((step + 1) * blocks + 1) * SECOND_NS
        for result in store.commit_many(requests, received_ns):
            if isinstance(result, Exception):
                raise result
            samples += result.samples
    elapsed = time.perf_counter() - begin
    return commits * blocks * len(gateways) / elapsed, samples / elapsed


def history_ms(store: CoordinatorStore, key: TwinKey) -> float:
    """Milliseconds for one hour of two properties in all roles, as a twin's page asks for them."""
    begin = time.perf_counter()
    for prop in ("p0", "p1"):
        store.history(key, prop, ROLES, T0, T0 + HOUR_S * SECOND_NS, HOUR_S)
    return (time.perf_counter() - begin) * 1e3


def blocks_of(catalogue: Catalogue, seconds: int, count: int, from_ns: int) -> list[Block]:
    """Blocks of all signals, a sample a second each."""
    n, rng, made = len(catalogue), np.random.default_rng(1), []
    signal, zero = np.repeat(np.arange(n, dtype=np.uint32), seconds), np.zeros(n * seconds, np.uint16)
    for k in range(count):
        t_ns = from_ns + (k * seconds + np.arange(seconds)) * SECOND_NS
        value = np.round(10 + rng.normal(size=n * seconds) * 0.05, 3)
        packed = block.encode([Batch(Kind.FLOAT, signal, value, zero, np.tile(t_ns, n))], catalogue)
        made.append(Block(packed.schema, packed.crc32c, packed.payload, packed.t_min_ns, packed.t_max_ns))
    return made


async def end_to_end(server: Server, gateways: int, seconds_416: int, blocks_4160: int) -> dict[str, float]:
    """Rates, processor time and latency of a coordinator under load."""
    # Each gateway has signals of its own names, as plants do: nothing that is remembered by catalogue is shared.
    fleet = [FleetGateway(number, server, plant(26, 6, 2, f"wide{number}-")) for number in range(gateways)]
    samples = len(fleet[0].catalogue)
    from_ns = T0

    def prepared(seconds: int, count: int) -> list[list[Block]]:
        nonlocal from_ns
        from_ns += seconds * count * SECOND_NS
        return [
            blocks_of(gateway.catalogue, seconds, count, from_ns - seconds * count * SECOND_NS) for gateway in fleet
        ]

    async def load(made: list[list[Block]], seconds: int, per_message: int) -> tuple[float, float]:
        used, begin = server.facts()["cpu_s"], time.perf_counter()
        sent = (g.send(own, seconds * samples, per_message) for g, own in zip(fleet, made, strict=True))
        async with asyncio.timeout(PHASE_S):
            await asyncio.gather(*sent)
        elapsed, total = time.perf_counter() - begin, sum(map(len, made))
        return total / elapsed, (server.facts()["cpu_s"] - used) / total * 1e6

    # Before the streams open: who says nothing for long is cut.
    warm, small, large, single = prepared(1, 8), prepared(1, seconds_416), prepared(10, blocks_4160), prepared(1, 40)
    await asyncio.gather(*(gateway.open_at_last(Random(gateway.number)) for gateway in fleet))
    figures: dict[str, float] = {}
    await load(warm, 1, 8)
    figures["ingest_blocks_per_s"], figures["ingest_cpu_us_416"] = await load(small, 1, 8)
    rate, figures["ingest_cpu_us_4160"] = await load(large, 10, 4)
    figures["ingest_msps"] = rate * 10 * samples / 1e6
    figures["ack_p99_ms"] = await paced(fleet, single, samples, gateways / 1_000)
    for gateway in fleet:
        await gateway.close()
    raw = await raw_rate(single[0][0].payload, gateways, seconds_416, 8)
    figures["ingest_vs_raw_socket"] = figures["ingest_blocks_per_s"] / raw
    return figures


async def paced(
    fleet: Sequence[FleetGateway], blocks: Sequence[Sequence[Block]], samples: int, period_s: float
) -> float:
    """99th percentile of the time to an acknowledgement, ms, one block of each gateway every `period_s`."""

    async def one(place: int, gateway: FleetGateway) -> None:
        gateway.acks_s.clear()
        await asyncio.sleep(period_s * place / len(fleet))
        begin = time.perf_counter()
        for turn, content in enumerate(blocks[place]):
            await asyncio.sleep(max(0.0, begin + turn * period_s - time.perf_counter()))
            await gateway.send([content], samples, 1)

    await asyncio.gather(*(one(place, gateway) for place, gateway in enumerate(fleet)))
    acks = np.concatenate([gateway.acks_s for gateway in fleet])
    return float(np.percentile(acks, 99)) * 1e3


async def raw_rate(payload: bytes, connections: int, count: int, per_message: int) -> float:
    """Blocks per second over plain TCP to a process that reads messages and answers each with 16 bytes."""
    process = await asyncio.create_subprocess_exec(
        "taskset", "-c", "0", sys.executable, "-c", _RAW_SERVER, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    message = struct.pack("<I", len(payload) * per_message) + payload * per_message

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        turns = count // per_message
        for turn in range(turns + 8):
            if turn < turns:
                writer.write(message)
                await writer.drain()
            if turn >= 8:
                await reader.readexactly(16)
        writer.close()

    begin = time.perf_counter()
    try:
        async with asyncio.timeout(PHASE_S):
            await asyncio.gather(*(one() for _ in range(connections)))
        elapsed = time.perf_counter() - begin
    finally:
        process.kill()
        await process.wait()
    return connections * (count // per_message) * per_message / elapsed


_RAW_SERVER = """
import asyncio, struct
async def serve(reader, writer):
    try:
        while True:
            (size,) = struct.unpack("<I", await reader.readexactly(4))
            await reader.readexactly(size)
            writer.write(bytes(16))
    except asyncio.IncompleteReadError:
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


async def herd(server: Server, streams: int, more: int) -> dict[str, float]:
    """Gateways that all connect at once, as after a restart, and then only beat; `more` of them later, by turns.

    Who fails comes again as an agent does. All gateways share this process and its core: what one of 4,000 machines
    does in a millisecond takes its turn behind the others here, within the four seconds the coordinator gives to a
    handshake.
    """
    catalogue = plant(1, 2, 0, "idle")
    fleet = [FleetGateway(number, server, catalogue) for number in range(streams + more)]
    for gateway in fleet:
        gateway.prepare()
    before, begin = server.facts()["rss_mb"], time.perf_counter()
    staying: list[asyncio.Task[None]] = []
    async with asyncio.TaskGroup() as group:

        async def held(gateway: FleetGateway) -> int:
            failed = await _held(gateway)
            if failed >= 0:
                staying.extend(group.create_task(work) for work in (gateway.beat(), gateway.listen()))
            return failed

        tries = await asyncio.gather(*map(held, fleet[:streams]))
        elapsed = time.perf_counter() - begin
        for start in range(streams, len(fleet), HERD_LATER):
            tries += await asyncio.gather(*map(held, fleet[start : start + HERD_LATER]))
        await asyncio.sleep(IDLE_S)
        facts = server.facts()
        cut = sum(gateway.cut for gateway in fleet)
        for task in staying:
            task.cancel()
    for gateway in fleet:
        await gateway.close()
    return {
        "streams_held": float(sum(1 for failed in tries[:streams] if failed >= 0)),
        "streams_failed_first": float(sum(1 for failed in tries[:streams] if failed)),
        "streams_open_s": elapsed,
        "streams_idle": facts["streams"],
        "streams_cut": float(cut),
        "idle_stream_kb": (facts["rss_mb"] - before) * 1024 / max(facts["streams"], 1),
        "coordinator_rss_mb": facts["rss_mb"],
    }


async def _held(gateway: FleetGateway) -> int:
    """Tries of a gateway that failed before its session was open, -1 when it never was."""
    try:
        async with asyncio.timeout(PHASE_S):
            return await gateway.open_at_last(Random(gateway.number))
    except TimeoutError:
        return -1


@contextmanager
def _on_core(core: int) -> Iterator[None]:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def run(*, quick: bool = False) -> Mapping[str, float]:
    """Measures and returns the figures by name."""
    figures: dict[str, float] = {}
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as folder, _on_core(max(cores)):
        with coordinator(Path(folder) / "load", 64, core=min(cores)) as server:
            figures |= asyncio.run(end_to_end(server, 64, 96 if quick else 800, 16 if quick else 160))
        streams, more = (400, 0) if quick else (4_000, 1_000)
        with coordinator(Path(folder) / "herd", streams + more, core=min(cores)) as server:
            figures |= asyncio.run(herd(server, streams, more))
    with tempfile.TemporaryDirectory() as folder:
        figures |= one_process(Path(folder) / "state", quick=quick)
    return {name: round(value, 3) for name, value in figures.items()}


def one_process(path: Path, *, quick: bool) -> dict[str, float]:
    """What commits and history cost without any network."""
    figures: dict[str, float] = {}
    create(path)
    store = open_store(path, clock=SystemClock())
    small = [Gateway(store, f"live{n}", plant(6, 3, 0, f"live{n}")) for n in range(4)]
    figures["commit_blocks_per_s"], _ = commit_rate(store, small, 50 if quick else 500, 1)
    late = [Gateway(store, f"late{n}", plant(6, 3, 0, f"late{n}")) for n in range(4)]
    figures["commit_blocks_per_s_late"], _ = commit_rate(store, late, 4 if quick else 30, 64)
    large = [Gateway(store, f"wide{n}", plant(26, 6, 2, f"wide{n}")) for n in range(8 if quick else 64)]
    commit_rate(store, large, 1, 1)
    _, samples = commit_rate(store, large, 4 if quick else 10, 1, start=1)
    figures["commit_msps"] = samples / 1e6
    watched = Gateway(store, "watched", plant(6, 3, 2, "watched"))
    commit_rate(store, [watched], HOUR_S // 60, 60)
    key = TwinKey("bench", "site", "watched-0")
    figures["history_ms_warm"] = history_ms(store, key)
    store.close()
    store = open_store(path, clock=SystemClock())
    figures["history_ms_cold"] = history_ms(store, key)
    store.close()
    return figures
