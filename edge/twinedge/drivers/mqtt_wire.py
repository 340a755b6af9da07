"""The connection to a broker: aiomqtt drives paho's socket, and this module alone reaches through to paho.

aiomqtt acknowledges a message as soon as it is queued, so that a power cut loses what was queued, and it hides the
duplicate flag and whether the broker kept the session. paho beneath it reads each message with three system calls
and one turn of the event loop, decodes properties nobody asked for, and holds a payload of any size in memory. Here
messages are read by the buffer, kept unacknowledged, bounded in number and bytes (a full inbox leaves the socket
unread: back-pressure), and of a message that is too large only its beginning is kept.
tests/edge/drivers/test_mqtt_wire.py fails when a new release moves what this needs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Any

import aiomqtt
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.client import ConnectFlags, MQTTv5
from paho.mqtt.enums import MQTTErrorCode

from twinedge.refusals import CLOSED

TIMEOUT_S = 5.0
INBOX_MAX = 4096
INBOX_BYTES_MAX = 32 << 20
TAKE_BYTES = 1 << 20  # payloads that are decoded before other devices have their turn
PACKETS_MAX = 64  # packets read before others have their turn
READ_BYTES = 1 << 16
HEAD_BYTES = (1 << 16) + 4096  # the longest topic and some properties
BODY_MAX = (4 << 20) + HEAD_BYTES  # births of Sparkplug are large; other payloads have a limit of their own
SUBSCRIBE_MAX = 100  # filters in one packet


class Arrival:
    """One message, and how large its payload was; of a huge one only the beginning is here."""

    __slots__ = ("dup", "mid", "payload", "qos", "retain", "size", "topic")

    def __init__(self, flags: int, topic: str, mid: int, payload: bytes, cut: int) -> None:
        self.topic = topic
        self.payload = payload
        self.size = len(payload) + cut
        self.mid, self.qos = mid, flags >> 1 & 3
        self.dup, self.retain = bool(flags & 8), bool(flags & 1)


class Inbox:
    """Messages on their way from the socket to the driver, bounded by number and bytes."""

    def __init__(self, count_max: int = INBOX_MAX, bytes_max: int = INBOX_BYTES_MAX) -> None:
        self._count_max, self._bytes_max = count_max, bytes_max
        self._messages: deque[Arrival] = deque()
        self._bytes = 0
        self._there = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether nothing more is to be read from the socket."""
        return len(self._messages) >= self._count_max or self._bytes >= self._bytes_max

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Arrival) -> None:
        """Appends a message; the reader asks `full` before it reads one."""
        self._messages.append(message)
        self._bytes += len(message.payload)
        self._there.set()

    async def take(self, count: int, wait_s: float | None) -> list[Arrival]:
        """Up to `count` messages in order of arrival, of `TAKE_BYTES` or one; waits `wait_s` at most for the first."""
        if not self._messages:
            self._there.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._there.wait()
        taken: list[Arrival] = []
        size = 0
        while self._messages and len(taken) < count and size < TAKE_BYTES:
            taken.append(self._messages.popleft())
            size += len(taken[-1].payload)
        self._bytes -= size
        return taken


