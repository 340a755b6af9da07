"""MQTT publishers: one connection per pump, so that each has a Last Will of its own.

    plants/P-1/telemetry   QoS 1   {"t": ms, "n": 17, "flow": .., "head": .., "power": .., "speed": .., "running": true}
    plants/P-1/status      QoS 1, retained   "online" | "offline" (also the Last Will)

What counts as served: a telemetry message whose PUBACK the broker has sent. What was published but not acknowledged
when the connection broke is sent again after it is back (as duplicate, with its old time) and counts then. While a
pump has no connection it publishes nothing: the sample was never given out. A PUBACK of MQTT 5 that says "no matching
subscribers" means that nobody was given it, not even a session that is away; a broker of 3.1.1 cannot say so.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import structlog
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from twinmodel.clock import MILLISECOND_NS
from twinmodel.errors import UnreachableError
from twinsim.background import background
from twinsim.device import Device
from twinsim.serve.broker import Brand
from twinsim.served import ServedLog

ROOT = "plants"
KEEPALIVE_S = 15
PENDING_MAX = 1000
RECONNECT_S = 1.0
CONNECT_TIMEOUT_S = 10.0
NO_SUBSCRIBERS = 0x10
POINTS = ("flow", "head", "power", "speed", "running", "sample_no")

_log = structlog.get_logger(__name__)


class Publisher:
    """One pump on the broker: paho's client, driven by the event loop instead of a thread."""

    def __init__(self, device: Device, log: ServedLog, address: tuple[str, int], version: MQTTProtocolVersion) -> None:
        self.device = device
        self._log = log
        self._address = address
        self._loop = asyncio.get_running_loop()
        self._pending: dict[int, tuple[int, int]] = {}
        self.online = asyncio.Event()
        self._closing = False
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"twinsim-{device.name}", protocol=version)
        self._client.max_queued_messages_set(PENDING_MAX)
        self._client.will_set(self._topic("status"), "offline", qos=1, retain=True)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_publish = self._acknowledged
        self._client.on_socket_open = self._watch_reads
        self._client.on_socket_close = self._forget_reads
        self._client.on_socket_register_write = self._watch_writes
        self._client.on_socket_unregister_write = self._forget_writes

    def _watch_reads(self, _client: Any, _userdata: Any, sock: Any) -> None:
        self._loop.add_reader(sock, self._client.loop_read)

    def _forget_reads(self, _client: Any, _userdata: Any, sock: Any) -> None:
        self._loop.remove_reader(sock)

    def _watch_writes(self, _client: Any, _userdata: Any, sock: Any) -> None:
        self._loop.add_writer(sock, self._client.loop_write)

    def _forget_writes(self, _client: Any, _userdata: Any, sock: Any) -> None:
        self._loop.remove_writer(sock)

    def _topic(self, leaf: str) -> str:
        return f"{ROOT}/{self.device.name}/{leaf}"

    async def run(self) -> None:
        """Keeps the connection alive and opens it again, for ever; a silent device stays away."""
        while True:
            if self.device.faults.silent:
                self._vanish()
            elif self._client.socket() is None:
                self._open()
            else:
                self._client.loop_misc()
            await asyncio.sleep(RECONNECT_S)

    def _open(self) -> None:
        # TCP to loopback either connects or fails at once: nothing here blocks the loop for long.
        try:
            self._client.connect(*self._address, keepalive=KEEPALIVE_S)
        except OSError:
            return

    def _vanish(self) -> None:
        """Breaks the connection without a word, as a device that lost its power does: the Last Will speaks."""
        sock: Any = self._client.socket()
        if sock is not None:
            sock.shutdown(socket.SHUT_RDWR)
            self._client.loop_read()

    def _connected(self, _client: Any, _userdata: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            return
        self._client.publish(self._topic("status"), "online", qos=1, retain=True)
        self.online.set()
        _log.info("pump is online", device=self.device.name)

    def _disconnected(self, _client: Any, _userdata: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if self.online.is_set() and not self._closing:
            _log.warning("pump is offline", device=self.device.name, reason=str(reason))
        self.online.clear()

    def _acknowledged(self, _client: Any, _userdata: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        sent = self._pending.pop(mid, None)
        if sent is not None and reason.value != NO_SUBSCRIBERS:
            self._log.add("mqtt", self.device.name, self.device.name, sent[0], sent[1], POINTS)

    @property
    def pending(self) -> int:
        """Messages the broker has not acknowledged."""
        return len(self._pending)

    def publish(self) -> None:
        """Publishes the device's latest readings, unless it is silent or without connection."""
        device = self.device
        if device.faults.silent or not self.online.is_set() or len(self._pending) >= PENDING_MAX:
            return
        n = device.next_sample()
        running = not device.faults.refusing
        payload = {"t": device.t_ns // MILLISECOND_NS, "n": n, **device.reading, "running": running}
        sent = self._client.publish(self._topic("telemetry"), json.dumps(payload, separators=(",", ":")), qos=1)
        if sent.rc in {MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN}:
            self._pending[sent.mid] = (n, device.t_ns)

    async def close(self) -> None:
        """Says good-bye: `offline`, then an orderly end."""
        self._closing = True
        if self._client.socket() is not None:
            self._client.publish(self._topic("status"), "offline", qos=1, retain=True)
            self._client.disconnect()
            await asyncio.sleep(0)


def version_of(brand: Brand | None) -> MQTTProtocolVersion:
    """The version of MQTT to speak to a broker; one that somebody else runs is taken for a modern one."""
    return MQTTProtocolVersion.MQTTv311 if brand == "amqtt" else MQTTProtocolVersion.MQTTv5


@asynccontextmanager
async def serve_mqtt(
    devices: Sequence[Device], log: ServedLog, url: str, version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5
) -> AsyncIterator[Sequence[Publisher]]:
    """Connects all pumps to the broker at `url` (`mqtt://HOST:PORT`) and yields their publishers.

    Args:
        devices: the pumps.
        log: where what was given out is written.
        url: the broker's.
        version: of MQTT; 3.1.1 for a broker that knows no other.

    Raises:
        UnreachableError: DEVICE_UNREACHABLE when the broker does not take them within 10 s.
    """
    place = urlsplit(url)
    address = (place.hostname or "127.0.0.1", place.port or 1883)
    publishers = [Publisher(device, log, address, version) for device in devices]
    async with background() as tasks:
        for publisher, device in zip(publishers, devices, strict=True):
            tasks.start(publisher.run(), f"publisher {device.name}")
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                for publisher in publishers:
                    await publisher.online.wait()
        except TimeoutError as late:
            raise UnreachableError("DEVICE_UNREACHABLE", f"the broker at {url} takes no connection") from late
        try:
            yield publishers
        finally:
            tasks.cancel()
            for publisher in publishers:
                await publisher.close()
