"""REST of a running `twincloud serve` on one core, asked by a process on the other; in the end while it ingests."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.coordinator.engines import Postgres
from bench.coordinator.plant import SAMPLES, pump_catalogue, site_batches, site_catalogue
from bench.drivers.process import cpu_s, rss_mb
from bench.fleet import Gateway, Server
from bench.served import FACTS, key_of
from twincloud.identity.ledger import Ledger
from twincloud.identity.making import make
from twincloud.identity.shared_ledger import SharedLedger
from twincloud.identity.tokens import issue
from twincloud.storage import CoordinatorStore, open_store
from twinmodel.clock import SECOND_NS, SystemClock
from twinmodel.signal import Batch, Kind
from twinsync import block
from twinsync.item import Block

TENANT = "bench"
CONNECTIONS = 32
GATEWAYS = 64
INGEST_PER_S = 1_000_000
READ_PER_S = 100
_START_S = 120.0

Figures = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Served:
    """A coordinator that serves."""

    process: subprocess.Popen[bytes]
    state: Path
    port: int
    token: str

    def load(self, seconds: float, kind: str, paths: Sequence[str], core: int, **more: object) -> subprocess.Popen[str]:
        """A client that works on a core; `answer_of` waits for it."""
        client = subprocess.Popen(
            ["taskset", "-c", str(core), sys.executable, "-m", "bench.coordinator.load"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert client.stdin is not None
        job = {"host": "127.0.0.1", "port": self.port, "token": self.token, "kind": kind, "paths": list(paths),
               "connections": CONNECTIONS, "seconds": seconds, **more}  # fmt: skip
        client.stdin.write(json.dumps(job) + "\n")
        client.stdin.flush()
        return client


def answer_of(client: subprocess.Popen[str]) -> dict[str, Any]:
    """What a client found."""
    assert client.stdout is not None
    with client:
        found: dict[str, Any] = json.loads(client.stdout.readline())
    if found["failed"]:
        raise RuntimeError(f"{found['failed']} of {found['done']} requests failed")
    return found


def run(folder: Path, server: Postgres | None, *, quick: bool) -> Figures:
    """Figures of REST."""
    seconds = 1.0 if quick else 10.0
    figures = _rates(folder / "sqlite", None, seconds) | _under_ingest(folder / "ingest", None, 4 * seconds)
    if server is not None:
        pg = _rates(folder / "pg", server, seconds)
        if not quick:
            pg |= _under_ingest(folder / "ingest-pg", server, 3 * seconds)
        figures |= {f"{name}_pg": value for name, value in pg.items()}
    return figures


def _rates(state: Path, server: Postgres | None, seconds: float) -> Figures:
    """Reads of one twin, and changes of a record under its ETag, each durable before it is answered."""
    cores = os.sched_getaffinity(0)
    figures: Figures = {}
    with served(state, server, core=min(cores), gateways=1) as (rest, sync):
        gateway = Gateway(0, sync, pump_catalogue([f"pump-{n}" for n in range(200)]))
        asyncio.run(_tell(gateway))
        twins = [f"/api/v1/tenants/{TENANT}/sites/site-0/twins/pump-{n}" for n in range(200)]
        records = [f"{path}/record" for path in twins]
        for name, kind, paths in (("reads", "read", twins), ("conditional_updates", "change", records)):
            answer_of(rest.load(0.3 if seconds < 2 else 2.0, kind, paths, max(cores)))
            used = cpu_s(rest.process.pid)
            found = answer_of(rest.load(seconds, kind, paths, max(cores)))
            figures[f"{name}_per_s"] = found["done"] / found["seconds"]
            figures[f"{name}_cpu_us"] = (cpu_s(rest.process.pid) - used) / found["done"] * 1e6
            figures[f"{name}_p95_ms"] = float(np.percentile(found["ms"], 95))
    return figures


async def _tell(gateway: Gateway) -> None:
    await gateway.open()
    count, now_ns = len(gateway.catalogue), time.time_ns()
    batch = Batch(
        Kind.FLOAT, np.arange(count, dtype=np.uint32), np.arange(count) / 8, np.zeros(count, np.uint16),
        np.full(count, now_ns),
    )  # fmt: skip
    await gateway.send([_block(gateway, [batch])], count, 1)
    await gateway.close()


def _block(gateway: Gateway, batches: Sequence[Batch]) -> Block:
    packed = block.encode(batches, gateway.catalogue)
    return Block(packed.schema, packed.crc32c, packed.payload, packed.t_min_ns, packed.t_max_ns)


def _under_ingest(state: Path, server: Postgres | None, seconds: float) -> Figures:
    """A hundred requests a second of four kinds while gateways send a million samples a second."""
    cores = os.sched_getaffinity(0)
    with served(state, server, core=min(cores), gateways=GATEWAYS) as (rest, sync):
        os.sched_setaffinity(0, {max(cores)})
        try:
            return asyncio.run(_asked_meanwhile(rest, sync, seconds, max(cores)))
        finally:
            os.sched_setaffinity(0, cores)


async def _asked_meanwhile(rest: Served, sync: Server, seconds: float, core: int) -> Figures:
    fleet = [Gateway(number, sync, site_catalogue(f"g{number}")) for number in range(GATEWAYS)]
    period_s = GATEWAYS * SAMPLES / INGEST_PER_S
    rounds = int(seconds / period_s) + 1
    blocks = [[_block(one, site_batches(number)) for number in range(rounds + 2)] for one in fleet]
    paths = []
    for number in range(GATEWAYS):
        site = f"/api/v1/tenants/{TENANT}/sites/site-{number}"
        paths += [
            f"{site}/twins/g{number}-{number % 20}",
            f"{site}/twins/g{number}-1/history?property=p0&from=2025-10-09T08:53:20Z&to=2025-10-09T09:53:20Z",
            f"/api/v1/tenants/{TENANT}/twins?site=site-{number}&page_size=25",
            f"{site}/twins/g{number}-{number % 7}",
        ]
    for one in fleet:
        await one.open()
    await asyncio.gather(*(one.send(own[:2], SAMPLES, 1) for one, own in zip(fleet, blocks, strict=True)))
    used, begin = cpu_s(rest.process.pid), time.perf_counter()
    sent = [
        asyncio.create_task(_paced(one, own[2:], n, period_s))
        for n, (one, own) in enumerate(zip(fleet, blocks, strict=True))
    ]
    client = rest.load(seconds * 0.9, "read", paths, core, per_s=READ_PER_S)
    found = await asyncio.to_thread(answer_of, client)
    await asyncio.gather(*sent)
    elapsed = time.perf_counter() - begin
    for one in fleet:
        await one.close()
    return {
        "query_p95_ms_under_ingest": float(np.percentile(found["ms"], 95)),
        "query_p50_ms_under_ingest": float(np.percentile(found["ms"], 50)),
        "ingest_msps_under_queries": GATEWAYS * rounds * SAMPLES / elapsed / 1e6,
        "query_and_ingest_cores": (cpu_s(rest.process.pid) - used) / elapsed,
        "query_and_ingest_rss_mb": rss_mb(rest.process.pid),
    }


async def _paced(gateway: Gateway, blocks: Sequence[Block], place: int, period_s: float) -> None:
    begin = time.perf_counter() + period_s * place / GATEWAYS
    for turn, content in enumerate(blocks):
        await asyncio.sleep(max(0.0, begin + turn * period_s - time.perf_counter()))
        await gateway.send([content], SAMPLES, 1)


@contextmanager
def served(state: Path, server: Postgres | None, *, core: int, gateways: int) -> Iterator[tuple[Served, Server]]:
    """`twincloud serve` on one core, with gateways that may connect and a token of an engineer."""
    clock, url = SystemClock(), "" if server is None else server.database()
    state.parent.mkdir(exist_ok=True)
    make(state, clock, tenant=TENANT, names=("localhost", "127.0.0.1"), database=url)
    store = open_store(state, clock=clock, database=url)
    token = _prepare(store, state, clock, gateways, shared=bool(url))
    store.close()
    ready = state / "ready.json"
    command = [sys.executable, "-m", "twincloud", "serve", "--state", str(state), "--port", "0", "--sync-port", "0",
               "--enrol-port", "0", "--log", "warning", "--ready-file", str(ready)]  # fmt: skip
    command += ["--database", url] if url else []
    process = subprocess.Popen(["taskset", "-c", str(core), *command])
    try:
        until = time.monotonic() + _START_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the coordinator did not start")
            time.sleep(0.05)
        facts = json.loads(ready.read_text())
        port, sync_port = (int(facts[name].rpartition(":")[2]) for name in ("rest", "sync"))
        (state / FACTS).write_text(json.dumps({"port": sync_port}))
        yield Served(process, state, port, token), Server(process, state)  # type: ignore[arg-type] # its pipes are not used
    finally:
        process.terminate()
        process.wait(_START_S)


def _prepare(store: CoordinatorStore, state: Path, clock: SystemClock, gateways: int, *, shared: bool) -> str:
    now_ns = clock.wall_ns()
    for number in range(gateways):
        invite = hashlib.sha256(b"%d" % number).digest()
        store.create_invite(key_of(number), invite, now_ns, now_ns + 3600 * SECOND_NS)
        store.redeem_invite(invite, now_ns)
    ledger = SharedLedger(store.documents()) if shared else Ledger(state)
    return issue(ledger, clock, name="bench", tenant=TENANT, role="engineer")
