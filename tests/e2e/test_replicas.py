"""Two coordinators behind HAProxy share one PostgreSQL and a fleet; one is killed, nothing is lost or doubled.

What people do at one, commands and acknowledged alarms, reaches gateways and people at the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from random import Random

import httpx
import psycopg
import pytest

from tests.cloud.ingest.commanded import Plant, catalogue
from tests.cloud.ingest.memory import CLOCK, MemorySpool
from tests.cloud.plant import alarm
from tests.ports import free_port
from twincloud.storage.contract import GatewayKey
from twincloud.storage.directory import replica_of
from twincloud.storage.records_alarms import alarm_id
from twinedge import enrol
from twinedge.uplink.sender import Uplink
from twinmodel.alarms.records import encode
from twinmodel.clock import MILLISECOND_NS
from twinmodel.signal import Batch, Catalogue, Kind, Stream
from twinsync import block
from twinsync.backoff import Backoff
from twinsync.channel import Credentials
from twinsync.item import Block

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


def raise_alarm(spool: MemorySpool, known: Catalogue) -> None:
    text = encode(alarm("high", source="press.level"))
    packed = block.encode([Batch.of(Kind.STRING, [2], [text], [0], [CLOCK.wall_ns()])], known)
    content = Block(packed.schema, packed.crc32c, packed.payload, packed.t_min_ns, packed.t_max_ns)
    spool.append_content(content, 1, Stream.ALARM)


def sender(address: str, credentials: Credentials, spool: MemorySpool, seed: int, plant: Plant) -> Uplink:
    backoff = Backoff(Random(seed), base_ns=50 * MILLISECOND_NS, cap_ns=500 * MILLISECOND_NS)
    return Uplink(
        address, lambda: credentials, spool, plant.downlink, clock=CLOCK, random=Random(seed), agent_version="test",
        backoff=backoff, commands=plant,
    )  # fmt: skip


async def told(events, kind: str) -> dict[str, object]:
    """The body of the next event of a kind."""
    async with asyncio.timeout(START_S):
        async for line in events:
            if line == f"event: {kind}":
                return json.loads((await anext(events)).removeprefix("data: "))
    raise AssertionError("the stream has ended")


async def of_state(here: httpx.AsyncClient, path: str, *states: str) -> dict[str, object]:
    """A command, once it is in one of the states."""
    async with asyncio.timeout(START_S):
        while (found := (await here.get(path)).json())["state"] not in states:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.05)
    return found


async def assert_people_of_both_see_and_do_the_same(here, there, twin: str, alarm: str, plant: Plant) -> None:
    """A command issued at one is sent by the other, an alarm acknowledged at one is told by the other."""
    issued = await here.post(f"{twin}/commands", json={"property": "level", "value": 2.5})
    assert issued.status_code == 202, issued.text
    done = await of_state(here, f"{twin}/commands/{issued.json()['id']}", "SUCCEEDED", "FAILED", "UNKNOWN")
    assert (done["state"], done["read_back"], plant.ordered) == ("SUCCEEDED", 2.5, [done["id"]])
    async with there.stream("GET", "events") as stream:
        events = stream.aiter_lines()
        assert (await anext(events)).startswith("retry:")
        answer = await here.post(f"alarms/{alarm}:ack", json={"comment": "seen"})
        assert answer.status_code == 200, answer.text
        body = await told(events, "alarm")
        assert (body["id"], body["pending"]) == (alarm, True)
    await until(lambda: any(one.target == "@alarm/high" for one in plant.downlink.offered), "the gateway is asked")


async def assert_never_sent(here, twin: str, command: dict[str, object], plant: Plant) -> None:
    assert command["state"] == "PENDING"
    ended = await of_state(here, f"{twin}/commands/{command['id']}", "SUCCEEDED", "FAILED", "UNKNOWN")
    assert (ended["state"], ended["reason"]) == ("FAILED", "COMMAND_SESSION_ENDED")
    assert command["id"] not in plant.ordered


def person(rest: str, token: str) -> httpx.AsyncClient:
    place, who = f"{rest}/api/v1/tenants/default/", {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=place, headers=who, timeout=60)


def served_by(url: str) -> dict[str, str]:
    """The coordinator that has the session of each gateway."""
    with psycopg.connect(url) as server:
        return dict(server.execute("SELECT gateway, replica FROM gateways").fetchall())


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
        plants, known = [Plant() for _ in range(GATEWAYS)], [catalogue(n) for n in range(GATEWAYS)]
        fleet = [sender(f"127.0.0.1:{port}", shown[n], spools[n], n, plants[n]) for n in range(GATEWAYS)]
        for plant, one in zip(plants, fleet, strict=True):
            plant.uplink = one
        async with contextlib.AsyncExitStack() as people, asyncio.TaskGroup() as group:
            tasks = [group.create_task(one.run()) for one in fleet]

            async def produce(blocks: int) -> None:
                for _ in range(blocks):
                    for n, one in enumerate(fleet):
                        spools[n].append(catalogue=known[n])
                        one.wake()
                    await asyncio.sleep(0)

            for spool, its in zip(spools, known, strict=True):
                raise_alarm(spool, its)
            await produce(BLOCKS)
            await until(lambda: not any(spool.unacked for spool in spools), "the fleet is served")
            held, two = served_by(postgres_url), replica_of(tmp_path / "two")
            assert {replica_of(tmp_path / "one"), two} == set(held.values()), "the balancer gave each some gateways"
            far = next(n for n in range(GATEWAYS) if held[f"gw-{n}"] == two)
            here, there = [await people.enter_async_context(person(one["rest"], token)) for one in facts]
            twin, plant = f"sites/mill/twins/press-{far}", plants[far]
            alarm = alarm_id(GatewayKey("default", "mill", f"gw-{far}"), "high")
            await assert_people_of_both_see_and_do_the_same(here, there, twin, alarm, plant)
            await produce(BLOCKS)
            # The one that would send the command stands still, and is killed: it is sent by nobody, and says so.
            served[1].send_signal(signal.SIGSTOP)
            waiting = await here.post(f"{twin}/commands", json={"property": "level", "value": 3.5})
            served[1].kill()
            await produce(BLOCKS)
            await until(lambda: not any(spool.unacked for spool in spools), "all are served by the one left")
            await assert_never_sent(here, twin, waiting.json(), plant)
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
