"""Brokers that flood, lie, close, refuse or stop at few messages; and what the driver needs of aiomqtt and paho."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gc
import inspect
import struct

import aiomqtt
import paho.mqtt.client
import pytest
import trustme

from tests.edge.drivers.mosquitto import Broker, connected, levels, reading
from tests.ports import free_port
from twinedge.drivers import mqtt, mqtt_feed, mqtt_wire
from twinedge.drivers.mqtt_wire import BODY_MAX, HEAD_BYTES, INBOX_MAX, Connection
from twinedge.drivers.payload import PAYLOAD_MAX
from twinmodel.quality import QualityReason, bad

AWAY, DECODE = bad(QualityReason.NOT_CONNECTED), bad(QualityReason.DECODE)
service = pytest.mark.service("mosquitto")
RAW = {"points": {"level": {"at": "$", "topic": "plant/a"}}}


def test_aiomqtt_and_paho_still_have_what_the_connection_reaches_for():
    made = inspect.getsource(aiomqtt.Client.__init__)
    assert "self._client: mqtt.Client" in made
    assert "self._disconnected: asyncio.Future" in made
    assert "call_soon_threadsafe(self._loop.add_reader" in inspect.getsource(aiomqtt.Client._on_socket_open)
    for name in ("manual_ack_set", "ack", "disconnect", "loop_read", "disable_logger", "_sock_recv", "_handle_publish"):
        assert callable(getattr(paho.mqtt.client.Client, name))
    assert "self._handle_publish()" in inspect.getsource(paho.mqtt.client.Client._packet_handle)
    read = inspect.getsource(paho.mqtt.client.Client._packet_read)
    assert "self._sock_recv(self._in_packet['to_process'])" in read
    assert "self._in_packet['to_process'] -= len(data)" in read


async def test_paho_is_set_to_acknowledge_by_hand():
    connection = Connection(aiomqtt.Client("127.0.0.1", 1))
    assert connection._paho._manual_ack is True


def length(count):
    encoded = bytearray()
    while True:
        count, low = divmod(count, 128)
        encoded.append(low | (128 if count else 0))
        if not count:
            return bytes(encoded)


def publish(topic, payload, mid=0):
    """A PUBLISH of MQTT 5, QoS 1 with a number, else 0."""
    number = struct.pack(">H", mid) if mid else b""
    body = struct.pack(">H", len(topic)) + topic.encode() + number + b"\0" + payload
    return (b"\x32" if mid else b"\x30") + length(len(body)) + body


@contextlib.asynccontextmanager
async def scripted(serve):
    """A broker that accepts MQTT 5 and one subscription, then does what `serve(writer)` does."""

    async def answer(reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await packet(reader)
            writer.write(b"\x20\x03\x00\x00\x00")
            subscribe = await packet(reader)
            writer.write(b"\x90\x04" + subscribe[:2] + b"\x00\x01")
            await serve(writer)
            while True:
                await packet(reader)
                writer.write(b"\xd0\x00")
        writer.close()

    async def packet(reader):
        await reader.readexactly(1)
        count = shift = 0
        while True:
            byte = (await reader.readexactly(1))[0]
            count |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return await reader.readexactly(count)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_flood_waits_in_the_socket_while_the_sink_is_busy_and_nothing_of_it_is_lost(
    make, sink, running, monkeypatch
):
    count, sent, released, seen = 3000, 0, asyncio.Event(), []
    monkeypatch.setattr(mqtt_wire, "INBOX_BYTES_MAX", 1 << 20)
    inboxes = []
    inbox_class = mqtt_wire.Inbox

    class Watched(inbox_class):
        def __init__(self):
            super().__init__(bytes_max=1 << 20)
            inboxes.append(self)

        def put(self, message):
            super().put(message)
            seen.append((len(self), self._bytes))

    monkeypatch.setattr(mqtt_wire, "Inbox", Watched)

    async def flood(writer):
        nonlocal sent
        for n in range(count):
            writer.write(publish("plant/a", str(n).encode().ljust(8000)))
            await writer.drain()
            sent += 1

    class Busy(type(sink)):
        async def put(self, item):
            await released.wait()
            await super().put(item)

    busy = Busy()
    async with scripted(flood) as port, running(make(port, RAW), busy) as driver:
        while not (inboxes and inboxes[-1].full):  # noqa: ASYNC110  # the inbox is looked at, as no one is told
            await asyncio.sleep(0.005)
        for _ in range(20):
            await asyncio.sleep(0)
        assert sent < count, "what does not fit stays with the broker"
        released.set()
        await busy.until(lambda: len(levels(busy)) == count)
        assert driver.health()[0].connected
    assert levels(busy) == [float(n) for n in range(count)]
    assert max(n for n, _ in seen) <= INBOX_MAX
    assert max(n for _, n in seen) <= (1 << 20) + 8000


@pytest.mark.parametrize("size", [PAYLOAD_MAX + 1, BODY_MAX + 1, 10 << 20])
async def test_huge_payload_is_refused_counted_and_the_connection_lives(make, sink, running, size):
    async def serve(writer):
        writer.write(publish("plant/a", b"1") + publish("plant/a", b"9" * size) + publish("plant/a", b"2"))
        await writer.drain()

    async with scripted(serve) as port, running(make(port, RAW), sink) as driver:
        await sink.until(lambda: levels(sink) == [1.0, 2.0])
        assert [row[2] for row in sink.samples(0)][1] == DECODE
        assert f"{size} bytes" in driver.health()[0].last_error
        assert "LIMIT_EXCEEDED" in driver.health()[0].last_error
        assert driver.health()[0].connected


async def test_beginning_of_a_huge_payload_is_all_that_is_kept(make, sink, running, monkeypatch):
    kept = []
    put = mqtt_wire.Inbox.put
    monkeypatch.setattr(mqtt_wire.Inbox, "put", lambda self, m: (kept.append((len(m.payload), m.size)), put(self, m)))

    async def serve(writer):
        writer.write(publish("plant/a", b"9" * (10 << 20)))
        await writer.drain()

    async with scripted(serve) as port, running(make(port, RAW), sink):
        await sink.until(lambda: sink.samples(0))
    assert kept[0][0] < HEAD_BYTES
    assert kept[0][1] == 10 << 20


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00" * 64,
        b"\x30\xff\xff\xff\xff\x7f",
        b"\x30\x02\xff\xff",
        b"\xf0\x00",
    ],
)
async def test_broker_that_closes_or_speaks_nonsense_is_told_once_and_tried_again(make, sink, running, garbage):
    tried = asyncio.Semaphore(0)

    async def serve(reader, writer):
        await reader.read(10)
        writer.write(garbage)
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()
        tried.release()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, running(make(server.sockets[0].getsockname()[1]), sink) as driver:
        for _ in range(2):
            await tried.acquire()
        await sink.until(lambda: sink.samples(0))
        assert [row[2] for row in sink.samples(0)] == [AWAY]
        assert driver.health()[0].last_error


async def test_nonsense_in_a_session_ends_that_session_alone(make, sink, running):
    sessions = 0

    async def serve(writer):
        nonlocal sessions
        sessions += 1
        writer.write(publish("plant/a", b"%d" % sessions))
        if sessions == 1:
            writer.write(b"\x30\x02\xff\xff" + b"\x30\x00" + b"\xf0\x03abc")
        await writer.drain()

    async with scripted(serve) as port, running(make(port, RAW), sink):
        await sink.until(lambda: 2.0 in levels(sink))


@service
async def test_wrong_password_is_refused_with_a_hint(make, sink, running, service_path, tmp_path):
    (tmp_path / "password").write_text("wrong\n")
    broker = await Broker(service_path("mosquitto"), tmp_path, "allow_anonymous false").start()
    security = {"user": "gateway", "password_file": "password"}
    try:
        for version in ("3.1.1", "5"):
            sink.items.clear()
            address = {"url": f"mqtt://127.0.0.1:{broker.port}", "version": version}
            async with running(make(0, address=address, security=security), sink) as driver:
                await sink.until(lambda: sink.samples(0))
                assert "security.password_file" in driver.health()[0].last_error
                assert "wrong" not in driver.health()[0].last_error
    finally:
        broker.stop()


@service
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho drops the socket of a failed
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # TLS handshake without closing it; Python closes it
async def test_expired_certificate_is_refused_with_a_hint(make, sink, running, service_path, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    leaf = authority.issue_cert("127.0.0.1", not_before=past, not_after=past + dt.timedelta(days=1))
    leaf.private_key_pem.write_to_path(tmp_path / "server.key")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    extra = f"certfile {tmp_path}/server.pem\nkeyfile {tmp_path}/server.key\nallow_anonymous true"
    broker = await Broker(service_path("mosquitto"), tmp_path, extra).start()
    try:
        address = f"mqtts://127.0.0.1:{broker.port}"
        async with running(make(0, address=address, security={"ca": "ca.pem"}), sink) as driver:
            await sink.until(lambda: sink.samples(0))
            assert "has expired: renew it" in driver.health()[0].last_error
        gc.collect()
    finally:
        broker.stop()


async def test_file_that_holds_no_certificate_is_told_and_tried_again(make, sink, running, tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    driver = make(0, address=f"mqtts://127.0.0.1:{free_port()}", security={"ca": "ca.pem"})
    async with running(driver, sink):
        await sink.until(lambda: sink.samples(0))
        assert "security.ca" in driver.health()[0].last_error


@service
@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_broker_that_stops_at_three_messages_is_asked_for_commits_in_time(
    make, sink, running, service_path, tmp_path, version
):
    """Nothing is committed but at once when asked for: the window of ten seconds that telemetry has would never end."""
    broker = await Broker(service_path("mosquitto"), tmp_path, head="max_inflight_messages 3").start()

    class Patient(type(sink)):
        async def put(self, item):
            await super().put(item)
            if getattr(item, "urgent", False):
                for delivery in self.deliveries:
                    if delivery.on_committed is not None:
                        delivery.done()

    patient = Patient()
    try:
        address = {"url": f"mqtt://127.0.0.1:{broker.port}", "version": version}
        async with running(make(0, address=address), patient) as driver:
            await connected(driver)
            await broker.publish("plant/tank", *(reading(n) for n in range(20)))
            await patient.until(lambda: len(levels(patient)) == 20, within_s=40)
    finally:
        broker.stop()
    assert levels(patient) == [n / 10 for n in range(20)]


async def test_messages_are_taken_by_bytes_too_so_that_other_devices_have_their_turns():
    inbox = mqtt_wire.Inbox()
    for n in range(40):
        inbox.put(mqtt_wire.Arrival(0, str(n), 0, bytes(PAYLOAD_MAX), 0))
    taken = await inbox.take(256, 0.0)
    assert len(taken) == mqtt_wire.TAKE_BYTES // PAYLOAD_MAX
    inbox.put(mqtt_wire.Arrival(0, "huge", 0, bytes(8 << 20), 0))
    while len(inbox):
        taken = await inbox.take(256, 0.0)
    assert [m.topic for m in taken] == ["huge"]


async def test_message_that_trips_a_defect_is_acknowledged_declared_and_the_others_are_read(
    make, sink, running, monkeypatch
):
    read = mqtt_feed.Feed.read

    def trips(self, opened, *rest, **more):
        if opened.content == 13:
            raise ZeroDivisionError("a defect")
        read(self, opened, *rest, **more)

    monkeypatch.setattr(mqtt_feed.Feed, "read", trips)
    acked = []
    monkeypatch.setattr(mqtt_wire.Connection, "acknowledge", lambda self, mid, qos: acked.append(mid))

    async def serve(writer):
        for n in (12, 13, 14):
            writer.write(publish("plant/a", str(n).encode(), mid=n))
        await writer.drain()

    async with scripted(serve) as port, running(make(port, RAW), sink) as driver:
        await sink.until(lambda: levels(sink) == [12.0, 14.0])
        assert [h.reason for h in sink.holes] == ["INTERNAL"]
        assert "ZeroDivisionError" in driver.health()[0].last_error
        for delivery in sink.deliveries:
            delivery.done()
        assert acked == [12, 13, 14]
        assert driver.health()[0].connected


async def test_nothing_is_read_while_too_many_messages_wait_for_a_disk_that_refuses(make, sink, running, monkeypatch):
    monkeypatch.setattr(mqtt, "PENDING_MAX", 50)
    count = 400

    async def flood(writer):
        for n in range(count):
            writer.write(publish("plant/a", str(n).encode(), mid=n + 1))
        await writer.drain()

    async with scripted(flood) as port, running(make(port, RAW), sink):
        await sink.until(lambda: len(levels(sink)) >= 50)
        held = len(levels(sink))
        assert held <= 50 + mqtt.DRAIN_MAX
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(levels(sink)) == held

        class Done(list):
            """Tells each delivery as it comes."""

            def append(self, item):
                super().append(item)
                item.done()

        for delivery in sink.deliveries:
            delivery.done()
        sink.items = Done(sink.items)
        await sink.until(lambda: len(levels(sink)) == count)
    assert levels(sink) == [float(n) for n in range(count)]
