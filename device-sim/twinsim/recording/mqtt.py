"""MQTT sessions: a subscriber that keeps what comes, and a publisher that sends it again."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from urllib.parse import urlsplit

import aiomqtt

from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError, UnreachableError
from twinsim.recording.file import Recorder, Recording


def _address(url: str) -> tuple[str, int]:
    place = urlsplit(url)
    if place.scheme != "mqtt" or not place.hostname:
        raise InputError("VALUE_INVALID", f"{url!r} is no broker", hint="write mqtt://HOST:PORT")
    return place.hostname, place.port or 1883


async def record_messages(recorder: Recorder, url: str, topics: tuple[str, ...], stop: asyncio.Event) -> None:
    """Keeps all messages of topic filters until `stop`. Raises UnreachableError DEVICE_UNREACHABLE."""
    host, port = _address(url)

    async def keep(client: aiomqtt.Client) -> None:
        async for message in client.messages:
            raw = message.payload if isinstance(message.payload, bytes) else str(message.payload or "").encode()
            fields = {"topic": str(message.topic), "qos": message.qos, "retain": bool(message.retain)}
            recorder.add(fields | {"b": b64encode(raw).decode()})

    try:
        async with aiomqtt.Client(host, port) as client:
            for topic in topics:
                await client.subscribe(topic, qos=1)
            async with asyncio.TaskGroup() as group:
                keeping = group.create_task(keep(client), name="recorder")
                await stop.wait()
                keeping.cancel()
    except* aiomqtt.MqttError as lost:
        raise UnreachableError("DEVICE_UNREACHABLE", f"{url}: {lost.exceptions[0]}") from lost


async def replay_messages(recording: Recording, url: str, *, speed: float = 1.0) -> int:
    """Publishes a recording once and returns how many messages that were.

    Raises:
        UnreachableError: DEVICE_UNREACHABLE.
        InputError: VALUE_INVALID for a payload that is no base64.
    """
    host, port = _address(url)
    loop = asyncio.get_running_loop()
    try:
        async with aiomqtt.Client(host, port) as client:
            start_s = loop.time()
            for number, event in enumerate(recording.events, 1):
                await asyncio.sleep(max(0.0, start_s + event["at"] / SECOND_NS / speed - loop.time()))
                try:
                    payload = b64decode(event["b"], validate=True)
                except Base64Error as wrong:
                    raise InputError("VALUE_INVALID", f"event {number} of the recording is no base64") from wrong
                await client.publish(event["topic"], payload, qos=min(event["qos"], 1), retain=event["retain"])
    except aiomqtt.MqttError as lost:
        raise UnreachableError("DEVICE_UNREACHABLE", f"{url}: {lost}") from lost
    return len(recording.events)
