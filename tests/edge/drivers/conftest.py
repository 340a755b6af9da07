"""What tests of drivers share: assignments without files, and a sink that can be waited on."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from tests.edge.drivers.mosquitto import PROFILE
from twinedge.config.catalogue import signals_of
from twinedge.config.schema import Device
from twinedge.drivers.link import Assignment
from twinedge.drivers.mqtt import MqttDriver
from twinedge.ports import Delivery, NotAcquired
from twinmodel.clock import MILLISECOND_NS, SystemClock
from twinmodel.profile.schema import FirmwareProfile, kind_of
from twinmodel.signal import Catalogue, Signal


class ListSink:
    """Keeps what drivers put; `until` waits for a condition over all samples so far."""

    def __init__(self):
        self.items = []
        self.changed = asyncio.Event()

    async def put(self, item):
        self.items.append(item)
        self.changed.set()

    @property
    def deliveries(self):
        return [i for i in self.items if isinstance(i, Delivery)]

    @property
    def holes(self):
        return [i for i in self.items if isinstance(i, NotAcquired)]

    def samples(self, signal_id=None, since=0):
        """(signal, value, quality, t_ns) of everything put from item `since` on."""
        rows = []
        for delivery in self.items[since:]:
            for batch in getattr(delivery, "batches", ()):
                columns = zip(
                    batch.signal.tolist(),
                    batch.value.tolist(),
                    batch.quality.tolist(),
                    batch.t_ns.tolist(),
                    strict=True,
                )
                rows += [r for r in columns if signal_id is None or r[0] == signal_id]
        return rows

    async def until(self, condition, within_s=60.0):
        async with asyncio.timeout(within_s):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
def sink():
    return ListSink()


@pytest.fixture
def assign(tmp_path):
    """Function: [(name, device keys, profile dict)] -> (assignments, catalogue)."""

    def build(*entries):
        signals, assignments, profiles = [], [], []
        for name, device, profile in entries:
            loaded = FirmwareProfile.model_validate(
                {"profile": "test/device", "protocol": next(k for k in ("modbus", "opcua", "mqtt") if k in device)}
                | profile
            )
            profiles.append(loaded)
            for point_name, point in loaded.points.items():
                signals.append(
                    Signal(
                        len(signals),
                        f"{name}.{point_name}",
                        kind_of(point),
                        point.unit,
                        period_ns=loaded.every_ns(point),
                    )
                )
        catalogue = Catalogue(tuple(signals))
        for (name, device, _), loaded in zip(entries, profiles, strict=True):
            made = Device.model_validate({"profile": "test/device"} | device)
            points = signals_of(catalogue, name, loaded)
            assignments.append(Assignment(name, made, loaded, points, MILLISECOND_NS, tmp_path))
        return assignments, catalogue

    return build


@pytest.fixture
def clock():
    return SystemClock()


@pytest.fixture
def rng():
    return random.Random(7)


@pytest.fixture
def make(assign, clock, rng):
    """Function: port of a broker -> MqttDriver of one device `t` with root `plant`."""

    def build(port, profile=PROFILE, client_id="gateway-1", linger_s=0.0, address=None, **device):
        device = {"mqtt": address or f"mqtt://127.0.0.1:{port}", "root": "plant"} | device
        assignments, _ = assign(("t", device, profile))
        return MqttDriver(assignments, clock=clock, rng=rng, client_id=client_id, linger_s=linger_s)

    return build


@pytest.fixture
def running():
    """Context manager: the driver runs inside it and is cancelled at its end; a crash of it fails the test."""

    @contextlib.asynccontextmanager
    async def run(driver, sink):
        task = asyncio.create_task(driver.run(sink), name=driver.name)
        try:
            yield driver
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    return run
