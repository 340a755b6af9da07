"""What joins the parts: reloads that touch what changed, defects that end nothing, and the status."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from typing import ClassVar

import pytest

from tests.edge.northbound.conftest import Plant, catalogue_of
from twinedge.config.load import load_site
from twinedge.northbound import serving
from twinedge.northbound.serving import Northbound
from twinmodel.clock import SECOND_NS, ManualClock

PROFILE = """\
profile: acme/press
protocol: modbus
base: 0
points:
  level: {at: holding 0, as: float32, unit: m, range: [0, 2]}
"""
SITE = """\
site: plant-a
profiles: profiles
devices:
  press: {modbus: "tcp://127.0.0.1:502", profile: acme/press}
"""
OPCUA = "  opcua: {listen: '127.0.0.1:%d', anonymous: true}\n"
MQTT = "  mqtt: {to: 'mqtt://broker'}\n"


class FakePart:
    """A part that says what is done with it."""

    made: ClassVar = []

    def __init__(self, settings, around):
        self.name, self.settings, self.around = type(settings).__name__, settings, around
        self.uses, self.running, self.values, self.reason = 0, 0, 0, ""
        self.began, self.ended, self.fail = asyncio.Event(), asyncio.Event(), False
        FakePart.made.append(self)

    def use(self):
        self.uses += 1

    async def run(self):
        self.running += 1
        self.began.set()
        try:
            if self.fail:
                raise RuntimeError("defect")
            await asyncio.Event().wait()
        finally:
            self.running -= 1
            self.ended.set()

    def status(self):
        return {"serving": self.running == 1, "reason": self.reason, "values": self.values}


@pytest.fixture
def loaded(tmp_path):
    """Function: text of `northbound:` -> the site."""
    (tmp_path / "profiles/acme/press").mkdir(parents=True)
    (tmp_path / "profiles/acme/press/1.yaml").write_text(PROFILE)

    def load(text=""):
        (tmp_path / "site.yaml").write_text(SITE + ("northbound:\n" + text if text else ""))
        return load_site(tmp_path / "site.yaml")

    return load


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "_PARTS", dict.fromkeys(("opcua", "mqtt"), (__name__, "FakePart")))
    monkeypatch.setitem(sys.modules, __name__, sys.modules[FakePart.__module__])
    FakePart.made = []
    clock = ManualClock()

    def build(loaded):
        made = Northbound(loaded, "plant-a/gw-1", clock=clock, random=random.Random(1), state_dir=tmp_path, version="1")
        made.clock = clock
        return made

    return build


@contextlib.asynccontextmanager
async def running(northbound):
    task = asyncio.create_task(northbound.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_nothing_is_served_and_no_library_is_loaded_without_being_asked(loaded, make):
    northbound = make(loaded())
    async with running(northbound):
        northbound.use(catalogue_of())
        assert (northbound.status(), northbound.troubles(), FakePart.made) == ({}, [], [])


async def test_a_reload_touches_the_part_that_changed_and_no_other(loaded, make):
    northbound = make(loaded(OPCUA % 4840 + MQTT))
    opcua, mqtt = FakePart.made
    assert (opcua.around.site, opcua.around.gateway) == ("plant-a", "gw-1")
    assert opcua.around.ranges == {"press.level": (0.0, 2.0)}
    async with running(northbound):
        await opcua.began.wait()
        await mqtt.began.wait()
        northbound.use(catalogue_of())
        northbound.apply(loaded(OPCUA % 4841 + MQTT))
        other = FakePart.made[-1]
        await other.began.wait()
        assert (opcua.running, mqtt.running, other.running) == (0, 1, 1)
        assert list(northbound.parts.values()) == [other, mqtt]
        northbound.apply(loaded(MQTT))
        await other.ended.wait()
        assert (mqtt.running, len(FakePart.made)) == (1, 3)
    assert mqtt.running == 0


async def test_samples_seen_before_a_part_is_added_are_there_when_it_is(loaded, make):
    northbound = make(loaded())
    northbound.use(catalogue_of())
    Plant(northbound._store).tell(("press.level", 1.5))
    northbound.apply(loaded(MQTT))
    (part,) = FakePart.made
    store = part.around.store
    assert store.reading(store.catalogue.by_name["press.level"]).value == 1.5
    assert part.uses == 1


async def test_a_defect_in_one_part_ends_neither_it_nor_the_others(loaded, make, monkeypatch):
    monkeypatch.setattr(serving, "RESTART_S", 0)
    northbound = make(loaded(OPCUA % 4840 + MQTT))
    opcua, mqtt = FakePart.made
    opcua.fail = True
    async with running(northbound):
        await opcua.began.wait()
        opcua.began.clear()
        await opcua.began.wait()
        assert mqtt.running == 1


async def test_the_status_tells_values_a_second_and_the_reasons_of_what_does_not_serve(loaded, make):
    northbound = make(loaded(OPCUA % 4840 + MQTT))
    opcua, mqtt = FakePart.made
    assert northbound.status()["opcua"]["values_per_s"] == 0
    opcua.values, mqtt.reason = 500, "BROKER_UNREACHABLE"
    northbound.clock.advance(2 * SECOND_NS)
    assert northbound.status()["opcua"]["values_per_s"] == 250
    assert northbound.troubles() == ["BROKER_UNREACHABLE"]
