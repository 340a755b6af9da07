"""A small plant and a clock that is turned by hand."""

from __future__ import annotations

import numpy as np
import pytest

from twinedge.alarms.alarm import Now
from twinedge.alarms.causes import DeviceFact
from twinedge.alarms.engine import Engine
from twinedge.alarms.requests import ask, request_of
from twinedge.alarms.specs import specs_of
from twinedge.config.catalogue import build_catalogue
from twinedge.config.load import load_site
from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.quality import GOOD
from twinmodel.signal import Batch, Kind

PROFILE = """profile: acme/press
protocol: opcua
namespace: urn:acme
points:
  level: {at: Level, unit: m}
  level2: {at: Level2, unit: m}
  running: {at: Running, as: bool}
  mode: {at: Mode, as: int16, states: {0: "off", 1: "on", 2: tripped}}
  word: {at: Word, as: string}
"""
QUIET = "alarm_defaults: {communication: false}"


@pytest.fixture
def site(tmp_path):
    """Writes a site with these lines of alarms, and loads it."""

    def load(alarms, rest=QUIET, devices=("press",), same_server=False):
        folder = tmp_path / "profiles/acme/press"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "1.yaml").write_text(PROFILE)
        servers = [f"opc.tcp://h{0 if same_server else n}:4840" for n, _ in enumerate(devices)]
        lines = [
            f"  {d}: {{opcua: '{server}', profile: acme/press}}" for d, server in zip(devices, servers, strict=True)
        ]
        rules = ["alarms:", *(f"  {line}" for line in alarms)] if alarms else []
        path = tmp_path / "site.yaml"
        path.write_text("\n".join(["site: s", "profiles: profiles", "devices:", *lines, *rules, rest]) + "\n")
        return load_site(path)

    return load


class Plant:
    """An engine, its clock, and the records it made."""

    def __init__(self, loaded, saved=None, clock=None):
        self.clock = clock or ManualClock()
        self.engine = Engine(saved or {}, self.now)
        self.away = set()
        self.configure(loaded)

    @property
    def now(self):
        return Now(self.clock.wall_ns(), self.clock.boot_ns())

    def configure(self, loaded):
        self.loaded, self.catalogue = loaded, build_catalogue(loaded)
        self.engine.use(specs_of(loaded, self.catalogue), self.catalogue, self.now)

    def say(self, signal, *values, quality=GOOD, behind_s=0.0, every_s=0.0):
        """Samples of one signal in one batch; returns the records they make."""
        known = self.catalogue.by_name[signal]
        last_ns = self.clock.wall_ns() - round(behind_s * SECOND_NS)
        count = len(values)
        t_ns = [last_ns - round((count - 1 - n) * every_s * SECOND_NS) for n in range(count)]
        self.engine.see([Batch.of(known.kind, [known.id] * count, values, [quality] * count, t_ns)], self.now)
        return self.engine.take()

    def doubt(self, signal, quality):
        known = self.catalogue.by_name[signal]
        value = {Kind.FLOAT: np.nan, Kind.STRING: "", Kind.BOOL: False, Kind.INT: 0}[known.kind]
        return self.say(signal, value, quality=quality)

    def facts(self):
        devices = self.loaded.site.devices
        return [DeviceFact(name, f"opcua {d.address}", name not in self.away) for name, d in devices.items()]

    def wait(self, seconds, twins=None):
        """Lets time pass in ticks of a quarter of a second; returns the records of it."""
        for n in range(max(round(seconds * 4), 1)):
            self.clock.advance(SECOND_NS // 4)
            whole = n % 4 == 0
            self.engine.tick(self.now, self.facts() if whole else None, twins if whole else None)
        return self.engine.take()

    def ask(self, do, alarm, **body):
        ask(self.engine, request_of(alarm, {"do": do, **body}), self.now)
        return self.engine.take()

    def state(self, alarm):
        return self.engine.alarms[alarm].standing.state.value

    def again(self, loaded=None):
        """The same plant after a restart of the agent."""
        return Plant(loaded or self.loaded, self.engine.saved(), self.clock)


@pytest.fixture
def plant(site):
    """A plant with these lines of alarms."""

    def make(*alarms, **options):
        return Plant(site(alarms, **options))

    return make


def told(records):
    """What people see of records: alarm and state."""
    return [(record.alarm, record.state.value) for record in records]
