"""What tests of commands share: a desk over real drivers and simulated devices, and steps that can be waited on."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from tests.edge.drivers.conftest import ListSink
from twinedge.commands.case import Way
from twinedge.commands.desk import Desk
from twinedge.commands.ledger import Ledger
from twinedge.commands.readings import Readings
from twinedge.commands.rules import rules_of
from twinedge.config.catalogue import build_catalogue
from twinedge.config.load import load_site
from twinedge.drivers.registry import build_drivers
from twinedge.models import age_limit_ns
from twinmodel.clock import SECOND_NS, SystemClock
from twinmodel.profile.load import load_profile
from twinsim.image.source import Source
from twinsync.command import Command, CommandConfirmed, CommandKind, CommandStep

PRESS = """
profile: test/press
firmware: "*"
protocol: modbus
base: 0
source: none
defaults: {every: 100ms}
points:
  setpoint:
    at: holding 10
    as: int16
    scale: 0.1
    unit: degC
    range: [0, 100]
    write: {range: [10, 60], step: 20, class: A, settle: 300ms}
  speed:
    at: holding 12
    as: float32
    unit: rpm
    write: {range: [0, 3000], rate: 2/min, class: B, interlock: running, settle: 300ms}
  mode:
    at: holding 20.4-6
    as: uint
    states: {0: "off", 1: hand, 2: auto}
    write: {bits: mask, class: A, settle: 300ms}
  hand: {at: holding 20.0, as: bit, write: {bits: merge, class: A, settle: 300ms}}
  held:
    at: holding 30
    as: uint16
    unit: rpm
    write: {range: [0, 100], class: A, settle: 300ms, watchdog: {at: holding 31, within: 600ms}}
  name: {at: holding 40, as: string(6), write: {class: A, settle: 300ms}}
  running: {at: coil 0, as: bit, write: {class: A, settle: 300ms}}
  level: {at: input 0, as: uint16, unit: mm}
"""

START = {"setpoint": "20", "speed": "0", "mode": "0", "hand": "0", "held": "0", "running": "1", "name": "A"}


class Plant:
    """A site with a desk and what it told.

    Attributes:
        told: steps in the order of their telling.
    """

    def __init__(self, folder, loaded):
        self.folder, self.loaded, self.clock = folder, loaded, SystemClock()
        self.catalogue = build_catalogue(loaded)
        self.drivers = build_drivers(
            loaded, self.catalogue, clock=self.clock, rng=random.Random(1), client_id="test", state_dir=folder
        )
        self.told, self.news = [], asyncio.Event()
        self.states = frozenset()
        self.frozen = ""
        self.session = 1
        self.readings = Readings(self.clock, lambda _twin: self.states, lambda: self.frozen)
        self.readings.use(self.catalogue)
        self.sink = ListSink()
        self.desk = self.made()

    def made(self):
        desk = Desk(Ledger(self.folder), self.readings, self.clock, machine="m", report=self.report, reach=self.reach)
        commands = self.loaded.site.commands
        desk.use(rules_of(self.loaded, age_limit_ns), queue=commands.queue, longest_ns=commands.longest)
        return desk

    def report(self, state):
        self.told.append(state)
        self.news.set()

    def reach(self, device):
        driver = next((d for d in self.drivers if device in d.devices), None)
        return None if driver is None else Way(driver.writer, driver.name)

    async def put(self, item):
        self.readings.see(getattr(item, "batches", ()))
        await self.sink.put(item)

    def order(self, target, value=None, *, name=None, kind=None, left_s=20.0, by="ann", approved=(), session=None):
        rule = self.desk._rules.get(target)
        usual = CommandKind.CALL if rule is not None and rule.value is None else CommandKind.WRITE
        command = Command(
            name or f"c{len(self.told)}-{target}", session or self.session, kind or usual, target, value,
            round(left_s * SECOND_NS), self.clock.wall_ns(), by, tuple(approved),
        )  # fmt: skip
        self.desk.order(command)
        return command

    async def until(self, condition):
        async with asyncio.timeout(50):
            while not condition():
                self.news.clear()
                await self.news.wait()

    async def end(self, target, value=None, **keys):
        """Sends a command and returns its last step."""
        command = self.order(target, value, **keys)
        await self.until(lambda: self.last(command.id) is not None)
        return self.last(command.id)

    def last(self, command_id):
        steps = [s for s in self.told if s.id == command_id and s.step is not CommandStep.ACCEPTED]
        open_ = {e["id"] for e in self.desk.status()["open"]}
        return steps[-1] if steps and command_id not in open_ else None

    async def good(self, signal, value=None):
        """Waits for a good value of a signal."""
        async with asyncio.timeout(50):
            while (found := self.readings.newest(signal)) is None or found.quality or value not in (None, found.value):
                self.sink.changed.clear()
                await self.sink.changed.wait()

    def confirm_all(self):
        for state in self.desk.states():
            self.desk.confirmed(CommandConfirmed(state.id))


@pytest.fixture
def site(tmp_path):
    """Function: (profile text, device keys, commands text) -> loaded site."""

    def build(profile, devices, commands, twins=""):
        text = profile.strip().splitlines()[0].partition(":")[2].strip()
        file = tmp_path / "profiles" / text / "1.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(profile)
        lines = "\n".join(f"  {name}: {{{keys}, profile: {text}}}" for name, keys in devices.items())
        path = tmp_path / "site.yaml"
        path.write_text(f"site: test\nprofiles: profiles\ndevices:\n{lines}\n{twins}{commands}")
        return load_site(path)

    return build


@pytest.fixture
def source(tmp_path):
    """Function: profile text -> what a simulated device is made from."""

    def build(text):
        path = tmp_path / "simulated.yaml"
        path.write_text(text)
        return Source(load_profile(path), path, "1")

    return build


@pytest.fixture
def plant(tmp_path):
    """Context manager: a plant of a loaded site with its drivers and its desk running."""

    @contextlib.asynccontextmanager
    async def run(loaded):
        made = Plant(tmp_path, loaded)
        tasks = [asyncio.create_task(d.run(made), name=d.name) for d in made.drivers]
        tasks.append(asyncio.create_task(made.desk.run(), name="desk"))
        try:
            await made.desk.ready.wait()
            yield made
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            made.desk.close()

    return run


@contextlib.asynccontextmanager
async def ticking(device, fleet, clock, period_s):
    """A simulated device goes on and says so, until the end of the block."""

    async def tick():
        while True:
            device.tick(period_s, clock.wall_ns())
            await fleet.publish(device)
            await asyncio.sleep(period_s)

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
