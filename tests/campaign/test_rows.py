"""Rows 14, 15, 16 and 26 of the plan's faults: a paused agent, a memory limit, a hung loop, silent sockets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from tests.campaign import world as worlds
from tests.campaign.checker import check
from tests.campaign.nemesis import Only
from tests.cloud.ingest.link import Coordinator, dialling, impatient
from tests.cloud.ingest.memory import MemorySpool, until
from twincloud import service
from twincloud.ingest.stream import GatewayStream
from twincloud.storage.contract import GatewayKey
from twinedge.spool.store import Spool
from twinmodel.clock import SystemClock
from twinmodel.errors import ConflictError
from twinmodel.signal import Stream
from twinsync.session.server import Close

SILENT_SOCKETS = 300


def test_an_agent_paused_for_a_minute_is_sent_away_for_its_silence_fenced_and_comes_back(monkeypatch):
    ended, fenced = [], []
    post, tell = GatewayStream._post, worlds.Center.tell

    def note(stream, action):
        if isinstance(action, Close):
            ended.append((action.reason, action.detail))
        return post(stream, action)

    def try_old_session(center, history):
        (stream,) = center.servicer._streams.values()
        assert stream.session > 1
        with pytest.raises(ConflictError) as refused:
            center._store.commit(GatewayKey("acme", "mill", "gw-1"), stream.session - 1, [], center.clock.wall_ns())
        fenced.append(refused.value.reason)
        tell(center, history)

    monkeypatch.setattr(GatewayStream, "_post", note)
    monkeypatch.setattr(worlds.Center, "tell", try_old_session)
    history = worlds.run_seed(0, Only(("paused",)))
    assert history.faults["paused"] == 1
    assert check(history) == []
    assert ("RETRY_AFTER", "the gateway fell silent") in ended
    assert fenced == ["FENCED"]


_LIMITED = """
import os, resource, sys
import numpy as np
from pathlib import Path
from tests.campaign.gateway import FORMS
from twinedge.spool.store import Spool
from twinmodel.clock import ManualClock
from twinmodel.signal import Batch, Kind, Stream

spool = Spool.open(Path(sys.argv[1]), clock=ManualClock(), rng_bytes=os.urandom, disk_max_bytes=1 << 20,
                   when_full="drop_oldest")
random = np.random.default_rng(1)
def store():
    count = 20_000
    column = np.full(count, FORMS[0].by_name["press.telemetry0"].id, np.uint32)
    times = np.arange(count, dtype=np.int64) * 1_000_000
    batch = Batch(Kind.FLOAT, column, random.random(count), np.zeros(count, np.uint16), times)
    return spool.append(Stream.TELEMETRY, [batch], FORMS[0])[1]
store()
pages = int(Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + (96 << 20)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
for _ in range(40):
    print(store(), flush=True)
hoard = []
try:
    while True:
        hoard.append(bytearray(16 << 20))
        print(store(), flush=True)
except MemoryError:
    os._exit(137)
"""


def test_under_a_memory_limit_the_spool_stays_within_it_declares_what_it_drops_and_survives_its_end(tmp_path):
    words = [sys.executable, "-c", _LIMITED, str(tmp_path)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, env=os.environ)
    promised = [int(line) for line in ended.stdout.split()]
    assert len(promised) >= 40, ended.stderr
    assert ended.returncode == 137, ended.stderr
    with contextlib.closing(
        Spool.open(tmp_path, clock=SystemClock(), rng_bytes=os.urandom, disk_max_bytes=1 << 20, when_full="drop_oldest")
    ) as spool:
        losses = spool.ledger()
        assert {loss.reason for loss in losses} == {"STORE_FULL"}
        held = spool.unsent(bytes_max=1 << 30, items_max=10_000)
        numbers = [(item.first_seq, item.last_seq) for item in held if item.stream is Stream.TELEMETRY]
        assert numbers[0][0] == 0
        assert all(later == sooner + 1 for (_, sooner), (later, _) in itertools.pairwise(numbers))
        assert numbers[-1][1] >= promised[-1]
        assert spool.disk_bytes() <= 1 << 20


def test_a_hung_loop_or_store_no_longer_feeds_the_supervisor_which_restarts_it(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "20000")
        monkeypatch.setattr(service, "STORE_TIMEOUT_S", 0.02)
        answers = threading.Event()
        answers.set()
        hang, hung, go_on = threading.Event(), threading.Event(), threading.Event()

        async def answer(_call):
            if hang.is_set() and not hung.is_set():
                hung.set()
                go_on.wait(60)  # the loop itself stands still
            while not answers.is_set():  # noqa: ASYNC110 - a store that hangs in its thread
                await asyncio.sleep(0.005)

        stream = SimpleNamespace(alive=True)
        state = SimpleNamespace(threads=SimpleNamespace(run=answer), stream=stream)
        parts = SimpleNamespace(app=SimpleNamespace(state=state), store=SimpleNamespace(status=None))
        loop = asyncio.new_event_loop()
        feeding = loop.create_task(service._feed_watchdog(parts))
        thread = threading.Thread(
            target=lambda: loop.run_until_complete(asyncio.gather(feeding, return_exceptions=True))
        )
        thread.start()
        try:
            assert supervisor.recv(100) == b"WATCHDOG=1"
            hang.set()
            assert hung.wait(30)
            assert _fed(supervisor) is False
            go_on.set()
            assert supervisor.recv(100) == b"WATCHDOG=1"
            answers.clear()
            _drain(supervisor)
            assert _fed(supervisor) is False
            answers.set()
            assert supervisor.recv(100) == b"WATCHDOG=1"
        finally:
            go_on.set()
            loop.call_soon_threadsafe(feeding.cancel)
            thread.join(30)
            loop.close()


def _drain(supervisor: socket.socket) -> None:
    """What was said before it stood still: until nothing comes for many periods."""
    while _fed(supervisor):
        pass


def _fed(supervisor: socket.socket) -> bool:
    """Whether anything comes within many periods; what stands still cannot answer, however long they take."""
    supervisor.settimeout(0.3)
    try:
        return bool(supervisor.recv(100))
    except TimeoutError:
        return False
    finally:
        supervisor.settimeout(30)


async def test_three_hundred_silent_sockets_are_cut_while_a_gateway_is_served(record_property, monkeypatch):
    impatient(monkeypatch)
    spool = MemorySpool().boot()
    loop = asyncio.get_running_loop()
    async with Coordinator().up() as coordinator, contextlib.AsyncExitStack() as stack:
        begun_s = loop.time()

        async def silent() -> float:
            reader, writer = await asyncio.open_connection("127.0.0.1", coordinator.port)
            stack.callback(writer.close)
            with contextlib.suppress(ConnectionError):
                while await reader.read(1_024):
                    pass
            return loop.time() - begun_s

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            waiting = [group.create_task(silent()) for _ in range(SILENT_SOCKETS)]
            async with dialling(coordinator, spool) as sender:
                await until(lambda: sender.status().connected, 30.0)
                for _ in range(5):
                    spool.append()
                    sender.wake()
                    await until(lambda: not spool.unacked, 30.0)
            served = sum(not task.done() for task in waiting)
        record_property("silent while served", served)
        record_property("cut after s", max(task.result() for task in waiting))
    assert coordinator.committed
