"""`twinedge probe mqtt`: whether a broker takes us, what it says of itself, which topics carry what.

TCP ─▶ TLS ─▶ MQTT handshake ─▶ listen for a bounded time ─▶ topics, formats, values, profiles
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from twinedge.config.broker import Login
from twinedge.probe.mqtt_connect import Broker
from twinedge.probe.mqtt_listen import Heard, listen
from twinedge.probe.mqtt_match import fitting, nodes_of
from twinedge.probe.profiles import known_profiles
from twinmodel.clock import Clock
from twinmodel.errors import TwinError

Json = dict[str, Any]
SYSTEM: Final = {
    "version": "$SYS/broker/version",
    "uptime": "$SYS/broker/uptime",
    "clients connected": "$SYS/broker/clients/connected",
    "messages received per minute": "$SYS/broker/load/messages/received/1min",
    "messages retained": "$SYS/broker/retained messages/count",
    "messages dropped": "$SYS/broker/publish/messages/dropped",
}


async def probe_mqtt(
    url: str,
    login: Login,
    filters: Sequence[str],
    for_s: float,
    *,
    identifier: str,
    clock: Clock,
    profiles: Path | None,
    messages_max: int,
) -> tuple[Json, TwinError | None]:
    """Everything the command says, and what kept us from listening, None for nothing.

    Raises:
        UnreachableError: DEVICE_UNREACHABLE when nobody is there.
    """
    broker = Broker(url, login, identifier, clock)
    document: Json = {"url": url, "filters": list(filters)}
    problem: TwinError | None = None
    try:
        await broker.reach()
        async with broker.session() as connection:
            heard = await listen(connection, filters, for_s, clock, messages_max=messages_max)
        known = known_profiles("mqtt", profiles)
        document |= _heard(heard, clock)
        document["profiles"] = [m.document() for m in fitting(heard.topics, known)]
    except TwinError as told:
        problem = told
    return document | {"steps": broker.steps, "certificate": broker.certificate, "mqtt": broker.version}, problem


def _heard(heard: Heard, clock: Clock) -> Json:
    return {
        "listened_s": round(heard.listened_s, 1),
        "messages": heard.messages,
        "ended": heard.ended,
        "refused": heard.refused,
        "system": {key: heard.system[topic] for key, topic in SYSTEM.items() if topic in heard.system},
        "topics": heard.documents(clock.wall_ns()),
        "topics_left_out": heard.missed_topics,
        "sparkplug": sorted(nodes_of(heard.topics)),
    }
