"""Two processes on one PostgreSQL: one serves people, the other gateways, and each hears of the other."""

from __future__ import annotations

import asyncio
import contextlib
import json

import httpx
import pytest

from tests.campaign.nursery import Nursery
from tests.cloud.ingest.memory import MemorySpool
from tests.cloud.replay.tanks import catalogue
from tests.e2e.test_replicas import Plant, joined, sender, until
from tests.ports import free_port
from twinmodel.signal import Stream

pytestmark = [pytest.mark.service("postgresql"), pytest.mark.e2e]
START_S = 120.0


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    """Starts coordinators, each in a process of its own."""
    imported = ("twincloud.cli", "twincloud.service", "twincloud.identity.making")
    made = Nursery(tmp_path_factory.mktemp("coordinators"), imported)
    yield made
    made.close()


def init(nursery, *words: object) -> str:
    """Makes a coordinator; returns the admin token of the first one."""
    return nursery.run("twincloud", ["init", *map(str, words)], "init").strip()


async def first_event(lines, kind: str) -> str:
    """The data of the first event of a kind."""
    async with asyncio.timeout(START_S):
        found = False
        async for line in lines:
            if found and line.startswith("data:"):
                return line.removeprefix("data:").strip()
            found = line == f"event: {kind}"
    raise AssertionError("the stream ended")


async def test_a_block_that_one_takes_is_seen_by_people_at_the_other(nursery, postgres_url, tmp_path):
    token = init(nursery, "--state", tmp_path / "api", "--database", postgres_url)
    init(
        nursery,
        "--state",
        tmp_path / "ingest",
        "--database",
        postgres_url,
        "--authority",
        tmp_path / "api" / "identity",
    )
    enrol_port = free_port()
    with contextlib.ExitStack() as processes:
        for role in ("api", "ingest"):
            ports = (
                "--port",
                0,
                "--sync-port",
                0,
                "--enrol-port",
                enrol_port,
                "--ready-file",
                tmp_path / f"{role}.ready",
            )
            words = ("serve", "--state", tmp_path / role, "--role", role, "--database", postgres_url, *ports)
            processes.callback(nursery.start("twincloud", list(map(str, words)), role).kill)
        ready = {role: tmp_path / f"{role}.ready" for role in ("api", "ingest")}
        await until(lambda: all(path.exists() for path in ready.values()), "both serve")
        facts = {role: json.loads(path.read_text()) for role, path in ready.items()}
        rest, probes = facts["api"]["rest"], facts["ingest"]["rest"]
        credentials = await joined(rest, token, "gw-1", tmp_path / "gw-1")
        spool = MemorySpool(seed=1).boot()
        uplink = sender(facts["ingest"]["sync"], credentials, spool, 1, Plant())
        headers = {"Authorization": f"Bearer {token}"}
        base = "/api/v1/tenants/default"
        async with (
            httpx.AsyncClient(base_url=rest, headers=headers, timeout=START_S) as people,
            httpx.AsyncClient(base_url=probes, headers=headers, timeout=START_S) as machine,
            people.stream("GET", f"{base}/events") as events,
            asyncio.TaskGroup() as group,
        ):
            assert events.status_code == 200
            sending = group.create_task(uplink.run())
            spool.append(stream=Stream.STATE, catalogue=catalogue())
            uplink.wake()
            told = json.loads(await first_event(events.aiter_lines(), "twin"))
            await until(lambda: not spool.unacked, "the block is committed")
            page = (await people.get(f"{base}/sites/mill/gateways/gw-1/samples")).json()
            assert len(page["items"]) == len(spool.ids())
            assert told["twin"] in {one["twin"] for one in (await people.get(f"{base}/twins")).json()["items"]}
            assert (await machine.get("/readyz")).status_code == 200
            assert "twincloud_sessions 1.0" in (await machine.get("/metrics")).text
            assert (await machine.get(f"{base}/twins")).status_code == 404
            sending.cancel()


def test_a_role_on_a_file_is_refused_with_its_reason(nursery, tmp_path):
    init(nursery, "--state", tmp_path / "state")
    words = ("serve", "--state", tmp_path / "state", "--role", "api", "--port", 0)
    refused = nursery.start("twincloud", list(map(str, words)), "refused")
    assert refused.ended.wait(START_S)
    assert refused.code == 2
    assert "VALUE_INVALID" in refused.last_words()
    assert "PostgreSQL" in refused.last_words()
