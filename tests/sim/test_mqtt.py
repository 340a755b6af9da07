"""Pumps publish to real brokers; the log holds what the broker acknowledged."""

import asyncio
import json
import threading

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from twinmodel.errors import ConflictError, UnreachableError
from twinsim.serve.broker import broker
from twinsim.serve.mqtt import serve_mqtt, version_of
from twinsim.served import read_served

BRANDS = [pytest.param("mosquitto", marks=pytest.mark.service("mosquitto")), "amqtt"]


class Subscriber:
    """A real paho client in its own thread; collects what arrives."""

    def __init__(self, url, session=""):
        self.port = int(url.rpartition(":")[2])
        self.got = []
        self.ready = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=session, clean_session=not session)
        self.client.on_connect = lambda c, *_: c.subscribe("plants/#", qos=1)
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.on_message = lambda _c, _u, m: self.got.append((m.topic, m.payload, m.retain))

    def __enter__(self):
        self.client.connect("127.0.0.1", self.port)
        self.client.loop_start()
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()

    def telemetry(self, pump="P-1"):
        return [json.loads(p) for t, p, _ in self.got if t == f"plants/{pump}/telemetry"]

    def status(self, pump="P-1"):
        return [p.decode() for t, p, _ in self.got if t == f"plants/{pump}/status"]


@pytest.mark.parametrize("brand", BRANDS)
async def test_every_acknowledged_message_is_logged_and_arrives(tmp_path, devices, log, clock, eventually, brand):
    pumps = devices("mqtt", 2)
    async with broker(0, tmp_path, brand) as url:
        with Subscriber(url) as subscriber:
            await eventually(subscriber.ready.is_set)
            async with serve_mqtt(pumps, log, url, version_of(brand)) as publishers:
                for _ in range(5):
                    clock.advance(1_000_000_000)
                    for device, publisher in zip(pumps, publishers, strict=True):
                        device.tick(1.0, clock.wall_ns())
                        publisher.publish()
                await eventually(lambda: log.count == 10 and len(subscriber.telemetry("P-2")) == 5)
            await eventually(lambda: subscriber.status()[-1:] == ["offline"])
    log.flush()
    records = [r for r in read_served(tmp_path) if r.device == "P-1"]
    messages = subscriber.telemetry()
    assert [(r.n, r.t_ns // 1_000_000) for r in records] == [(m["n"], m["t"]) for m in messages]
    assert [m["n"] for m in messages] == [1, 2, 3, 4, 5]
    assert {k: messages[-1][k] for k in pumps[0].reading} == pumps[0].reading
    assert messages[-1]["running"] is True
    assert subscriber.status()[0] == "online"


@pytest.mark.parametrize("brand", BRANDS)
async def test_a_pump_that_drops_out_is_declared_offline_by_its_last_will_and_comes_back(
    tmp_path, devices, log, clock, eventually, brand
):
    pumps = devices("mqtt", 1)
    async with broker(0, tmp_path, brand) as url:
        with Subscriber(url) as subscriber:
            await eventually(subscriber.ready.is_set)
            async with serve_mqtt(pumps, log, url, version_of(brand)) as (publisher,):
                await eventually(lambda: subscriber.status() == ["online"])
                pumps[0].inject("dropout")
                await eventually(lambda: subscriber.status() == ["online", "offline"])
                publisher.publish()
                assert pumps[0].sample_no == 0
                pumps[0].faults.clear()
                await eventually(lambda: subscriber.status() == ["online", "offline", "online"])
                publisher.publish()
                await eventually(lambda: log.count == 1 and len(subscriber.telemetry()) == 1)


@pytest.mark.service("mosquitto")
async def test_what_nobody_subscribed_to_was_not_served(tmp_path, devices, log, eventually):
    pumps = devices("mqtt", 1)
    async with broker(0, tmp_path, "mosquitto") as url, serve_mqtt(pumps, log, url) as (publisher,):
        publisher.publish()
        await eventually(lambda: not publisher.pending)
        with Subscriber(url) as subscriber:
            await eventually(subscriber.ready.is_set)
            publisher.publish()
            await eventually(lambda: log.count == 1)
    log.flush()
    assert [r.n for r in read_served(tmp_path)] == [2]


@pytest.mark.service("mosquitto")
async def test_mosquitto_keeps_a_long_queue_for_a_session_that_was_away(tmp_path, devices, log, clock, eventually):
    pumps = devices("mqtt", 1)
    async with broker(0, tmp_path, "mosquitto") as url:
        with Subscriber(url, session="agent") as subscriber:
            await eventually(subscriber.ready.is_set)
        async with serve_mqtt(pumps, log, url) as (publisher,):
            for wanted in range(500, 2001, 500):
                for _ in range(500):
                    clock.advance(1_000_000_000)
                    pumps[0].t_ns = clock.wall_ns()
                    publisher.publish()
                await eventually(lambda wanted=wanted: log.count == wanted)
            with Subscriber(url, session="agent") as returned:
                await eventually(lambda: len(returned.telemetry()) == 2000)
            assert [m["n"] for m in returned.telemetry()] == list(range(1, 2001))


@pytest.mark.service("mosquitto")
async def test_a_restarted_broker_still_has_the_queue_and_the_pumps_return(tmp_path, devices, log, clock, eventually):
    pumps = devices("mqtt", 1)
    async with broker(0, tmp_path, "mosquitto") as url:
        port = int(url.rpartition(":")[2])
        with Subscriber(url, session="agent") as subscriber:
            await eventually(subscriber.ready.is_set)
        async with serve_mqtt(pumps, log, url) as (publisher,):
            publisher.publish()
            await eventually(lambda: log.count == 1)
    async with broker(port, tmp_path, "mosquitto") as again, serve_mqtt(pumps, log, again) as (publisher,):
        publisher.publish()
        await eventually(lambda: log.count == 2)
        with Subscriber(again, session="agent") as returned:
            await eventually(lambda: [m["n"] for m in returned.telemetry()] == [1, 2])


async def test_without_a_broker_the_pumps_say_so(devices, log, unused_tcp_port, monkeypatch):
    monkeypatch.setattr("twinsim.serve.mqtt.CONNECT_TIMEOUT_S", 0.1)
    with pytest.raises(UnreachableError, match="takes no connection"):
        async with serve_mqtt(devices("mqtt", 1), log, f"mqtt://127.0.0.1:{unused_tcp_port}"):
            pass


async def test_a_broker_port_in_use_is_said_so(tmp_path):
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    async with server:
        with pytest.raises(ConflictError) as refused:
            async with broker(server.sockets[0].getsockname()[1], tmp_path):
                pass
    assert refused.value.reason == "PORT_IN_USE"