class Connection:
    """One attempt at a connection; `client` is entered by the driver.

    Attributes:
        client: of aiomqtt, set to hand messages over unacknowledged.
        inbox: where they arrive.
        kept: whether the broker kept our session, and with it what was published meanwhile; known once entered.
    """

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self.inbox = Inbox()
        self.kept = False
        self._loop = asyncio.get_running_loop()
        self._paho = paho = client._client  # noqa: SLF001  # the module's docstring says why
        self._source = _Buffer(paho)
        self._descriptor = -1
        paho.manual_ack_set(True)
        paho.disable_logger()
        reached: Any = paho
        reached._handle_publish = self._received  # noqa: SLF001
        self._five = paho.protocol == MQTTv5
        self._told_connect: Any = paho.on_connect
        paho.on_connect = self._connected
        self._told_disconnect: Any = paho.on_disconnect
        paho.on_disconnect = self._disconnected
        self._told_publish: Any = paho.on_publish
        paho.on_publish = self._published
        self._answers: dict[int, asyncio.Future[int]] = {}
        self._told_open: Any = paho.on_socket_open
        paho.on_socket_open = self._opened

    def acknowledge(self, mid: int, qos: int) -> None:
        """Tells the broker that it may forget a message."""
        self._paho.ack(mid, qos)

    def abandon(self) -> None:
        """Closes the socket that aiomqtt leaves open when a handshake failed."""
        self._paho.disconnect()

    async def subscribe(self, filters: Sequence[tuple[str, int]], timeout_s: float = TIMEOUT_S) -> list[str]:
        """Subscribes to filters with their QoS; returns those the broker refused. Each answer may take `timeout_s`."""
        refused = []
        for first in range(0, len(filters), SUBSCRIBE_MAX):
            part = list(filters[first : first + SUBSCRIBE_MAX])
            codes = await self.client.subscribe(part, timeout=timeout_s)
            values = [getattr(code, "value", code) for code in codes]
            refused += [text for (text, _), code in zip(part, values, strict=False) if code >= 0x80]
        return refused

    async def publish(self, topic: str, payload: bytes, qos: int, *, retain: bool) -> int:
        """Publishes one message; returns the broker's reason code, 0 for good and for what is not acknowledged.

        Raises:
            aiomqtt.MqttError: the connection is gone, or the broker gave no answer in time.
        """
        sent = self._paho.publish(topic, payload, qos, retain)
        if sent.rc:
            raise aiomqtt.MqttError(f"the message cannot be sent ({sent.rc})")
        if not qos:
            return 0
        answer: asyncio.Future[int] = self._loop.create_future()
        self._answers[sent.mid] = answer
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await answer
        except TimeoutError as silent:
            raise aiomqtt.MqttError("the broker did not acknowledge the message") from silent
        finally:
            self._answers.pop(sent.mid, None)

    async def ended(self) -> None:
        """Raises MqttError when the connection ends; messages take the way of the inbox."""
        async for _ in self.client.messages:
            pass

    def resume(self) -> None:
        """Reads on after the inbox was full."""
        if self._descriptor >= 0 and not self.inbox.full:
            descriptor, self._descriptor = self._descriptor, -1
            self._loop.add_reader(descriptor, self._readable)
            self._loop.call_soon(self._readable)

    def _connected(self, paho: PahoClient, userdata: object, flags: ConnectFlags, *rest: object) -> None:
        self.kept = self.kept or flags.session_present
        self._told_connect(paho, userdata, flags, *rest)

    def _disconnected(self, *told: object) -> None:
        # aiomqtt would wait for an answer until its time is over.
        answered = self.client._connected  # noqa: SLF001
        if not answered.done():
            answered.set_exception(aiomqtt.MqttError(CLOSED))
            return
        self._told_disconnect(*told)

    def _published(self, paho: PahoClient, userdata: object, mid: int, code: Any = None, *rest: object) -> None:
        answer = self._answers.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(int(getattr(code, "value", code) or 0))
        self._told_publish(paho, userdata, mid, code, *rest)

    def _opened(self, paho: PahoClient, userdata: object, sock: Any) -> None:
        # Called in a thread. aiomqtt sets its reader by `call_soon_threadsafe`; ours replaces it in the next turn.
        self._told_open(paho, userdata, sock)
        self._loop.call_soon_threadsafe(self._loop.add_reader, sock.fileno(), self._readable)

    def _readable(self) -> None:
        """Reads packets until the socket is dry, the inbox full, or others wait for their turn."""
        paho, source = self._paho, self._source
        source.dry = False
        for _ in range(PACKETS_MAX):
            sock: Any = paho.socket()
            if sock is None:
                return
            if self.inbox.full:
                self._descriptor = sock.fileno()
                self._loop.remove_reader(self._descriptor)
                return
            try:
                paho.loop_read()
            except Exception as broken:  # noqa: BLE001  # whatever a broker's bytes do to paho ends this connection alone
                self._broke(broken)
                return
            if source.dry:
                return
        self._loop.call_soon(self._readable)

    def _broke(self, broken: Exception) -> None:
        ended = self.client._disconnected  # noqa: SLF001  # what aiomqtt's own reader does
        if not ended.done():
            ended.set_exception(aiomqtt.MqttError(f"{type(broken).__name__}: {broken}"))

    def _received(self) -> MQTTErrorCode:
        """Decodes one PUBLISH (MQTT 5, 3.3) in paho's place, which builds a table of properties for every one."""
        cut, self._source.cut = self._source.cut, 0
        packet: Any = self._paho._in_packet  # noqa: SLF001
        flags, body = packet["command"], packet["packet"]
        at = 2 + int.from_bytes(body[:2], "big")
        raw = body[2:at]
        mid = 0
        if flags & 6:
            mid = int.from_bytes(body[at : at + 2], "big")
            at += 2
        if self._five:
            at = _after_properties(body, at)
        if len(body) < at or flags & 4:  # too short; or QoS 2, which we never ask for
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        try:
            topic = raw.decode()
        except UnicodeDecodeError:
            self._paho.ack(mid, flags >> 1 & 3)  # no point's topic is invalid UTF-8
        else:
            self.inbox.put(Arrival(flags, topic, mid, bytes(body[at:]), cut))
        return MQTTErrorCode.MQTT_ERR_SUCCESS


