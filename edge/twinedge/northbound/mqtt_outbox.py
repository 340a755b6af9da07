"""Messages on the way to a broker, bounded in number.

aiomqtt makes a task, a future and a timer of every message it publishes, and waits for each acknowledgement apart; this
hands them to paho beneath it and counts what is acknowledged.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiomqtt
from paho.mqtt.enums import MQTTErrorCode

ACKNOWLEDGED_S = 20.0


class Outbox:
    """The messages that a broker has not acknowledged yet.

    Args:
        client: connected.
        most: beyond which `room` waits.
    """

    def __init__(self, client: aiomqtt.Client, most: int) -> None:
        self._paho = client._client  # noqa: SLF001  # the module's docstring says why
        self._most = most
        self._waiting: set[int] = set()
        self._acknowledged = asyncio.Event()
        self._told: Any = self._paho.on_publish
        self._paho.on_publish = self._published

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        """Publishes one message without waiting; raises MqttError when the connection is gone."""
        info = self._paho.publish(topic, payload, qos, retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttCodeError(info.rc, "Could not publish message")
        if not info.is_published():
            self._waiting.add(info.mid)

    async def room(self, free: int = 1) -> None:
        """Waits until so many more may be put; raises MqttError when the broker does not acknowledge."""
        await asyncio.sleep(0)
        while len(self._waiting) > self._most - free:
            self._acknowledged.clear()
            try:
                async with asyncio.timeout(ACKNOWLEDGED_S):
                    await self._acknowledged.wait()
            except TimeoutError:
                raise aiomqtt.MqttError("the broker acknowledges nothing") from None

    def _published(self, paho: Any, userdata: Any, mid: int, *rest: Any) -> None:
        if mid in self._waiting:
            self._waiting.discard(mid)
            self._acknowledged.set()
        else:
            self._told(paho, userdata, mid, *rest)
