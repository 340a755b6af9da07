"""MQTT 5 and 3.1.1: one persistent session per broker, each message acknowledged after the spool has it.

    socket ─▶ Connection ─▶ Inbox ─▶ Routes ─▶ Feed ─▶ Columns ─▶ Sink ─▶ commit ─▶ InFlight ─▶ acknowledgement
                                        └────▶ SparkplugHost ─▶ (requests of rebirth)

QoS 1 loses nothing, QoS 0 is at most once: the broker forgets such a message when it has sent it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from functools import partial

import aiomqtt
import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from twinedge.config.broker import NOT_APPLICABLE, V5, V311, Login, Place
from twinedge.drivers.decode import NOTHING
from twinedge.drivers.inflight import Entry, InFlight, Window, message_key
from twinedge.drivers.link import ERROR_TEXT_MAX, Assignment, Columns, DeviceLink, backoff_of, names
from twinedge.drivers.mqtt_feed import Feed, Now, Opened
from twinedge.drivers.mqtt_refusal import told
from twinedge.drivers.mqtt_routes import Routes, at_most_once
from twinedge.drivers.mqtt_wire import TIMEOUT_S, Arrival, Connection
from twinedge.drivers.mqtt_write import Publisher
from twinedge.drivers.sparkplug import SparkplugHost
from twinedge.ports import Delivery, DriverHealth, NotAcquired, Sink
from twinedge.refusals import leaf, other_version
from twinedge.resolver import find
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.quality import QualityReason, bad
from twinmodel.signal import Signal

KEEPALIVE_S = 5
LINGER_S = 3.0
DRAIN_MAX = 256
PATIENCE_DOUBLINGS = 2
RECEIVE_MAX = 1024  # messages a broker of MQTT 5 may leave unacknowledged: they stay in memory while a disk refuses
SESSION_EXPIRY_S = 7 * 86400
PENDING_MAX = 2 * RECEIVE_MAX  # unacknowledged messages beyond which nothing is read: 3.1.1 knows no such bound
PAUSE_S = 0.1
TOPICS_MAX = 4096  # topics whose newest payload is known again when the broker shows what it retained
_STALE = bad(QualityReason.STALE)
_log = structlog.get_logger("twinedge.drivers")


class MqttDriver:
    """Subscribes to the topics of all devices behind one broker.

    Args:
        assignments: devices with the same address and security.
        clock: stamps samples whose payload carries no time; its boot clock finds silent signals.
        rng: jitter of reconnects.
        client_id: the same after a restart, so that the broker keeps the session; unique among its clients.
        linger_s: time a cancelled driver waits for commits under way.

    Attributes:
        writer: tells its devices what commands say.
        lasting: whether the broker keeps the session of this client between connections; set it before the run.
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
        self._place = Place.of(self._assignment.device.address)
        self._clock, self._client_id, self._linger_s = clock, client_id, linger_s
        self._backoff, self.lasting = backoff_of(rng), True
        self._links = [DeviceLink(a, clock) for a in assignments]
        self.writer = Publisher(self._links)
        self._routes = Routes([k for k in self._links if k.assignment.profile.defaults.payload != "sparkplug"])
        sparks = [k for k in self._links if k.assignment.profile.defaults.payload == "sparkplug"]
        self._broker = self._assignment.device.broker
        self._host_role = SparkplugHost(sparks, self._broker.primary_host, rebirth=self._broker.rebirth)
        self._loose = {k.name for k in self._links if at_most_once(k.assignment.profile)}
        self._version = V311 if self._broker.version == "3.1.1" else V5
        self._in_flight, self._window = InFlight(), Window()
        self._newest: dict[str, int] = {}
        self._stale_at_ns = 0
        self._expecting = [w for w in self._routes.watches if w.expect_ns]

    @property
    def name(self) -> str:
        """See `Driver.name`."""
        return f"mqtt {self._place} {self._client_id}"

    @property
    def devices(self) -> tuple[str, ...]:
        """See `Driver.devices`."""
        return names(self._links)

    def health(self) -> list[DriverHealth]:
        """See `Driver.health`."""
        return [link.health() for link in self._links]

    async def run(self, sink: Sink) -> None:
        """See `Driver.run`."""
        if self._loose:
            _log.info("messages are delivered at most once", broker=self.name, devices=sorted(self._loose)[:20])
        while True:
            reason, text = await self._attempt(sink)
            self._in_flight.disconnected()
            for link in self._links:
                stamped = link.lost(reason, text)
                if stamped is not None:
                    await sink.put(stamped)
            await asyncio.sleep(self._backoff.delay_ns() / SECOND_NS)

    async def _attempt(self, sink: Sink) -> tuple[str, str]:
        """Connects and serves until the connection ends; returns the reason and the text of its end."""
        entered, cancelled = False, _cancellations()
        ended = ("DEVICE_UNREACHABLE", "the broker closed the connection")
        connection: Connection | None = None
        try:
            await find(self._place.host, self._place.port)
            connection = Connection(self._client())
            async with connection.client:
                entered = True
                self._in_flight.connected(connection.acknowledge)
                self._window.connected()
                await self._subscribe(connection)
                self.writer.attach(connection)
                await self._session(connection, sink)
        except* (aiomqtt.MqttError, OSError, ValueError) as lost:
            first = leaf(lost)
            if not entered and connection is not None:
                connection.abandon()
                self._other_version(first)
            ended = told(first, str(self._place))
        self.writer.attach(None)
        if not entered and _cancellations() > cancelled:
            raise asyncio.CancelledError  # `wait_for` of Python 3.11 loses one that meets a result
        return ended

    def _client(self) -> aiomqtt.Client:
        login = Login.of(self._assignment.device.security, self._assignment.file)
        five = self._version is V5
        properties = Properties(PacketTypes.CONNECT) if five else None  # type: ignore[no-untyped-call]  # paho's
        if properties is not None:
            properties.SessionExpiryInterval = SESSION_EXPIRY_S if self.lasting else 0
            properties.ReceiveMaximum = RECEIVE_MAX
        will = self._host_role.will(self._clock.wall_ns())
        return aiomqtt.Client(
            self._place.host,
            self._place.port,
            username=login.user,
            password=login.password(),
            identifier=self._client_id,
            protocol=self._version,
            clean_session=None if five else not self.lasting,
            clean_start=not self.lasting if five else NOT_APPLICABLE,
            properties=properties,
            keepalive=KEEPALIVE_S,
            timeout=self._patience_s(),
            tls_context=login.context() if self._place.tls else None,
            will=None if will is None else aiomqtt.Will(will.topic, will.payload, qos=1, retain=True),
        )

    def _patience_s(self) -> float:
        """How long a broker may take to answer; longer after each failure.

        Before its answer to a subscription comes all it has in flight. A machine too busy to read that in time would
        drop the connection and get it again, for ever.
        """
        return TIMEOUT_S * float(1 << min(self._backoff.failures, PATIENCE_DOUBLINGS))

    def _other_version(self, lost: BaseException) -> None:
        """A broker that refuses or drops the handshake may speak the other version only."""
        if self._broker.version is not None:
            return
        if self._version is V5 and other_version(lost):
            self._version = V311
        elif self._version is V311:
            self._version = V5

    async def _subscribe(self, connection: Connection) -> None:
        refused = await connection.subscribe([*self._routes.filters(), *self._host_role.filters()], self._patience_s())
        if refused:
            _log.warning("broker refuses topics", broker=self.name, topics=refused[:10], count=len(refused))
            for link in self._links:
                link.fault(f"the broker refuses {len(refused)} topics, the first is {refused[0]!r}")

    async def _session(self, connection: Connection, sink: Sink) -> None:
        self._backoff.progressed()
        for link in self._links:
            hole = link.answered()
            # A broker that kept our session sends all of it now: nothing is missing but what comes at most once.
            if hole is not None and not (connection.kept and link.name not in self._loose):
                await sink.put(hole)
        now_ns = self._clock.boot_ns()
        for watch in self._routes.watches:
            watch.heard(now_ns)
        self._stale_at_ns = 0
        self._host_role.connected()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(connection), name=f"{self.name} watch")
            tasks.create_task(self._consume(connection, sink), name=f"{self.name} consume")

    async def _watch(self, connection: Connection) -> None:
        try:
            await connection.ended()
        except aiomqtt.MqttError:
            self._in_flight.disconnected()
            raise

    async def _consume(self, connection: Connection, sink: Sink) -> None:
        try:
            while True:
                await self._speak(connection)
                if self._in_flight.pending >= PENDING_MAX:
                    await asyncio.sleep(PAUSE_S)
                    continue
                arrivals = await connection.inbox.take(DRAIN_MAX, self._wait_s())
                connection.resume()
                if arrivals:
                    await self._put(arrivals, sink)
                    await asyncio.sleep(0)  # a flood of one broker leaves the other devices their turns
                await self._late(sink)
                await self._probe(sink)
        except asyncio.CancelledError:
            await self._linger(connection)
            raise

    async def _speak(self, connection: Connection) -> None:
        """Publishes what Sparkplug wants to be said: our state, requests of births."""
        for said in self._host_role.outgoing(self._clock.boot_ns(), self._clock.wall_ns()):
            await connection.client.publish(said.topic, said.payload, qos=said.qos, retain=said.retain)

    async def _linger(self, connection: Connection) -> None:
        """Commits under way are acknowledged before the connection goes, or all of it would come again."""
        if not self._in_flight.reachable:
            return
        if self._in_flight.pending:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._linger_s):
                    await self._in_flight.settled()
        gone = self._host_role.will(self._clock.wall_ns())
        if gone is not None:
            with contextlib.suppress(aiomqtt.MqttError):
                await connection.client.publish(gone.topic, gone.payload, qos=1, retain=True, timeout=1.0)

    def _wait_s(self) -> float | None:
        """How long nothing is to be done unless a message comes."""
        due = [self._stale_at_ns] if self._stale_at_ns else []
        probe_ns = self._window.probe_at_ns(self._in_flight.pending)
        due += [ns for ns in (probe_ns, self._host_role.due_ns()) if ns is not None]
        return max(0.001, (min(due) - self._clock.boot_ns()) / SECOND_NS) if due else None

    def _now(self) -> Now:
        return Now(self._clock.boot_ns(), self._links[0].now_ns())

    async def _put(self, arrivals: Sequence[Arrival], sink: Sink) -> None:
        """Decodes messages into one delivery; its commit acknowledges them."""
        columns, entries, now = Columns(), list[Entry](), self._now()
        for arrival in arrivals:
            known = len(entries)
            try:
                self._read(arrival, now, columns, entries)
            except Exception as defect:  # noqa: BLE001  # unacknowledged it would come again, and end each session
                await self._spoilt(arrival, defect, now, sink)
                if len(entries) == known:
                    self._remember(arrival, entries)
        for item in self._host_role.taken():
            await sink.put(item)
        if len(columns):
            self._window.arrived(len(entries), self._in_flight.pending, now.boot_ns)
            urgent = self._in_flight.pending >= self._window.urgent_at
            # What comes at most once has nobody who waits for its commit.
            told = partial(self._committed, entries) if entries else None
            await sink.put(Delivery(self._links[0].name, columns.batches(), told, urgent))
        else:
            self._in_flight.committed(entries)  # nothing to store: a topic or a payload that no point wants

    def _read(self, arrival: Arrival, now: Now, columns: Columns, entries: list[Entry]) -> None:
        """One message, for whom it concerns."""
        for presence in self._routes.presences(arrival.topic):
            silent = presence.heard(arrival.payload)
            for signal in silent:  # among the samples, in the order of the messages
                columns.add(signal, NOTHING[signal.kind], _STALE, now.wall_ns)
            presence.link.count(len(silent))
        if self._host_role.wants(arrival.topic):
            self._host_role.receive(arrival, now, columns)
            self._remember(arrival, entries)
        else:
            self._take(arrival, now, columns, entries)

    async def _spoilt(self, arrival: Arrival, defect: Exception, now: Now, sink: Sink) -> None:
        """A message that trips a defect of ours costs itself alone, declared; of equal ones in a row one is logged."""
        text = f"{arrival.topic[:200]}: a message trips a defect: {type(defect).__name__} {defect}"[:ERROR_TEXT_MAX]
        for link in {id(f.link): f.link for f in self._routes.feeds(arrival.topic)}.values() or self._links:
            if link.last_error != text:
                _log.error("message trips a defect and is passed over", device=link.name, exc_info=defect)
            link.fault(text)
            await sink.put(NotAcquired(link.name, "INTERNAL", now.wall_ns, now.wall_ns))

    def _committed(self, entries: list[Entry]) -> None:
        self._in_flight.committed(entries)
        self._window.acknowledged(self._clock.boot_ns())

    def _take(self, arrival: Arrival, now: Now, columns: Columns, entries: list[Entry]) -> None:
        """One message of a topic of ours: known already, or read by all its feeds."""
        feeds = self._routes.feeds(arrival.topic)
        opened: dict[str, Opened] = {}
        read: list[tuple[Feed, Opened, int | None]] = []
        key, dated = None, False
        for feed in feeds:
            payload = feed.shape.payload
            if payload not in opened:
                opened[payload] = feed.open(arrival.payload, arrival.size)
            time_ns = feed.time_ns(opened[payload])
            dated = dated or time_ns is not None
            key = key if key is not None else feed.key(opened[payload])
            read.append((feed, opened[payload], time_ns))
        if self._known(arrival, key, entries, dated=dated):
            return
        for feed, content, time_ns in read:
            feed.read(content, time_ns, now, columns, retained=arrival.retain)

    def _known(self, arrival: Arrival, key: object, entries: list[Entry], *, dated: bool) -> bool:
        """Whether a message was there before; if not, it is remembered, and owed an acknowledgement at QoS 1."""
        digest = hash(arrival.payload)
        shown = arrival.retain and self._newest.get(arrival.topic) == digest
        if arrival.topic in self._newest or len(self._newest) < TOPICS_MAX:
            self._newest[arrival.topic] = digest
        if shown:  # what the broker retains it shows at every subscription
            self._remember(arrival, entries)
            return True
        if not arrival.qos and key is None:
            return False
        # Of equal payloads without time and key each is a sample of its own, told apart by its number.
        name = (
            (arrival.topic, key)
            if key is not None
            else message_key(arrival.topic, arrival.payload, arrival.mid, has_time=dated)
        )
        sure = key is not None or dated or arrival.dup
        if sure and self._in_flight.is_duplicate(name, arrival.mid, arrival.qos):
            return True
        if arrival.qos:
            entries.append(self._in_flight.add(name, arrival.mid, arrival.qos))
        else:
            self._in_flight.remember(name)
        return False

    def _remember(self, arrival: Arrival, entries: list[Entry]) -> None:
        """Acknowledges with the commit of this run what needs no memory of its own."""
        if arrival.qos:
            entries.append(self._in_flight.add(("", arrival.mid, arrival.topic), arrival.mid, arrival.qos))

    async def _late(self, sink: Sink) -> None:
        """One bad(STALE) sample for each signal that is silent for longer than its profile expects."""
        now_ns = self._clock.boot_ns()
        unborn_ns = self._host_role.due_ns()
        if unborn_ns is not None and now_ns >= unborn_ns:
            columns = Columns()
            self._host_role.late(self._now(), columns)
            await sink.put(Delivery(self._links[0].name, columns.batches()))
        if now_ns < self._stale_at_ns:
            return
        silent: dict[int, tuple[DeviceLink, list[Signal]]] = {}
        self._stale_at_ns = 0
        for watch in self._expecting:
            if not watch.stale and now_ns >= watch.heard_ns + watch.expect_ns:
                watch.stale = True
                silent.setdefault(id(watch.link), (watch.link, []))[1].extend(watch.signals)
            # A stale one may be heard of in the next moment, and be due a period after it.
            due_ns = (now_ns if watch.stale else watch.heard_ns) + watch.expect_ns
            self._stale_at_ns = min(due_ns, self._stale_at_ns or due_ns)
        for link, signals in silent.values():
            await sink.put(link.stamp(signals, _STALE))

    async def _probe(self, sink: Sink) -> None:
        """Asks for an early commit when the broker may be waiting for acknowledgements."""
        pending = self._in_flight.pending
        due_ns = self._window.probe_at_ns(pending)
        if due_ns is not None and self._clock.boot_ns() >= due_ns:
            self._window.probe(pending)
            await sink.put(Delivery(self._links[0].name, (), None, urgent=True))


def _cancellations() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
