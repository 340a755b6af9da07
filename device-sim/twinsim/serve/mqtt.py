"""MQTT publishers: one connection per pump, so that each has a Last Will of its own.

    plants/P-1/telemetry   QoS 1   {"t": ms, "n": 17, "flow": .., "head": .., "power": .., "speed": .., "running": true}
    plants/P-1/status      QoS 1, retained   "online" | "offline" (also the Last Will)

What counts as served: a telemetry message whose PUBACK the broker has sent. What was published but not acknowledged
when the connection broke is sent again after it is back (as duplicate, with its old time) and counts then. While a
pump has no connection it publishes nothing: the sample was never given out. A PUBACK of MQTT 5 that says "no matching
subscribers" means that nobody was given it, not even a session that is away; a broker of 3.1.1 cannot say so.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from paho.mqtt.enums import MQTTProtocolVersion

from twinmodel.clock import MILLISECOND_NS
from twinsim.device import Device
from twinsim.serve.broker import Brand
from twinsim.serve.mqtt_session import Session, address_of, online
from twinsim.served import ServedLog

ROOT = "plants"
CONNECT_TIMEOUT_S = 10.0
POINTS = ("flow", "head", "power", "speed", "running", "sample_no")


class Publisher(Session):
    """One pump on the broker."""

    def __init__(self, device: Device, log: ServedLog, address: tuple[str, int], version: MQTTProtocolVersion) -> None:
        super().__init__(device.name, address, version)
        self.device = device
        self._log = log
        self.will(self._topic("status"), "offline", retain=True)

    @property
    def silent(self) -> bool:
        """See `Session`."""
        return self.device.faults.silent

    def connected(self) -> None:
        """See `Session`."""
        self.send(self._topic("status"), "online", retain=True)

    def farewell(self) -> None:
        """See `Session`."""
        self.send(self._topic("status"), "offline", retain=True)

    def given_out(self, number: int, t_ns: int, points: tuple[str, ...]) -> None:
        """See `Session`."""
        self._log.add("mqtt", self.device.name, self.device.name, number, t_ns, points)

    def _topic(self, leaf: str) -> str:
        return f"{ROOT}/{self.device.name}/{leaf}"

    def publish(self) -> None:
        """Publishes the device's latest readings, unless it is silent or without connection."""
        if not self.ready:
            return
        device = self.device
        n = device.next_sample()
        running = not device.faults.refusing
        payload = {"t": device.t_ns // MILLISECOND_NS, "n": n, **device.reading, "running": running}
        text = json.dumps(payload, separators=(",", ":"))
        self.send(self._topic("telemetry"), text, count=(n, device.t_ns, POINTS))


def version_of(brand: Brand | None) -> MQTTProtocolVersion:
    """The version of MQTT to speak to a broker; one that somebody else runs is taken for a modern one."""
    return MQTTProtocolVersion.MQTTv311 if brand == "amqtt" else MQTTProtocolVersion.MQTTv5


@asynccontextmanager
async def serve_mqtt(
    devices: Sequence[Device], log: ServedLog, url: str, version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5
) -> AsyncIterator[Sequence[Publisher]]:
    """Connects all pumps to the broker at `url` (`mqtt://HOST:PORT`) and yields their publishers.

    Args:
        devices: the pumps.
        log: where what was given out is written.
        url: the broker's.
        version: of MQTT; 3.1.1 for a broker that knows no other.

    Raises:
        UnreachableError: DEVICE_UNREACHABLE when the broker does not take them within 10 s.
    """
    publishers = [Publisher(device, log, address_of(url), version) for device in devices]
    async with online(publishers, url, CONNECT_TIMEOUT_S):
        yield publishers
