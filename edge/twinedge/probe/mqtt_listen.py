"""Listens to a broker for a bounded time and keeps what each topic carries: how often, how large, what."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiomqtt

from twinedge.drivers.mqtt_wire import Arrival, Connection
from twinedge.probe.payload_guess import Guess, guess, time_fields
from twinedge.refusals import leaf
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import UnreachableError

MESSAGES_MAX: Final = 20_000
BYTES_MAX: Final = 16 << 20
TOPICS_MAX: Final = 2_000
SYS: Final = "$SYS/"
Json = dict[str, Any]


@dataclass(slots=True)
class Topic:
    """What came on one topic.

    Attributes:
        live: messages that were published while we listened.
        retained: messages that the broker had kept.
        payload: the newest one, looked at.
    """

    name: str
    live: int = 0
    retained: int = 0
    size: int = 0
    first_ns: int = 0
    last_ns: int = 0
    newest: tuple[bytes, int] = (b"", 0)
    payload: Guess = field(default_factory=lambda: Guess("empty", None, {}, {}))

    def rate_hz(self, listened_s: float) -> float:
        """Live messages a second: by their distances where there are several."""
        if self.live > 1 and self.last_ns > self.first_ns:
            return (self.live - 1) * SECOND_NS / (self.last_ns - self.first_ns)
        return self.live / listened_s if listened_s > 0 else 0.0


@dataclass(slots=True)
class Heard:
    """All that came.

    Attributes:
        topics: name -> what came there, without `$SYS`.
        system: what the broker tells of itself below `$SYS/`.
        missed_topics: topics beyond the bound.
        ended: why listening ended before its time, "" when it did not.
        refused: filters that the broker refused.
    """

    topics: dict[str, Topic] = field(default_factory=dict)
    system: dict[str, str] = field(default_factory=dict)
    messages: int = 0
    size: int = 0
    missed_topics: int = 0
    listened_s: float = 0.0
    ended: str = ""
    refused: list[str] = field(default_factory=list)

    def documents(self, now_ns: int) -> list[Json]:
        """The topics by name."""
        return [self._document(t, now_ns) for t in sorted(self.topics.values(), key=lambda t: t.name)]

    def _document(self, topic: Topic, now_ns: int) -> Json:
        times = time_fields(topic.payload.fields, now_ns)
        return {
            "topic": topic.name,
            "messages": topic.live + topic.retained,
            "retained": topic.retained,
            "rate_hz": round(topic.rate_hz(self.listened_s), 3),
            "bytes": topic.size,
            "payload": topic.payload.kind,
            "fields": [
                {"at": at, "value": value, "type": topic.payload.types.get(at, ""), "time": times.get(at, "")}
                for at, value in topic.payload.fields.items()
            ],
        }


async def listen(
    connection: Connection, filters: Sequence[str], for_s: float, clock: Clock, *, messages_max: int = MESSAGES_MAX
) -> Heard:
    """Subscribes at QoS 0 and listens.

    Raises:
        UnreachableError: DEVICE_UNREACHABLE when the connection is lost, DEVICE_REFUSED when all filters are refused.
    """
    heard = Heard()
    heard.refused = await connection.subscribe([(text, 0) for text in filters])
    if len(heard.refused) == len(filters):
        hint = "ask who runs the broker for a filter that this client may read, and give it with --filter"
        raise UnreachableError("DEVICE_REFUSED", f"the broker refuses {', '.join(filters)}", hint=hint)
    await connection.subscribe([(f"{SYS}#", 0)])  # a broker may refuse it: then it tells nothing of itself
    begin_ns = clock.boot_ns()
    until_ns = begin_ns + round(for_s * SECOND_NS)
    try:
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(connection.ended(), name="watch of the connection")
            await _take(connection, heard, until_ns, clock, messages_max)
            watch.cancel()
    except ExceptionGroup as lost:
        first = leaf(lost)
        if not isinstance(first, aiomqtt.MqttError):
            raise
        text = f"the connection was lost while listening: {first}"
        hint = "a broker drops a client whose rights do not cover the filter: give a narrower --filter"
        raise UnreachableError("DEVICE_UNREACHABLE", text, hint=hint) from lost
    heard.listened_s = (clock.boot_ns() - begin_ns) / SECOND_NS
    for topic in heard.topics.values():
        topic.payload = guess(topic.name, *topic.newest)
    return heard


async def _take(connection: Connection, heard: Heard, until_ns: int, clock: Clock, messages_max: int) -> None:
    while (left_ns := until_ns - clock.boot_ns()) > 0:
        arrivals = await connection.inbox.take(256, min(0.5, left_ns / SECOND_NS))
        connection.resume()
        for arrival in arrivals:
            _keep(heard, arrival, clock.boot_ns())
        if heard.messages >= messages_max or heard.size >= BYTES_MAX:
            heard.ended = f"after {heard.messages} messages of {heard.size} bytes"
            return


def _keep(heard: Heard, arrival: Arrival, now_ns: int) -> None:
    heard.messages += 1
    heard.size += arrival.size
    if arrival.topic.startswith(SYS):
        if len(heard.system) < TOPICS_MAX:
            heard.system[arrival.topic] = arrival.payload[:200].decode(errors="replace")
        return
    topic = heard.topics.get(arrival.topic)
    if topic is None:
        if len(heard.topics) >= TOPICS_MAX:
            heard.missed_topics += 1
            return
        topic = heard.topics[arrival.topic] = Topic(arrival.topic)
    topic.size = arrival.size
    # A birth of Sparkplug tells more than the data after it; such topics are of their own.
    topic.newest = (arrival.payload, arrival.size)
    if arrival.retain:
        topic.retained += 1
        return
    topic.live += 1
    topic.first_ns = topic.first_ns or now_ns
    topic.last_ns = now_ns
