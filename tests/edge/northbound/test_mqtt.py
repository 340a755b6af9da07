"""Newest values at a broker: retained, with sigma and quality, taken back when their signal goes, never a record."""

from __future__ import annotations

import asyncio
import contextlib
import json

import aiomqtt
import numpy as np
import pytest

from tests.edge.drivers.mosquitto import Broker
from tests.edge.northbound.conftest import MEASURED, T0, catalogue_of
from tests.ports import free_port
from twinedge.config.northbound import MqttPublisher
from twinedge.northbound.discovery import Home, discovery_of
from twinedge.northbound.layout import layout_of
from twinedge.northbound.mqtt import MqttNorthbound
from twinedge.northbound.mqtt_payload import messages_of, payload_of
from twinmodel.quality import GOOD, QualityReason, bad, uncertain
from twinmodel.signal import Kind

BASE = "hybridtwin/plant-a/gw-1"
HOME = Home("homeassistant", "plant-a", "gw-1", "1.2.3", f"{BASE}/status")


def payloads(plant, shape="signal"):
    messages = messages_of(layout_of(plant.store.catalogue), BASE, shape)
    found = {m.topic.removeprefix(f"{BASE}/"): payload_of(m, plant.store) for m in messages}
    return {topic: None if raw is None else json.loads(raw) for topic, raw in found.items()}


def test_a_message_tells_value_sigma_quality_reason_time_and_unit(plant):
    plant.tell(
        ("press.level", 1.5),
        ("press.on", True, uncertain(QualityReason.CLOCK)),
        ("press.name", "p1", bad(QualityReason.STALE)),
        ("tank-1/level#estimate", 1.48, uncertain(QualityReason.SETTLING)),
        ("tank-1/level#sigma", 0.02),
        ("press.heat", float("inf")),
    )
    found, t = payloads(plant), "2026-02-25T06:13:20.123000000Z"
    assert found["devices/press/level"] == {"v": 1.5, "q": "good", "t": t, "unit": "m"}
    assert found["devices/press/on"] == {"v": True, "q": "uncertain", "reason": "CLOCK", "t": t}
    assert found["devices/press/name"] == {"v": None, "q": "bad", "reason": "STALE", "t": t}
    assert found["devices/press/heat"]["v"] is None
    assert found["devices/press/count"] is None
    told = {"v": 1.48, "sigma": 0.02, "q": "uncertain", "reason": "SETTLING", "t": t, "unit": "m"}
    assert found["twins/tank-1/level/estimate"] == told
    assert "twins/tank-1/level/sigma" not in found
    grouped = payloads(plant, "group")
    assert sorted(grouped) == ["devices/press", "twins/tank-1"]
    assert grouped["twins/tank-1"]["level"]["estimate"] == told
    assert grouped["twins/tank-1"]["level"]["measured"]["v"] == 1.5
    assert "count" not in grouped["devices/press"]


@pytest.mark.parametrize(
    ("value", "told"),
    [(float(np.float32(0.146)), "0.146"), (0.1234567890123, "0.1234567890123"), (1e300, "1e+300"), (-0.5, "-0.5")],
)
def test_a_number_of_single_precision_is_told_with_the_digits_it_has_and_no_other_one_changes(plant, value, told):
    plant.tell(("press.level", value))
    assert json.dumps(payloads(plant)["devices/press/level"]["v"]) == told


def test_home_assistant_is_told_of_class_unit_device_and_when_a_value_is_unavailable():
    catalogue = catalogue_of(*MEASURED, ("meter.total", Kind.FLOAT, "kWh"), ("press.odd/+", Kind.FLOAT, "widget"))
    found = discovery_of(messages_of(layout_of(catalogue), BASE, "signal"), HOME)
    documents = {topic: json.loads(raw) for topic, raw in found.items()}
    heat = documents["homeassistant/sensor/hybridtwin_plant-a_gw-1/device_press_heat/config"]
    assert (heat["device_class"], heat["unit_of_measurement"], heat["state_class"]) == (
        "temperature",
        "°C",
        "measurement",
    )
    assert heat["device"] == {
        "identifiers": ["hybridtwin_plant-a_gw-1_device_press"],
        "name": "press",
        "manufacturer": "hybridtwin",
        "model": "device",
        "sw_version": "1.2.3",
        "suggested_area": "plant-a",
    }
    assert heat["availability"][0] == {"topic": f"{BASE}/status"}
    assert "'offline' if value_json.q == 'bad'" in heat["availability"][1]["value_template"]
    meter = documents["homeassistant/sensor/hybridtwin_plant-a_gw-1/device_meter_total/config"]
    assert (meter["device_class"], meter["state_class"]) == ("energy", "total")
    on = documents["homeassistant/binary_sensor/hybridtwin_plant-a_gw-1/device_press_on/config"]
    assert on["value_template"] == "{{ 'ON' if value_json.v else 'OFF' }}"
    innovation = documents["homeassistant/sensor/hybridtwin_plant-a_gw-1/twin_tank-1_level_innovation/config"]
    assert "device_class" not in innovation
    assert len({d["unique_id"] for d in documents.values()}) == len(documents)
    grouped = discovery_of(messages_of(layout_of(catalogue), BASE, "group"), HOME)
    estimate = json.loads(grouped["homeassistant/sensor/hybridtwin_plant-a_gw-1/twin_tank-1_level_estimate/config"])
    assert estimate["value_template"] == '{{ value_json["level"]["estimate"].v }}'


