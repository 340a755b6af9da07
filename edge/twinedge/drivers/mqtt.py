"""MQTT 5 and 3.1.1: one persistent session per broker, each message acknowledged after the spool has it.

aiomqtt acknowledges a message as soon as it is queued, so that a power cut loses what was queued. Its public API
has no way around that; the paho client beneath it has (`manual_ack`, `ack`, and the duplicate flag, which aiomqtt
drops). `_paho` below is the only place that reaches through; tests/edge/drivers/test_mqtt.py fails when a new
aiomqtt moves it. aiomqtt still pays its way: it drives paho's sockets from this event loop, without a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiomqtt
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.client import ConnectFlags, MQTTMessage, topic_matches_sub
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from twinedge.drivers.decode import DECODE, NOTHING
from twinedge.drivers.inflight import Entry, InFlight, message_key
from twinedge.drivers.link import Assignment, Backoff, Columns, DeviceLink, names
from twinedge.drivers.payload import Field, PayloadError, parse_payload, read_time_ns, read_value
from twinedge.ports import Delivery, DriverHealth, Sink
from twinmodel.clock import SECOND_NS, Clock, round_to_step
from twinmodel.quality import GOOD, QualityReason, bad, uncertain
from twinmodel.signal import Signal

PORT, PORT_TLS = 1883, 8883
KEEPALIVE_S = 5
TIMEOUT_S = 5.0
LINGER_S = 3.0
QUEUE_MAX = 4096
DRAIN_MAX = 512
RECEIVE_MAX = 1024  # messages a broker of MQTT 5 may leave unacknowledged: they stay in memory while a disk refuses
URGENT_PENDING = 10  # half of what mosquitto sends a 3.1.1 client before it waits for acknowledgements
SESSION_EXPIRY_S = 7 * 86400
REFUSED_CODES = frozenset({2, 4, 5, 0x85, 0x86, 0x87, 0x8C})
STALE_PERIODS = 3
_CLOCK = uncertain(QualityReason.CLOCK)
_STALE = bad(QualityReason.STALE)


@dataclass(slots=True)
class Subscription:
    """One point: the topics it comes from, how to read it, and when it was last heard of."""

    topic: str
    link: DeviceLink
    field: Field
    expect_ns: int
    heard_boot_ns: int = 0
    stale: bool = False


class MqttDriver:
    """Subscribes to the topics of all devices behind one broker.

    Args:
        assignments: devices with the same address and security.
        clock: stamps samples whose payload carries no time; its boot clock finds silent signals.
        rng: jitter of reconnects.
        client_id: the same after a restart, so that the broker keeps the session; unique among its clients.
        linger_s: time a cancelled driver waits for commits under way.
    """

    def __init__(
        self,
        assignments: Sequence[Assignment],
        *,
        clock: Clock,
        rng: random.Random,
        client_id: str,
        linger_s: float = LINGER_S,
    ) -> None:
        self._assignment = assignments[0]
        address = urlsplit(self._assignment.device.address)
        self._tls = address.scheme == "mqtts"
        self._host, self._port = address.hostname or "", address.port or (PORT_TLS if self._tls else PORT)
        self._clock, self._client_id, self._linger_s = clock, client_id, linger_s
        self._backoff = Backoff(rng)
        self._links = [DeviceLink(a, clock) for a in assignments]
        self._subscriptions = [s for link in self._links for s in _subscriptions(link)]
        self._topics = sorted({s.topic for s in self._subscriptions})
        self._matches: dict[str, list[Subscription]] = {}
        self._version = aiomqtt.ProtocolVersion.V5
        self._in_flight = InFlight()

    @property
    def name(self) -> str:
        """See `Driver.name`."""
        return f"mqtt {self._host}:{self._port} {self._client_id}"

    @property
    def devices(self) -> tuple[str, ...]:
        """See `Driver.devices`."""
        return names(self._links)

    def health(self) -> list[DriverHealth]:
        """See `Driver.health`."""
        return [link.health() for link in self._links]

    async def run(self, sink: Sink) -> None:
        """See `Driver.run`."""
        while True:
            reason, text = await self._attempt(sink)
            self._in_flight.disconnected()
            for link in self._links:
                stamped = link.lost(reason, text)
                if stamped is not None:
                    await sink.put(stamped)
            await asyncio.sleep(self._backoff.delay_s())

    async def _attempt(self, sink: Sink) -> tuple[str, str]:
        """Connects and serves until the connection ends; returns the reason and the text of its end."""
        entered = False
        ended = ("DEVICE_UNREACHABLE", "the broker closed the connection")
        client: aiomqtt.Client | None = None
        try:
            client = self._client()
            arrived: asyncio.Queue[MQTTMessage] = asyncio.Queue(QUEUE_MAX)
            overflow = _receive_into(client, arrived)
            kept = _session_kept(client)
            async with client:
                entered = True
                self._in_flight.connected(_paho(client).ack)
                await client.subscribe([(topic, 1) for topic in self._topics], timeout=TIMEOUT_S)
                await self._session(client, arrived, overflow, sink, backfilled=kept.is_set())
        except* (aiomqtt.MqttError, OSError) as lost:
            first = _leaf(lost)
            if not entered and client is not None:
                _paho(client).disconnect()  # aiomqtt leaves the socket of a failed handshake open
                self._other_version(first)
            # paho turns a failed TLS handshake into text
            refused = _code(first) in REFUSED_CODES or "certificate" in str(first).lower()
            ended = "DEVICE_REFUSED" if refused else "DEVICE_UNREACHABLE", f"{self._host}:{self._port}: {first}"
        return ended

    def _client(self) -> aiomqtt.Client:
        security = self._assignment.device.security
        context = None
        if self._tls:
            ca = str(self._assignment.file(security.ca)) if security.ca else None
            context = ssl.create_default_context(cafile=ca)
            if security.certificate and security.key:
                file = self._assignment.file
                context.load_cert_chain(file(security.certificate), file(security.key))
        password = None
        if security.password_file:
            password = self._assignment.file(security.password_file).read_text().strip()
        five = self._version is aiomqtt.ProtocolVersion.V5
        properties = Properties(PacketTypes.CONNECT) if five else None  # type: ignore[no-untyped-call]  # paho's
        if properties is not None:
            properties.SessionExpiryInterval = SESSION_EXPIRY_S
            properties.ReceiveMaximum = RECEIVE_MAX
        return aiomqtt.Client(
            self._host,
            self._port,
            username=security.user,
            password=password,
            identifier=self._client_id,
            protocol=self._version,
            clean_session=None if five else False,
            clean_start=False if five else 3,  # 3: paho's constant for "not applicable" below MQTT 5
            properties=properties,
            keepalive=KEEPALIVE_S,
            timeout=TIMEOUT_S,
            tls_context=context,
        )

    def _other_version(self, lost: BaseException) -> None:
        """A broker that refuses or drops the handshake may speak the other version only."""
        five = self._version is aiomqtt.ProtocolVersion.V5
        if five and (_code(lost) in {1, 0x84} or "timed out" in str(lost)):
            self._version = aiomqtt.ProtocolVersion.V311
        elif not five:
            self._version = aiomqtt.ProtocolVersion.V5

    async def _session(
        self,
        client: aiomqtt.Client,
        arrived: asyncio.Queue[MQTTMessage],
        overflow: asyncio.Event,
        sink: Sink,
        *,
        backfilled: bool,
    ) -> None:
        self._backoff.reset()
        for link in self._links:
            hole = link.answered()
            # A broker that kept our session sends all of it now: nothing is missing.
            if hole is not None and not backfilled:
                await sink.put(hole)
        now_ns = self._clock.boot_ns()
        for subscription in self._subscriptions:
            subscription.heard_boot_ns, subscription.stale = now_ns, False
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(client), name=f"{self.name} watch")
            tasks.create_task(self._consume(arrived, overflow, sink), name=f"{self.name} consume")

    async def _watch(self, client: aiomqtt.Client) -> None:
        """Raises MqttError when the connection ends; messages take the way of `_receive_into`."""
        try:
            async for _ in client.messages:
                pass
        except aiomqtt.MqttError:
            self._in_flight.disconnected()
            raise

    async def _consume(self, arrived: asyncio.Queue[MQTTMessage], overflow: asyncio.Event, sink: Sink) -> None:
        try:
            while not (overflow.is_set() and arrived.empty()):
                messages = await self._next(arrived)
                if messages:
                    await self._put(messages, sink)
                await self._stale(sink)
        except asyncio.CancelledError:
            # Commits under way are acknowledged before the connection goes, or all of it would come again.
            if self._in_flight.reachable and self._in_flight.pending:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._linger_s):
                        await self._in_flight.settled()
            raise
        raise aiomqtt.MqttError("messages came faster than they could be stored; the broker sends the rest again")

    async def _next(self, arrived: asyncio.Queue[MQTTMessage]) -> list[MQTTMessage]:
        """All messages that are there, waiting for the first until a signal may have become stale."""
        deadlines = [s.heard_boot_ns + s.expect_ns for s in self._subscriptions if s.expect_ns and not s.stale]
        wait_s = None
        if deadlines:
            wait_s = max(0.001, (min(deadlines) - self._clock.boot_ns()) / SECOND_NS)
        try:
            async with asyncio.timeout(wait_s):
                messages = [await arrived.get()]
        except TimeoutError:
            return []
        while len(messages) < DRAIN_MAX and not arrived.empty():
            messages.append(arrived.get_nowait())
        return messages

    async def _put(self, messages: list[MQTTMessage], sink: Sink) -> None:
        """Decodes messages into one delivery; its commit acknowledges them."""
        columns = Columns()
        entries: list[Entry] = []
        for message in messages:
            matching = self._matching(message)
            payload = bytes(message.payload)
            content, broken = _parsed(payload)
            if message.qos:
                # Of equal payloads without a time each is a sample of its own.
                has_time = any(read_time_ns(content, s.field) is not None for s in matching)
                key = message_key(message.topic, payload, message.mid, has_time=has_time)
                if (message.dup or has_time) and self._in_flight.is_duplicate(key, message.mid, message.qos):
                    continue
                entries.append(self._in_flight.add(key, message.mid, message.qos))
            self._decode(content, broken, matching, columns)
        if not len(columns):
            self._in_flight.committed(entries)  # nothing to store: a topic or a payload that no point wants
            return
        urgent = self._in_flight.pending >= URGENT_PENDING
        # What comes at most once has nobody who waits for its commit.
        told = partial(self._in_flight.committed, entries) if entries else None
        await sink.put(Delivery(self._links[0].name, columns.batches(), told, urgent))

    def _matching(self, message: MQTTMessage) -> list[Subscription]:
        """Points that a topic feeds; remembered per topic, for matching wildcards is slow."""
        topic = message.topic
        found = self._matches.get(topic)
        if found is None:
            if len(self._matches) >= QUEUE_MAX:
                self._matches.clear()
            found = [s for s in self._subscriptions if topic_matches_sub(s.topic, topic)]
            self._matches[topic] = found
        return found

    def _decode(self, content: object, broken: str, matching: list[Subscription], columns: Columns) -> None:
        """One sample per point; what cannot be read is bad(DECODE), counted and kept."""
        now_boot_ns = self._clock.boot_ns()
        for subscription in matching:
            link, field = subscription.link, subscription.field
            subscription.heard_boot_ns, subscription.stale = now_boot_ns, False
            carried_ns = read_time_ns(content, field)
            t_ns = link.now_ns() if carried_ns is None else round_to_step(carried_ns, link.assignment.time_step_ns)
            value, quality, error = _read(content, field, broken)
            if error:
                link.fault(f"{field.signal.name}: {error}")
            elif quality == GOOD and field.time is not None and carried_ns is None:
                quality = _CLOCK
            columns.add(field.signal, value, quality, t_ns)
            link.count(1)

    async def _stale(self, sink: Sink) -> None:
        """One bad(STALE) sample for each signal that is silent for three of its expected periods."""
        now_ns = self._clock.boot_ns()
        silent: dict[int, tuple[DeviceLink, list[Signal]]] = {}
        for subscription in self._subscriptions:
            overdue = subscription.expect_ns and now_ns - subscription.heard_boot_ns >= subscription.expect_ns
            if overdue and not subscription.stale:
                subscription.stale = True
                link = subscription.link
                silent.setdefault(id(link), (link, []))[1].append(subscription.field.signal)
        for link, signals in silent.values():
            await sink.put(link.stamp(signals, _STALE))


def _subscriptions(link: DeviceLink) -> list[Subscription]:
    """Points of one device; only a declared period makes a silent one stale, for the default fits no publisher."""
    profile = link.assignment.profile
    declared = "every" in profile.defaults.model_fields_set
    made = []
    for name, point in profile.points.items():
        topic = (point.topic or profile.defaults.topic or "").replace("{root}", link.assignment.device.root)
        expect_ns = 0
        if declared or point.every is not None or point.age is not None:
            expect_ns = point.age or STALE_PERIODS * profile.every_ns(point)
        field = Field.of(profile, point, link.assignment.signals[name])
        made.append(Subscription(topic, link, field, expect_ns))
    return made


def _parsed(payload: bytes) -> tuple[object, str]:
    """The content of a payload, or what is wrong with it."""
    try:
        return parse_payload(payload), ""
    except PayloadError as wrong:
        return None, str(wrong)


def _read(content: object, field: Field, broken: str) -> tuple[object, int, str]:
    """Value, quality and what is wrong with them; `broken` says that there is no content at all."""
    if not broken:
        try:
            return *read_value(content, field), ""
        except PayloadError as wrong:
            broken = str(wrong)
    return NOTHING[field.signal.kind], DECODE, broken


def _paho(client: aiomqtt.Client) -> PahoClient:
    return client._client  # noqa: SLF001  # the module's docstring says why


def _receive_into(client: aiomqtt.Client, arrived: asyncio.Queue[MQTTMessage]) -> asyncio.Event:
    """Has paho hand messages over unacknowledged; the event is set when the queue was full and one was left out.

    That one stays unacknowledged, and the broker sends it again on the next connection.
    """
    overflow = asyncio.Event()

    def receive(_client: PahoClient, _userdata: object, message: MQTTMessage) -> None:
        if overflow.is_set():
            return
        try:
            message.topic.encode()
            arrived.put_nowait(message)
        except UnicodeDecodeError:
            _client.ack(message.mid, message.qos)  # no point's topic is invalid UTF-8
        except asyncio.QueueFull:
            overflow.set()

    paho = _paho(client)
    paho.manual_ack_set(True)
    paho.on_message = receive
    return overflow


def _session_kept(client: aiomqtt.Client) -> asyncio.Event:
    """Set once the broker has said that it kept our session, and with it what was published meanwhile."""
    kept = asyncio.Event()
    paho = _paho(client)
    told: Any = paho.on_connect  # of aiomqtt, which does not pass the flag on

    def connected(paho: PahoClient, userdata: object, flags: ConnectFlags, *rest: object) -> None:
        if flags.session_present:
            kept.set()
        told(paho, userdata, flags, *rest)

    paho.on_connect = connected
    return kept


def _leaf(lost: BaseException) -> BaseException:
    while isinstance(lost, BaseExceptionGroup):
        lost = lost.exceptions[0]
    return lost


def _code(lost: BaseException) -> int | None:
    """The broker's reason code, of either version."""
    code = getattr(lost, "rc", None)
    return getattr(code, "value", code)
