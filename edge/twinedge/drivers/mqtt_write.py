"""Tells MQTT devices something by a publish.

The broker's acknowledgement says that the broker has it. Whether the device did it shows in what the device publishes
itself, if it does; a broker may also deliver a message of QoS 1 to the device more than once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import aiomqtt

from twinedge.drivers.decode import unscaled
from twinedge.drivers.link import DeviceLink
from twinedge.drivers.mqtt_wire import Connection
from twinedge.ports import BROKER_ONLY, Permit, Shown
from twinmodel.errors import ConflictError, DeniedError, UnreachableError
from twinmodel.profile.schema import Point, Publish, Scalar, kind_of
from twinmodel.profile.topics import expand_topic
from twinmodel.profile.writes import filled
from twinmodel.signal import Kind
from twinsync.command import Arguments, Value

REFUSED = 0x80
"""Reason codes from here on are refusals (MQTT 5, 2.4)."""


class Publisher:
    """The `Writer` of an MQTT driver.

    Args:
        links: its devices.
    """

    def __init__(self, links: Sequence[DeviceLink]) -> None:
        self._links: Mapping[str, DeviceLink] = {link.name: link for link in links}
        self._connection: Connection | None = None

    def attach(self, connection: Connection | None) -> None:
        """Speaks over this connection from now on; None while there is none."""
        self._connection = connection

    def step(self, device: str, point: str, value: Value) -> float:
        """See `Writer.step`: text carries numbers as they are; devices often keep them as float32."""
        if kind_of(self._point(device, point)) is not Kind.FLOAT or not isinstance(value, (int, float)):
            return 0.0
        return abs(float(value)) * 2.0**-23

    async def write(self, device: str, point: str, value: Value, about: Mapping[str, Value], permit: Permit) -> str:
        """See `Writer.write`."""
        said = self._point(device, point)
        publish = None if said.write is None else said.write.publish
        if publish is None:
            raise DeniedError("COMMAND_NOT_ALLOWED", f"{device}.{point} is not written by a publish")
        await self._send(device, publish, {**about, "value": _raw(said, value)}, permit)
        return "the broker"

    async def feed(self, device: str, point: str, beat: int, permit: Permit) -> None:
        """See `Writer.feed`: over a broker nothing is held."""
        del beat, permit
        raise DeniedError("COMMAND_NOT_ALLOWED", f"{device}.{point}: nothing is held over a broker")

    async def call(
        self, device: str, method: str, arguments: Sequence[Value], about: Mapping[str, Value], permit: Permit
    ) -> Arguments:
        """See `Writer.call`: an MQTT method gives nothing but what the broker says."""
        said = self._links[device].assignment.profile.methods.get(method)
        if said is None or said.publish is None:
            raise DeniedError("COMMAND_NOT_ALLOWED", f"{device} has no method {method} any more")
        await self._send(device, said.publish, {**about, **dict(zip(said.inputs, arguments, strict=True))}, permit)
        return BROKER_ONLY

    async def read(self, device: str, point: str) -> Shown | None:
        """See `Writer.read`: a device on a broker tells by itself."""
        del device, point
        return None

    async def _send(self, device: str, publish: Publish, known: Mapping[str, object], permit: Permit) -> None:
        link, connection = self._links[device], self._connection
        if connection is None:
            raise UnreachableError("DEVICE_UNREACHABLE", f"{device}: no connection to its broker")
        root = link.assignment.device.root
        topic = expand_topic(publish.topic, {"root": root, "device": device})
        payload = _payload(publish.payload, known)
        permit()
        try:
            code = await connection.publish(topic, payload, publish.qos, retain=publish.retain)
        except (aiomqtt.MqttError, OSError, ValueError) as silent:
            raise UnreachableError("COMMAND_UNANSWERED", f"{device}: {topic}: {silent}") from silent
        if code >= REFUSED:
            text = f"{device}: the broker refuses the message to {topic}: reason code 0x{code:02X}"
            raise ConflictError("COMMAND_REFUSED_BY_DEVICE", text, code=code)

    def _point(self, device: str, point: str) -> Point:
        found = self._links[device].assignment.profile.points.get(point)
        if found is None:
            raise DeniedError("COMMAND_NOT_ALLOWED", f"{device} has no point {point} any more")
        return found


def _raw(point: Point, value: Value) -> Value:
    """The value before scale and offset; whole for an integer type."""
    if isinstance(value, (bool, str)) or value is None or (point.scale is None and point.offset is None):
        return value
    assert not isinstance(point.scale, str), "scales by other points are for Modbus"
    raw = unscaled(value, point.scale, point.offset)
    return round(raw) if (point.as_ or "").startswith(("int", "uint")) else float(raw)


def _payload(payload: Scalar | Mapping[str, Scalar], known: Mapping[str, object]) -> bytes:
    if isinstance(payload, Mapping):
        return json.dumps({key: filled(text, known) for key, text in payload.items()}, ensure_ascii=False).encode()
    whole = filled(payload, known)
    return (whole if isinstance(whole, str) else json.dumps(whole)).encode()