@pytest.mark.parametrize("name", ["a/b", "+", "a\nb", "ü"])
def test_a_name_never_makes_another_level_or_a_wildcard(name):
    catalogue = catalogue_of((f"press.{name}", Kind.FLOAT, ""))
    (message,) = [m for m in messages_of(layout_of(catalogue), "x", "signal") if m.group[0] == "device"]
    assert message.topic.count("/") == 3
    assert not set(message.topic) & set("+#\n")


class Listener:
    """Everything a broker tells, newest of each topic."""

    def __init__(self, port):
        self.port, self.newest, self.new = port, {}, asyncio.Event()

    async def __aenter__(self):
        self.client = await aiomqtt.Client("127.0.0.1", self.port).__aenter__()
        await self.client.subscribe("#", qos=1)
        self.task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError, aiomqtt.MqttError):
            await self.task
        with contextlib.suppress(aiomqtt.MqttError):
            await self.client.__aexit__(None, None, None)

    async def _read(self):
        async for message in self.client.messages:
            self.newest[message.topic.value] = message.payload
            self.new.set()

    async def until(self, condition):
        async with asyncio.timeout(120):
            while not condition(self.newest):
                self.new.clear()
                await self.new.wait()

    def value(self, topic):
        raw = self.newest.get(f"{BASE}/{topic}")
        return json.loads(raw)["v"] if raw else None


@contextlib.asynccontextmanager
async def publishing(part):
    task = asyncio.create_task(part.run())
    try:
        yield part
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def publisher(around, port, **more):
    part = MqttNorthbound(
        MqttPublisher.model_validate({"to": f"mqtt://127.0.0.1:{port}", "every": "100ms"} | more), around
    )
    part.use()
    return part


@pytest.mark.service("mosquitto")
@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_values_are_retained_and_what_is_gone_is_taken_back_also_after_a_restart(around, plant, broker, version):
    more = {"discovery": "home-assistant", "version": version, "again": "1h"}
    plant.tell(("press.level", 1.5), ("press.heat", 60.0), ("tank-1/level#estimate", 1.4))
    heat = "homeassistant/sensor/hybridtwin_plant-a_gw-1/device_press_heat/config"
    async with Listener(broker.port) as heard:
        async with publishing(publisher(around, broker.port, **more)) as part:
            await heard.until(lambda n: heard.value("twins/tank-1/level/estimate") == 1.4 and heat in n)
            assert heard.newest[f"{BASE}/status"] == b"online"
            plant.tell(("press.level", 1.6))
            await heard.until(lambda n: heard.value("devices/press/level") == 1.6)
            async with Listener(broker.port) as later:
                await later.until(lambda n: later.value("devices/press/level") == 1.6)
            assert part.status()["serving"]
            assert (part.status()["topics"], part.status()["entities"]) == (9, 9)
        await heard.until(lambda n: n[f"{BASE}/status"] == b"offline")
        plant.use(catalogue_of(*[row for row in MEASURED if row[0] != "press.heat"]))
        async with publishing(publisher(around, broker.port, **more)) as part:
            await heard.until(lambda n: n[heat] == b"" and n[f"{BASE}/devices/press/heat"] == b"")
            plant.use(catalogue_of(("press.count", Kind.INT, "")), part)
            level = "homeassistant/sensor/hybridtwin_plant-a_gw-1/device_press_level/config"
            await heard.until(lambda n: n[f"{BASE}/devices/press/level"] == b"" and n[level] == b"")


@pytest.mark.service("mosquitto")
async def test_a_broker_that_was_away_is_told_the_newest_and_a_cut_link_says_offline(
    around, plant, broker, monkeypatch
):
    part = publisher(around, broker.port)
    part._backoff._base_ns = part._backoff._cap_ns = 20_000_000
    broker.stop(hard=True)
    async with publishing(part):
        async with asyncio.timeout(120):
            while not part.status()["reason"]:  # noqa: ASYNC110  # as the status page does
                await asyncio.sleep(0.01)
        assert part.status()["reason"] == "BROKER_UNREACHABLE"
        for value in range(50):
            plant.tell(("press.level", float(value)))
        await broker.start()
        async with Listener(broker.port) as heard:
            await heard.until(lambda n: heard.value("devices/press/level") == 49.0)
            assert part.status()["reason"] == ""
        await part.connected.wait()


@pytest.mark.service("mosquitto")
async def test_a_wrong_password_is_named_and_the_agent_goes_on(around, plant, service_path, tmp_path):
    (tmp_path / "b").mkdir()
    users = tmp_path / "b" / "users"
    users.write_text("")
    broker = await Broker(
        service_path("mosquitto"), tmp_path / "b", f"allow_anonymous false\npassword_file {users}"
    ).start()
    (tmp_path / "pw").write_text("wrong")
    part = publisher(around, broker.port, security={"user": "gateway", "password_file": "pw"})
    async with publishing(part):
        async with asyncio.timeout(120):
            while not part.status()["reason"]:  # noqa: ASYNC110  # as the status page does
                await asyncio.sleep(0.01)
        assert part.status()["reason"] == "BROKER_REFUSED"
        assert "northbound.mqtt.security.password_file" in part.status()["error"]
    broker.stop()


async def test_an_address_without_a_broker_ends_nothing(around, plant):
    part = publisher(around, free_port())
    async with publishing(part):
        async with asyncio.timeout(120):
            while not part.status()["reason"]:  # noqa: ASYNC110  # as the status page does
                await asyncio.sleep(0.01)
    assert part.status()["serving"] is False
    assert (plant.store.samples, GOOD, T0 > 0) == (0, 0, True)
