"""Two coordinators behind HAProxy share one PostgreSQL and a fleet; one is killed, nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from random import Random

import httpx
import psycopg
import pytest

from tests.cloud.ingest.memory import CLOCK, MemorySpool, SilentDownlink
from tests.ports import free_port
from twinedge import enrol
from twinedge.uplink.sender import Uplink
from twinmodel.clock import MILLISECOND_NS
from twinsync.backoff import Backoff
from twinsync.channel import Credentials

pytestmark = [pytest.mark.service("postgresql"), pytest.mark.service("haproxy"), pytest.mark.e2e]
GATEWAYS = 4
BLOCKS = 30
START_S = 120.0
BALANCER = """
defaults
    mode tcp
    balance roundrobin
    timeout connect 2s
    timeout client 1h
    timeout server 1h
    option redispatch
    default-server inter 500ms fall 1 rise 1 on-marked-down shutdown-sessions
frontend sync
    bind 127.0.0.1:{port}
    default_backend sync
backend sync
    server one {one} check
    server two {two} check
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "twincloud", *map(str, arguments)]


def init(*arguments: object) -> str:
    """Makes a coordinator; returns the admin token of the first one."""
    return subprocess.run(command("init", *arguments), check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def program(arguments, log):
    with log.open("wb") as into:
        process = subprocess.Popen(arguments, stdout=into, stderr=into)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def until(true, what: str) -> None:
    async with asyncio.timeout(START_S):
        while not true():  # noqa: ASYNC110 - of other processes
            await asyncio.sleep(0.05)
    assert true(), what


async def joined(rest: str, token: str, name: str, folder):
    async with httpx.AsyncClient(base_url=rest, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        answer = await client.post("/api/v1/tenants/default/gateways:invite", json={"site": "mill", "gateway": name})
        assert answer.status_code == 201, answer.text
    invite = answer.json()
    wanted = {name: invite[name] for name in ("url", "token", "ca_sha256")}
    await asyncio.to_thread(enrol.join, **wanted, state_dir=folder, clock=CLOCK)
    identity = enrol.load_identity(folder, CLOCK)
    return Credentials(identity.ca_pem, identity.cert_pem, identity.key_pem)


def sender(address: str, credentials: Credentials, spool: MemorySpool, seed: int) -> Uplink:
    backoff = Backoff(Random(seed), base_ns=50 * MILLISECOND_NS, cap_ns=500 * MILLISECOND_NS)
    return Uplink(
        address, lambda: credentials, spool, SilentDownlink(), clock=CLOCK, random=Random(seed), agent_version="test",
        backoff=backoff,
    )  # fmt: skip


async def test_a_killed_coordinator_costs_its_gateways_a_moment_and_no_sample(postgres_url, service_path, tmp_path):
    token = init("--state", tmp_path / "one", "--database", postgres_url)
    join = ("--database", postgres_url, "--authority", tmp_path / "one" / "identity")
    init("--state", tmp_path / "two", *join)
    spools = [MemorySpool(seed=n).boot() for n in range(GATEWAYS)]
    with contextlib.ExitStack() as processes:
        served = []
        for name in ("one", "two"):
            ports = ("--port", 0, "--sync-port", 0, "--enrol-port", 0, "--ready-file", tmp_path / f"{name}.ready")
            arguments = command("serve", "--state", tmp_path / name, "--database", postgres_url, *ports)
            served.append(processes.enter_context(program(arguments, tmp_path / f"{name}.log")))
        ready = [tmp_path / f"{name}.ready" for name in ("one", "two")]
        await until(lambda: all(path.exists() for path in ready), "both serve")
        facts = [json.loads(path.read_text()) for path in ready]
        port = free_port()
        config = tmp_path / "haproxy.cfg"
        config.write_text(BALANCER.format(port=port, one=facts[0]["sync"], two=facts[1]["sync"]))
        processes.enter_context(program([service_path("haproxy"), "-db", "-f", str(config)], tmp_path / "haproxy.log"))
        shown = [await joined(facts[0]["rest"], token, f"gw-{n}", tmp_path / f"gw-{n}") for n in range(GATEWAYS)]
        fleet = [sender(f"127.0.0.1:{port}", shown[n], spools[n], n) for n in range(GATEWAYS)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one.run()) for one in fleet]

            async def produce(blocks: int) -> None:
                for _ in range(blocks):
                    for spool, one in zip(spools, fleet, strict=True):
                        spool.append()
                        one.wake()
                    await asyncio.sleep(0)

            await produce(BLOCKS)
            await until(lambda: not any(spool.unacked for spool in spools), "the fleet is served")
            with psycopg.connect(postgres_url) as server:
                holders = [row[0] for row in server.execute("SELECT DISTINCT replica FROM gateways").fetchall()]
            assert len(holders) == 2, "the balancer gave each coordinator some gateways"
            await produce(BLOCKS)
            served[0].kill()
            await produce(BLOCKS)
            await until(lambda: not any(spool.unacked for spool in spools), "all are served by the one left")
            for task in tasks:
                task.cancel()
        with psycopg.connect(postgres_url) as server:
            rows = server.execute(
                "SELECT b.boot, k.stream, k.first_seq, k.last_seq FROM blocks k JOIN boots b ON b.id = k.boot_id"
            ).fetchall()
    stored = [(bytes(boot), stream, n) for boot, stream, first, last in rows for n in range(first, last + 1)]
    sent = {(boot, int(stream), n) for spool in spools for boot, stream, n in spool.ids()}
    assert len(stored) == len(set(stored)), "nothing is there twice"
    assert set(stored) == sent, "nothing is lost"
