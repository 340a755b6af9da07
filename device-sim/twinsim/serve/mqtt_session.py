"""One device's connection to a broker: paho's client, driven by the event loop instead of a thread."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import structlog
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from twinmodel.errors import UnreachableError
from twinsim.background import background

KEEPALIVE_S = 15
PENDING_MAX = 1000
RECONNECT_S = 1.0
NO_SUBSCRIBERS = 0x10

_log = structlog.get_logger(__name__)


class Session:
    """Keeps a connection open and opens it again; what was published and not acknowledged is sent again.

    Attributes:
        name: of the device.
        online: set while the broker has taken the connection.
    """

    def __init__(self, name: str, address: tuple[str, int], version: MQTTProtocolVersion) -> None:
        self.name = name
        self.online = asyncio.Event()
        self._address = address
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._pending: dict[int, tuple[int, int, tuple[str, ...]]] = {}
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"twinsim-{name}", protocol=version)
        self._client.max_queued_messages_set(PENDING_MAX)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_publish = self._acknowledged
        self._client.on_message = self._arrived
        self._client.on_socket_open = self._watch_reads
        self._client.on_socket_close = self._forget_reads
        self._client.on_socket_register_write = self._watch_writes
        self._client.on_socket_unregister_write = self._forget_writes

    # ---- for the device -------------------------------------------------------------------------------------

    @property
    def silent(self) -> bool:
        """Whether the device has no connection of its own will."""
        raise NotImplementedError

    def before_connect(self) -> None:
        """Called before each attempt: the Last Will may change."""

    def connected(self) -> None:
        """Called when the broker has taken the connection."""

    def message(self, topic: str, payload: bytes) -> None:
        """Called with what came on a topic that was subscribed to."""

    def given_out(self, number: int, t_ns: int, points: tuple[str, ...]) -> None:
        """Called when the broker has acknowledged what `send` was told to count."""

    def farewell(self) -> None:
        """Called before an orderly end."""

    @property
    def pending(self) -> int:
        """Messages the broker has not acknowledged."""
        return len(self._pending)

    @property
    def ready(self) -> bool:
        """Whether a message can be published now."""
        return self.online.is_set() and not self.silent and len(self._pending) < PENDING_MAX

    def send(
        self,
        topic: str,
        payload: bytes | str,
        qos: int = 1,
        *,
        retain: bool = False,
        count: tuple[int, int, tuple[str, ...]] | None = None,
    ) -> None:
        """Publishes; `count` is number, time in ns and points to be told to `given_out`, at QoS 0 at once."""
        sent = self._client.publish(topic, payload, qos=qos, retain=retain)
        if count is not None and sent.rc in {MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN}:
            if qos:
                self._pending[sent.mid] = count
            else:
                self.given_out(*count)

    def will(self, topic: str, payload: bytes | str, *, retain: bool) -> None:
        """Sets the Last Will of the next connection."""
        self._client.will_set(topic, payload, qos=1, retain=retain)

    def subscribe(self, topic: str) -> None:
        """Asks for the messages of a topic."""
        self._client.subscribe(topic, qos=1)

    # ---- running --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keeps the connection alive and opens it again, for ever; a silent device stays away."""
        while True:
            if self.silent:
                self.vanish()
            elif self._client.socket() is None:
                self._open()
            else:
                self._client.loop_misc()
            await asyncio.sleep(RECONNECT_S)

    def vanish(self) -> None:
        """Breaks the connection without a word, as a device that lost its power does: the Last Will speaks."""
        sock: Any = self._client.socket()
        if sock is not None:
            sock.shutdown(socket.SHUT_RDWR)
            self._client.loop_read()

    async def close(self) -> None:
        """Says good-bye and ends the connection in order."""
        self._closing = True
        if self._client.socket() is not None:
            self.farewell()
            self._client.disconnect()
            await asyncio.sleep(0)

    def _open(self) -> None:
        # TCP to loopback either connects or fails at once: nothing here blocks the loop for long.
        self.before_connect()
        try:
            self._client.connect(*self._address, keepalive=KEEPALIVE_S)
        except OSError:
            return

    def _connected(self, _client: Any, _userdata: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            return
        self.connected()
        self.online.set()
        _log.info("device is online", device=self.name)

    def _disconnected(self, _client: Any, _userdata: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if self.online.is_set() and not self._closing:
            _log.warning("device is offline", device=self.name, reason=str(reason))
        self.online.clear()

    def _acknowledged(self, _client: Any, _userdata: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        sent = self._pending.pop(mid, None)
        if sent is not None and reason.value != NO_SUBSCRIBERS:
            self.given_out(*sent)

    def _arrived(self, _client: Any, _userdata: Any, message: Any) -> None:
        self.message(message.topic, message.payload)

    def _watch_reads(self, _client: Any, _userdata: Any, sock: Any) -> None:
        self._loop.add_reader(sock, self._client.loop_read)

    def _forget_reads(self, _client: Any, _userdata: Any, sock: Any) -> None:
        self._loop.remove_reader(sock)

    def _watch_writes(self, _client: Any, _userdata: Any, sock: Any) -> None:
        self._loop.add_writer(sock, self._client.loop_write)

    def _forget_writes(self, _client: Any, _userdata: Any, sock: Any) -> None:
        self._loop.remove_writer(sock)


def address_of(url: str) -> tuple[str, int]:
    """Host and port of `mqtt://HOST:PORT`."""
    place = urlsplit(url)
    return place.hostname or "127.0.0.1", place.port or 1883


@asynccontextmanager
async def online(sessions: Sequence[Session], url: str, within_s: float) -> AsyncIterator[None]:
    """Runs sessions while the context is open, which it is once the broker at `url` has taken all of them.

    Raises:
        UnreachableError: DEVICE_UNREACHABLE when it does not within `within_s` seconds.
    """
    async with background() as tasks:
        for session in sessions:
            tasks.start(session.run(), f"publisher {session.name}")
        try:
            async with asyncio.timeout(within_s):
                for session in sessions:
                    await session.online.wait()
        except TimeoutError as late:
            raise UnreachableError("DEVICE_UNREACHABLE", f"the broker at {url} takes no connection") from late
        try:
            yield
        finally:
            tasks.cancel()
            for session in sessions:
                await session.close()
