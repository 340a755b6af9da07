"""Newest values and estimates at a broker, retained: a view of the plant, not a record of it.

    store ─▶ changed topics, each `every` ─▶ payloads ─▶ at most `queue` on the way ─▶ broker

While the broker is away nothing is kept for it; when it is back, it is told the newest of everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiomqtt
import numpy as np
import structlog
from numpy.typing import NDArray

from twinedge.config.broker import V5, V311, Login, Place
from twinedge.config.northbound import MqttPublisher
from twinedge.northbound.discovery import Home, discovery_of
from twinedge.northbound.layout import layout_of
from twinedge.northbound.mqtt_outbox import Outbox
from twinedge.northbound.mqtt_payload import Message, level_of, messages_of, payload_of
from twinedge.northbound.mqtt_sweep import retained
from twinedge.northbound.ports import Surroundings
from twinedge.northbound.share import Share
from twinedge.refusals import hint_of, leaf, other_version
from twinedge.resolver import find
from twinmodel.clock import SECOND_NS
from twinmodel.errors import DeniedError, TwinError, UnreachableError
from twinsync.backoff import Backoff

log = structlog.get_logger(__name__)

KEEPALIVE_S = 15
TIMEOUT_S = 10.0
FAREWELL_S = 1.0
TURN = 20  # messages before others have their turn
ONLINE, OFFLINE = b"online", b"offline"
_QUIET = logging.getLogger("twinedge.northbound.aiomqtt")
_QUIET.setLevel(logging.CRITICAL)  # it warns of more than ten calls at once, of which `queue` allows more
_NOTHING: Final[NDArray[np.intp]] = np.zeros(0, np.intp)


class MqttNorthbound:
    """The publisher; it comes back by itself when the broker does.

    Args:
        settings: `northbound.mqtt` of site.yaml.
        around: names, places, the newest samples.
    """

    name = "mqtt"

    def __init__(self, settings: MqttPublisher, around: Surroundings) -> None:
        self._settings, self._around, self._store = settings, around, around.store
        names = {"site": level_of(around.site), "gateway": level_of(around.gateway)}
        self._base = settings.topic
        for place, name in names.items():
            self._base = self._base.replace(f"{{{place}}}", name)
        self.availability = f"{self._base}/status"
        home = Home(settings.discovery_prefix, around.site, around.gateway, around.version, self.availability)
        self._home = home if settings.discovery else None
        self._place = Place.of(settings.to)
        self._version = V311 if settings.version == "3.1.1" else V5
        self._share = Share(settings.share, around.clock)
        self._backoff = Backoff(around.random, cap_ns=60 * SECOND_NS)
        self._messages: Sequence[Message] = ()
        self._configurations: Mapping[str, bytes] = {}
        self._slots, self._owner = _NOTHING, _NOTHING
        self._seen = -1
        self._again_ns = 0
        self._reshaped = True
        self._there: set[str] = set()
        self._told: dict[str, bytes] = {}
        self._trouble: TwinError | None = None
        self._values = 0
        self.connected = asyncio.Event()

    def use(self) -> None:
        """See `Part.use`."""
        layout = layout_of(self._store.catalogue, self._settings.signals)
        self._messages = messages_of(layout, self._base, self._settings.shape)
        self._configurations = {} if self._home is None else discovery_of(self._messages, self._home)
        slots = [(slot, number) for number, message in enumerate(self._messages) for slot in message.slots]
        self._slots, self._owner = np.array(slots, np.intp).T if slots else (_NOTHING, _NOTHING)
        self._seen, self._reshaped = -1, True

    async def run(self) -> None:
        """See `Part.run`."""
        while True:
            try:
                await self._attempt()
            except* (aiomqtt.MqttError, OSError, ValueError) as lost:
                self._lost(leaf(lost))
            finally:
                self.connected.clear()
            await asyncio.sleep(self._backoff.delay_ns() / SECOND_NS)

    async def _attempt(self) -> None:
        """Connects and publishes until the connection ends or the task is cancelled."""
        await find(self._place.host, self._place.port)
        client, entered = self._client(), False
        try:
            async with client:
                entered = True
                try:
                    await self._publish(client)
                finally:
                    with contextlib.suppress(aiomqtt.MqttError):
                        await client.publish(self.availability, OFFLINE, qos=1, retain=True, timeout=FAREWELL_S)
        finally:
            if not entered:
                client._client.disconnect()  # noqa: SLF001  # aiomqtt leaves the socket of a failed handshake open

    def _client(self) -> aiomqtt.Client:
        login = Login.of(self._settings.security, self._around.beside)
        five = self._version is V5
        return aiomqtt.Client(
            self._place.host,
            self._place.port,
            username=login.user,
            password=login.password(),
            identifier=f"{self._around.site}/{self._around.gateway}/northbound",
            protocol=self._version,
            clean_session=None if five else True,
            keepalive=KEEPALIVE_S,
            timeout=TIMEOUT_S,
            tls_context=login.context() if self._place.tls else None,
            will=aiomqtt.Will(self.availability, OFFLINE, qos=1, retain=True),
            max_inflight_messages=self._settings.queue,
            max_queued_incoming_messages=0,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            logger=_QUIET,
        )

    def _lost(self, lost: BaseException) -> None:
        said, hint = f"{self._place}: {str(lost) or type(lost).__name__}", hint_of(lost)
        trouble: TwinError = UnreachableError("BROKER_UNREACHABLE", said)
        if hint:
            trouble = DeniedError("BROKER_REFUSED", said, hint=hint.replace("security.", "northbound.mqtt.security."))
        if self._trouble is None or self._trouble.reason != trouble.reason:
            log.warning("broker of northbound is away", reason=trouble.reason, detail=said, step=trouble.hint)
        self._trouble = trouble
        if self._settings.version is None and not self.connected.is_set():
            self._version = V311 if self._version is V5 and other_version(lost) else V5

    async def _publish(self, client: aiomqtt.Client) -> None:
        clock, every_ns = self._around.clock, self._settings.every
        outbox = Outbox(client, self._settings.queue)
        self._there, self._told = await self._swept(client)
        await client.publish(self.availability, ONLINE, qos=1, retain=True)
        self._seen, self._reshaped, self._again_ns = -1, True, clock.boot_ns() + self._settings.again
        if self._trouble is not None:
            log.info("broker of northbound is back", after=self._trouble.reason)
        self._trouble = None
        self._backoff.progressed()
        self.connected.set()
        due_ns = clock.boot_ns()
        while True:
            if self._reshaped:
                self._reshaped = False
                await self._reshape(outbox)
            await self._changes(outbox)
            due_ns = max(due_ns + every_ns, clock.boot_ns())
            await self._pause(client, (due_ns - clock.boot_ns()) / SECOND_NS)

    async def _pause(self, client: aiomqtt.Client, wait_s: float) -> None:
        """Waits, and raises when the connection ends meanwhile."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                async for _ in client.messages:
                    continue

    async def _swept(self, client: aiomqtt.Client) -> tuple[set[str], dict[str, bytes]]:
        """What the broker has retained of us, also of runs before: topics of values, and configurations."""
        filters = [f"{self._base}/devices/#", f"{self._base}/twins/#"] if self._settings.retain else []
        filters += [self._home.filter] if self._home is not None else []
        found = await retained(client, filters, f"{self._base}/twins/@sweep", self._around.random.randbytes(16))
        known = {t: p for t, p in found.items() if self._home is not None and t.startswith(f"{self._home.prefix}/")}
        return set(found) - set(known), known

    async def _reshape(self, outbox: Outbox) -> None:
        """Takes back what is served no more, and tells Home Assistant of what is new."""
        topics, wanted = {m.topic for m in self._messages}, self._configurations
        gone = sorted(self._told.keys() - wanted.keys())
        await self._send(outbox, [(topic, b"") for topic in gone], retain=True, qos=1)
        await self._send(outbox, [(topic, b"") for topic in sorted(self._there - topics)], retain=True, qos=1)
        fresh = [(topic, payload) for topic, payload in wanted.items() if self._told.get(topic) != payload]
        await self._send(outbox, fresh, retain=True, qos=1)
        self._there &= topics
        self._told = dict(wanted)

    async def _changes(self, outbox: Outbox) -> None:
        """Publishes every topic of which a slot has changed since it was told."""
        store, now_ns = self._store, self._around.clock.boot_ns()
        if self._settings.again and now_ns >= self._again_ns:
            self._again_ns, self._seen = now_ns + self._settings.again, -1
        since, self._seen = self._seen, store.changes
        messages = self._messages
        due = np.unique(self._owner[store.since(since, self._slots)]).tolist()
        retain, qos = self._settings.retain, self._settings.qos
        for first in range(0, len(due), TURN):
            if messages is not self._messages:
                return  # another layout; all of it is told next
            await self._share.turn()
            with self._share.spending():
                for number in due[first : first + TURN]:
                    payload = payload_of(messages[number], store)
                    if payload is not None:
                        outbox.put(messages[number].topic, payload, qos=qos, retain=retain)
                        self._there.add(messages[number].topic)
                        self._values += len(messages[number].entries)
            await outbox.room()

    async def _send(self, outbox: Outbox, told: Sequence[tuple[str, bytes]], *, retain: bool, qos: int) -> None:
        """Publishes some messages, a few at a time."""
        for first in range(0, len(told), TURN):
            await self._share.turn()
            with self._share.spending():
                for topic, payload in told[first : first + TURN]:
                    outbox.put(topic, payload, qos=qos, retain=retain)
            await outbox.room()

    def status(self) -> Mapping[str, Any]:
        """See `Part.status`."""
        trouble = self._trouble
        return {
            "to": self._settings.to,
            "serving": self.connected.is_set(),
            "reason": "" if trouble is None else trouble.reason,
            "error": "" if trouble is None else f"{trouble.message}; {trouble.hint}",
            "topics": len(self._messages),
            "entities": len(self._configurations),
            "values": self._values,
        }
