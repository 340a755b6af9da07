"""The whole way: a coordinator's session over mTLS, the uplink, the desk, a driver, a device, and back."""

from __future__ import annotations

import contextlib
import threading
from random import Random

import pytest

from tests.cloud.ingest.link import CLIENT, SERVER
from tests.cloud.ingest.memory import CLOCK, GATEWAY, MemorySpool, MemoryStore, SilentDownlink, running, until
from tests.edge.commands.conftest import PRESS, START
from twincloud.downlink.mailbox import Mailbox
from twincloud.ingest.servicer import SyncServicer, serve
from twinedge.uplink.sender import Uplink
from twinmodel.clock import MILLISECOND_NS, SECOND_NS, SystemClock
from twinsim.image.device import ProfileDevice
from twinsim.serve.modbus_profile import serve_registers
from twinsync.backoff import Backoff
from twinsync.command import Command, Commandable, CommandKind, CommandStep

ALLOW = "commands: {allow: [press.setpoint]}\n"


class Orders:
    """A `CommandSource` in memory: gives out what waits once, and keeps every step."""

    def __init__(self):
        self.waiting, self.steps, self.ended = [], [], []
        self._lock = threading.Lock()

    def due(self, gateway, session):
        assert gateway == GATEWAY
        with self._lock:
            given, self.waiting = self.waiting, []
        return tuple(Command(n, session, CommandKind.WRITE, t, v, left, 0, "ann") for n, t, v, left in given)

    def settle(self, gateway, state):
        assert gateway == GATEWAY
        self.steps.append(state)

    def session_ended(self, gateway, session):
        assert gateway == GATEWAY
        self.ended.append(session)


class Center:
    """A coordinator that gives out commands."""

    def __init__(self):
        self.orders, self.port, self.servicer, self.store = Orders(), 0, None, MemoryStore()

    @contextlib.asynccontextmanager
    async def up(self):
        self.servicer = SyncServicer(
            self.store,
            Mailbox(self.store, CLOCK),
            clock=CLOCK,
            on_commit=lambda *_: None,
            is_revoked=lambda _: False,
            commands=self.orders,
        )
        async with serve(self.servicer, f"localhost:{self.port}", SERVER) as port:
            self.port = port
            yield self

    def send(self, name, target, value, left_s=20.0):
        self.orders.waiting.append((name, target, value, round(left_s * SECOND_NS)))
        self.servicer.notify_directive(GATEWAY)


@pytest.fixture
def gateway(plant, site, source):
    """Context manager: a press behind an uplink to a coordinator."""

    @contextlib.asynccontextmanager
    async def run(center):
        device = ProfileDevice("press", 1, source(PRESS), 1, START)
        device.tick(0.1, SystemClock().wall_ns())
        async with serve_registers([device], None, SystemClock()):
            loaded = site(PRESS, {"press": f'modbus: "{device.address}"'}, ALLOW)
            async with plant(loaded) as made:
                uplink = Uplink(
                    f"localhost:{center.port}", lambda: CLIENT, MemorySpool().boot(), SilentDownlink(), clock=CLOCK,
                    random=Random(1), agent_version="test", commands=made.desk,
                    backoff=Backoff(Random(1), base_ns=50 * MILLISECOND_NS, cap_ns=200 * MILLISECOND_NS),
                )  # fmt: skip
                made.uplink = uplink
                made.desk._report = lambda state: (made.report(state), uplink.report(state))
                await made.good("press.setpoint")
                async with running(uplink.run()):
                    await until(lambda: uplink.status().connected)
                    yield made, device

    return run


async def test_a_command_of_a_session_is_done_and_its_end_confirmed(gateway):
    center = Center()
    async with center.up(), gateway(center) as (plant, device):
        center.send("c1", "press.setpoint", 33.5)
        await until(lambda: [s.step for s in center.orders.steps] == [CommandStep.ACCEPTED, CommandStep.SUCCEEDED])
        assert (center.orders.steps[-1].read_back, device.image.value("setpoint")) == (33.5, 33.5)
        await until(lambda: not plant.desk.states())
        await until(lambda: center.store.commandables)
        assert center.store.commandables == [(Commandable("press.setpoint", False, "degC", 10.0, 60.0),)]
        center.send("c2", "press.setpoint", 99.0)
        await until(lambda: center.orders.steps[-1].id == "c2")
        assert center.orders.steps[-1].reason == "COMMAND_OUT_OF_RANGE"


async def test_an_end_that_came_while_the_link_was_cut_is_told_in_the_next_session(gateway):
    center = Center()
    async with contextlib.AsyncExitStack() as first, contextlib.AsyncExitStack() as site:
        await first.enter_async_context(center.up())
        plant, device = await site.enter_async_context(gateway(center))
        device.inject("write_unanswered")
        center.send("c1", "press.setpoint", 31.0)
        await until(lambda: any(s.step is CommandStep.ACCEPTED for s in center.orders.steps))
        await until(lambda: device.writes)
        await first.aclose()
        await plant.until(lambda: plant.last("c1") is not None)
        async with center.up():
            await until(lambda: center.orders.steps[-1].step is CommandStep.SUCCEEDED)
            await until(lambda: not plant.desk.states())
    assert len([w for w in device.writes if w.point == "setpoint"]) == 1
    assert center.orders.ended