def _after_properties(body: bytearray, at: int) -> int:
    """Where the properties end whose length, a variable byte integer, stands at a place; none of them is used."""
    length = shift = 0
    for place in range(at, at + 4):
        if place >= len(body):
            break
        length |= (body[place] & 127) << shift
        shift += 7
        if body[place] < 128:
            return place + 1 + length
    return len(body) + 1


class _Buffer:
    """Stands between paho and its socket: reads by the buffer, and skips the rest of a body that is too large.

    Attributes:
        dry: whether the socket has no more to give for now.
        cut: bytes left out of the body that paho is about to decode.
    """

    def __init__(self, paho: Any) -> None:
        self._paho = paho
        self._receive = self._paho._sock_recv  # noqa: SLF001  # see the module's docstring
        self._paho._sock_recv = self.receive  # noqa: SLF001
        self._buffer = b""
        self._at = 0
        self._head = 0
        self._skip = 0
        self.dry = False
        self.cut = 0

    def receive(self, count: int) -> bytes:
        """What paho asks of its socket: at most `count` bytes, b"" at the end, BlockingIOError when there are none."""
        if count > BODY_MAX:
            # paho counts what is left of a body in this one place, and decodes what it has when that is 0.
            self._skip = self.cut = count - HEAD_BYTES
            self._head = count = HEAD_BYTES
            self._paho._in_packet["to_process"] = count  # noqa: SLF001  # see the module's docstring
        elif self._skip and not self._head and not self._skipped():
            return b""
        if self._at >= len(self._buffer) and not self._filled():
            return b""
        taken = self._buffer[self._at : self._at + count]
        self._at += len(taken)
        self._head = max(0, self._head - len(taken))
        return taken

    def _filled(self) -> bool:
        try:
            self._buffer = self._receive(READ_BYTES)
        except BlockingIOError:
            self._buffer, self._at, self.dry = b"", 0, True
            raise
        self._at = 0
        self.dry = not self._buffer
        return bool(self._buffer)

    def _skipped(self) -> bool:
        """Leaves out the rest of a body; False at the end of the connection."""
        while self._skip:
            if self._at >= len(self._buffer) and not self._filled():
                return False
            gone = min(self._skip, len(self._buffer) - self._at)
            self._skip -= gone
            self._at += gone
        return True
