"""What a broker has retained of us, so that topics of signals that are gone can be taken back after a restart, too."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import aiomqtt

WAIT_S = 10.0
TOPICS_MAX = 200_000


async def retained(client: aiomqtt.Client, filters: Sequence[str], marker: str, token: bytes) -> dict[str, bytes]:
    """Retained messages of some filters; a broker that does not let us read gives none.

    A broker sends what it has retained when it is subscribed to. A message of our own, published after that, comes
    back behind it: when it is here, all the rest is.

    Args:
        client: connected.
        filters: of our own topics; `marker` fits the last but those of discovery.
        marker: topic of our own message.
        token: its payload.
    """
    found: dict[str, bytes] = {}
    if not filters:
        return found
    codes = await client.subscribe([(text, 1) for text in filters])
    allowed = [getattr(code, "value", code) < 0x80 for code in codes]
    heard = [text for text, may in zip(filters, allowed, strict=False) if may]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WAIT_S if any(aiomqtt.Topic(marker).matches(text) for text in heard) else 1.0):
            await client.publish(marker, token, qos=1)
            async for message in client.messages:
                topic, payload = message.topic.value, message.payload
                if topic == marker and payload == token:
                    break
                if message.retain and isinstance(payload, bytes) and payload and len(found) < TOPICS_MAX:
                    found[topic] = payload
    await client.unsubscribe(list(filters))
    return found
